// Packed weights as float32 rows, for products of many rows.
#pragma once

#include "../convert.h"
#include "../isa.h"
#include "blocks.h"

namespace imn::IMN_ISA {

template <int BITS>
void dequantize_as(const Quantized& q, int n0, int n1, int k0, int k1, float* out, int64_t ld) {
  constexpr int kSome = 64;  // groups whose scales are widened at once
  const int groups = q.k / q.group;
  float scales[kSome], biases[kSome];
  const int64_t size = q.dtype == DType::f32 ? 4 : 2;
  for (int n = n0; n < n1; ++n, out += ld) {
    const char* w = (const char*)(q.w + (int64_t)n * (q.k / kFields<BITS>));
    for (int g0 = k0 / q.group; g0 < k1 / q.group; g0 += kSome) {
      const int some = min_(kSome, k1 / q.group - g0);
      widen(scales, (const char*)q.scales + ((int64_t)n * groups + g0) * size, some, q.dtype);
      widen(biases, (const char*)q.biases + ((int64_t)n * groups + g0) * size, some, q.dtype);
      for (int g = 0; g < some; ++g) {
        const VF s = vset1(scales[g]), b = vset1(biases[g]);
        for (int k = (g0 + g) * q.group; k < (g0 + g + 1) * q.group; k += L) {
          const char* at = w + (int64_t)k * BITS / 8;
          const VF fields = BITS == 4 ? wspread4((const SpreadUnit4*)at) : wspread8((const uint32_t*)at);
          vstore(out + k - k0, vfma(fields, s, b));
        }
      }
    }
  }
}
inline void dequantize(const Quantized& q, int n0, int n1, int k0, int k1, float* out, int64_t ld) {
  (q.bits == 4 ? dequantize_as<4> : dequantize_as<8>)(q, n0, n1, k0, k1, out, ld);
}

}  // namespace imn::IMN_ISA
