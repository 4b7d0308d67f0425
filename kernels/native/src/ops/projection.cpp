#include "projection.h"

namespace imn {

const float* prologue(const Matmul& op, int64_t* ld) {
  const int64_t k = op.x.last();
  if (!op.norm.weight && op.x.dtype == DType::f32 && op.x.ndim > 0 && op.x.contiguous() && k % kMaxLanes == 0) {
    *ld = k;
    return static_cast<const float*>(op.x.data);
  }
  *ld = padded(k);
  float* x = scratch(kInput, op.rows * *ld);
  float* const widened = scratch(kNorm, 2 * padded(k));
  // A vector of the norm, where it lies if it can be read there.
  const auto vector = [&](const View& v, float* room) -> const float* {
    if (!v) return nullptr;
    if (v.dtype == DType::f32 && v.contiguous()) return static_cast<const float*>(v.data);
    load(room, v, 0, k, v.strides[0]);
    return room;
  };
  const float *weight = vector(op.norm.weight, widened), *bias = vector(op.norm.bias, widened + padded(k));
  const int64_t step = op.rows <= 16 ? 2 : 8;
  parallel_for(int((op.rows + step - 1) / step), [&, ld = *ld](int chunk) {
    const int64_t r0 = chunk * step, r1 = std::min(op.rows, r0 + step);
    load_rows(x + r0 * ld, op.x, r0, r1, ld);
    if (!op.norm.weight) return;
    for (int64_t r = r0; r < r1; ++r) isa_kernels().layer_norm(x + r * ld, int(k), weight, bias, op.norm.eps);
  });
  return x;
}

void epilogue(const Matmul& op, int64_t features, float* y, const float* bias, int64_t row, int64_t n0, int64_t n1) {
  const IsaKernels& k = isa_kernels();
  const int64_t n = n1 - n0;
  if (bias != nullptr) {
    for (int64_t i = 0; i < n; ++i) y[i] += bias[i];
  }
  if (op.epilogue.gelu) k.gelu(y, n);
  if (const View& r = op.epilogue.residual; r) {
    const int64_t stride = r.strides[r.ndim - 1], at = r.row_offset(row) + n0 * stride;
    float some[256];
    for (int64_t i = 0; i < n; i += 256) {
      const int64_t count = std::min<int64_t>(256, n - i);
      load(some, r, at + i * stride, count, stride);
      for (int64_t j = 0; j < count; ++j) y[i + j] += some[j];
    }
  }
  char* out = static_cast<char*>(op.out) + (row * features + n0) * int64_t(size_of(op.out_dtype));
  if (static_cast<void*>(out) != y) k.narrow(out, y, n, op.out_dtype);
}

const float* load_bias(const Epilogue& e, int64_t n0, int64_t n1) {
  if (!e.bias) return nullptr;
  float* bias = scratch(kVector, n1 - n0);
  load(bias, e.bias, n0 * e.bias.strides[0], n1 - n0, e.bias.strides[0]);
  return bias;
}

}  // namespace imn
