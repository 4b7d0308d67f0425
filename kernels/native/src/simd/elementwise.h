// The layer norm, the activation functions and the LSTM's cell, in float32.
#pragma once

#include "convert.h"
#include "isa.h"
#include "scalar_math.h"

namespace imn::IMN_ISA {

inline void layer_norm(float* row, int k, const float* weight, const float* bias, float eps) {
  const float mean = sum_of(row, k) / k;
  const VF minus = vset1(-mean);
  VF s = vzero();
  int i = 0;
  for (; i + L <= k; i += L) {
    const VF d = vadd(vload(row + i), minus);
    s = vfma(d, d, s);
  }
  float var = vsum(s);
  for (; i < k; ++i) var += (row[i] - mean) * (row[i] - mean);
  const float r = 1.f / __builtin_sqrtf(var / k + eps);
  for (i = 0; i < k; ++i) row[i] = (row[i] - mean) * r * weight[i] + bias[i];
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
