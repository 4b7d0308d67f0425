// The layer norm, the activation functions and the LSTM's cell, in float32.
#pragma once

#include "convert.h"
#include "isa.h"
#include "scalar_math.h"

namespace imn::IMN_ISA {

// The sum over a row of add(sum, vector) and of add_one(element), in four parts, so that no addition waits for another.
template <typename Add, typename AddOne>
inline float sum_in_parts(const float* row, int k, const Add& add, const AddOne& add_one) {
  VF part[4] = {vzero(), vzero(), vzero(), vzero()};
  int i = 0;
  for (; i + 4 * L <= k; i += 4 * L) {
    for (int p = 0; p < 4; ++p) part[p] = add(part[p], vload(row + i + p * L));
  }
  for (; i + L <= k; i += L) part[0] = add(part[0], vload(row + i));
  float sum = vsum(vadd(vadd(part[0], part[1]), vadd(part[2], part[3])));
  for (; i < k; ++i) sum += add_one(row[i]);
  return sum;
}

inline void layer_norm(float* row, int k, const float* weight, const float* bias, float eps) {
  const float mean = sum_in_parts(row, k, [](VF sum, VF x) { return vadd(sum, x); }, [](float x) { return x; }) / k;
  const VF minus = vset1(-mean);
  const auto square = [&](VF sum, VF x) {
    const VF d = vadd(x, minus);
    return vfma(d, d, sum);
  };
  const float var = sum_in_parts(row, k, square, [&](float x) { return (x - mean) * (x - mean); });
  const float r = 1.f / __builtin_sqrtf(var / k + eps);
  for (int i = 0; i < k; ++i) row[i] = (row[i] - mean) * r * weight[i] + bias[i];
}

inline void gelu(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = 0.5f * x[i] * (1.f + erf_(x[i] * 0.70710678f));
}
inline void elu(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float negative = expm1_(x[i]);
    x[i] = x[i] > 0.f ? x[i] : negative;
  }
}
inline float sigmoid(float x) { return 1.f / (1.f + exp_(-x)); }
// Odd, and accurate near 0 too: tanh(a) = -e / (e + 2) with e = expm1(-2a).
inline float tanh_(float x) {
  const float e = expm1_(-2.f * __builtin_fabsf(x));
  return __builtin_copysignf(-e / (e + 2.f), x);
}
inline void lstm_cell(const float* gates, int64_t stride, float* cell, float* hidden, int n) {
  for (int i = 0; i < n; ++i) {
    const float in = sigmoid(gates[i]), forget = sigmoid(gates[stride + i]);
    const float c = forget * cell[i] + in * tanh_(gates[2 * stride + i]);
    cell[i] = c;
    hidden[i] = sigmoid(gates[3 * stride + i]) * tanh_(c);
  }
}

}  // namespace imn::IMN_ISA
