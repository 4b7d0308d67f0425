// Keys and values to their place in a cache, in the cache's dtype.
#include <algorithm>
#include <cstring>

#include "../runtime/pool.h"
#include "operations.h"

namespace imn {

void store(void* out, DType dtype, const View& from, int64_t offset, int64_t count, int64_t stride) {
  if (stride == 1 && from.dtype == dtype) {
    std::memcpy(out, from.at(offset), size_t(count) * size_of(dtype));
    return;
  }
  if (stride == 1 && from.dtype == DType::f32) {
    return isa_kernels().narrow(out, static_cast<const float*>(from.at(offset)), count, dtype);
  }
  float some[256];
  for (int64_t i = 0; i < count; i += 256) {
    const int64_t n = std::min<int64_t>(256, count - i);
    load(some, from, offset + i * stride, n, stride);
    isa_kernels().narrow(static_cast<char*>(out) + i * int64_t(size_of(dtype)), some, n, dtype);
  }
}

void copy_rows(const View& from, const View& to) {
  const int64_t rows = from.rows(), d = from.last();
  constexpr int64_t kAtOnce = 1024;  // some microseconds of work
  parallel_for(int((rows + kAtOnce - 1) / kAtOnce), [&](int chunk) {
    const int64_t end = std::min(rows, (chunk + 1) * kAtOnce);
    for (int64_t r = chunk * kAtOnce; r < end; ++r) {
      store(const_cast<void*>(to.at(to.row_offset(r))), to.dtype, from, from.row_offset(r), d, from.strides[from.ndim - 1]);
    }
  });
}

}  // namespace imn
