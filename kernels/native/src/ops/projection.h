// What every projection does around its product: the norm before, the bias, activation and residual after, and how its
// work is cut into chunks.
#pragma once

#include <algorithm>

#include "../runtime/pool.h"
#include "operations.h"

namespace imn {

constexpr int64_t kGemvRows = 16;  // rows of x up to which weights are streamed (gemv) rather than dequantized (gemm)
// Sums from here on may take activations as 16-bit integers with a scale per block. The error of that is 2e-5 |x| |w| /
// sqrt(K) (a step of 1/32639 of a block's maximum, or less), the rounding error allowed to K float32 products is 1.2e-7
// sqrt(K) |x| |w|: from K = 175 on the first is the smaller one, and from here on by far. Shorter sums are not worth it.
constexpr int kLongSum = 1024;

// The rows of x, widened and normalized; *ld floats apart.
const float* prologue(const Matmul& op, int64_t* ld);

// Features n0..n1 of row `row` of the result, summed in y, to their place. `bias` belongs to n0.
void epilogue(const Matmul& op, int64_t features, float* y, const float* bias, int64_t row, int64_t n0, int64_t n1);

// The bias of features n0..n1 as float32, nullptr without one.
const float* load_bias(const Epilogue& e, int64_t n0, int64_t n1);

// A chunk of a large result: rows [r0, r1) by outputs [n0, n1). Its edges follow from the shape alone, so that what is
// computed in it does not depend on the number of threads.
struct Chunk {
  int64_t r0, r1, n0, n1;
};

// Cuts [rows, n] into chunks of at most 320 rows and 256 outputs, eight or more across where n allows, and runs
// fill(chunk, y, ldy), which sums the chunk's result at y, and the epilogue for each.
template <typename Fill>
void gemm(const Matmul& op, int64_t n, const Fill& fill) {
  constexpr int64_t kRows = 320;
  const int64_t width = std::clamp<int64_t>((n / 8 + 31) / 32 * 32, 64, 256), across = (n + width - 1) / width;
  const int64_t down = (op.rows + kRows - 1) / kRows, height = ((op.rows + down - 1) / down + 7) / 8 * 8;
  parallel_for(int(across * down), [&](int i) {
    const int64_t n0 = i / down * width, r0 = i % down * height;
    const Chunk chunk{r0, std::min(op.rows, r0 + height), n0, std::min(n, n0 + width)};
    const float* bias = load_bias(op.epilogue, chunk.n0, chunk.n1);
    const bool direct = op.out_dtype == DType::f32;
    float* y = direct ? static_cast<float*>(op.out) + r0 * n + n0 : scratch(kResult, height * width);
    const int64_t ldy = direct ? n : width;
    fill(chunk, y, ldy);
    for (int64_t r = chunk.r0; r < chunk.r1; ++r) epilogue(op, n, y + (r - r0) * ldy, bias, r, chunk.n0, chunk.n1);
  });
}

}  // namespace imn
