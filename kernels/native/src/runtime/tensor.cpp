#include "tensor.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace imn {

int64_t View::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < ndim; ++i) n *= shape[i];
  return n;
}

int64_t View::row_offset(int64_t row) const {
  int64_t at = 0;
  for (int i = ndim - 2; i >= 0; --i) {
    at += row % shape[i] * strides[i];
    row /= shape[i];
  }
  return at;
}

bool View::contiguous() const {
  int64_t expected = 1;
  for (int i = ndim - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

void load(float* dst, const View& v, int64_t offset, int64_t count, int64_t stride) {
  const IsaKernels& k = isa_kernels();
  if (stride == 1 || count == 1) return k.widen(dst, v.at(offset), count, v.dtype);
  if (v.dtype == DType::f32) {
    for (int64_t i = 0; i < count; ++i) dst[i] = static_cast<const float*>(v.data)[offset + i * stride];
    return;
  }
  uint16_t some[64];
  for (int64_t i = 0; i < count; i += 64) {
    const int64_t n = count - i < 64 ? count - i : 64;
    for (int64_t j = 0; j < n; ++j) some[j] = static_cast<const uint16_t*>(v.data)[offset + (i + j) * stride];
    k.widen(dst + i, some, n, v.dtype);
  }
}

void load_rows(float* dst, const View& v, int64_t r0, int64_t r1, int64_t ld) {
  const int64_t n = v.last();
  for (int64_t r = r0; r < r1; ++r, dst += ld) {
    load(dst, v, v.row_offset(r), n, v.strides[v.ndim - 1]);
    std::memset(dst + n, 0, size_t(ld - n) * 4);
  }
}

namespace {

struct Arena {
  float* buffers[kSlots] = {};
  int64_t sizes[kSlots] = {};
  ~Arena() {
    for (float* buffer : buffers) std::free(buffer);
  }
};
thread_local Arena arena;

}  // namespace

float* scratch(Slot slot, int64_t n) {
  if (arena.sizes[slot] < n) {
    std::free(arena.buffers[slot]);
    arena.sizes[slot] = 0;
    void* fresh = nullptr;
    // A little beyond the end, so that whole vectors may be read there.
    if (posix_memalign(&fresh, 64, size_t(n + kMaxLanes) * 4) != 0) throw std::bad_alloc();
    arena.buffers[slot] = static_cast<float*>(fresh);
    arena.sizes[slot] = n;
  }
  return arena.buffers[slot];
}

void trim_scratch() {
  constexpr int64_t kKeep = (16 << 20) / 4;
  for (int i = 0; i < kSlots; ++i) {
    if (arena.sizes[i] > kKeep) {
      std::free(arena.buffers[i]);
      arena.buffers[i] = nullptr;
      arena.sizes[i] = 0;
    }
  }
}

}  // namespace imn
