// Activations as the products with interleaved weights read them.
//
// Rounded to integers with a scale for each row and group: `planes` 2 keeps 16 bits, as a high and a low signed byte (256
// high + low), 1 keeps 8. For each group of columns: quads of 4 consecutive columns, of each its rows, of each its planes,
// 4 bytes each; then a scale for each row, then for each row its scale times the sum of its integers, so that the bias term
// fits the rounded product.
#pragma once

#include "../convert.h"
#include "../isa.h"

namespace imn::IMN_ISA {

template <int PLANES>
constexpr int kLargest = PLANES == 2 ? 127 * 256 + 127 : 127;
constexpr int kMaxGroup = 128;

// 32-bit words that one group of m rows takes.
template <int PLANES>
inline int64_t quantized_group_words(int m, int group) {
  return int64_t(group / 4) * m * PLANES + 2 * m;
}

template <int PLANES>
void quantize_rows(const float* x, int64_t ldx, int m, int k, int group, int32_t* out) {
  for (int g0 = 0; g0 < k; g0 += group, out += quantized_group_words<PLANES>(m, group)) {
    float* scales = (float*)(out + group / 4 * m * PLANES);
    for (int r = 0; r < m; ++r) {
      const float* row = x + r * ldx + g0;
      int32_t top = 0;  // the bits of the largest magnitude: ordered as the floats are, with NaN above infinity
      for (int i = 0; i < group; ++i) {
        const int32_t magnitude = bits_to<int32_t>(row[i]) & 0x7FFFFFFF;
        top = magnitude > top ? magnitude : top;
      }
      // Below kSmallestTop the inverse would be infinite; such groups get integers of fewer digits, as floats there have.
      // NaN or infinity in x must come out as such: through the scale.
      const bool finite = top < 0x7F800000;
      const float largest = finite ? max_(bits_to<float>(top), kSmallestTop) : 1.f;
      const VF inverse = vset1(finite ? kLargest<PLANES> / largest : 0.f), magic = vset1(12582912.f);
      int32_t values[kMaxGroup];
      for (int i = 0; i < group; i += L) vstore((float*)values + i, vfma(vload(row + i), inverse, magic));
      int8_t bytes[PLANES][kMaxGroup];
      int32_t sum = 0;
      for (int i = 0; i < group; ++i) {
        const int32_t v = values[i] - 0x4B400000;  // 12582912 + v has v in its lowest bits
        sum += v;
        bytes[PLANES - 1][i] = (int8_t)v;
        if constexpr (PLANES == 2) bytes[0][i] = (int8_t)((v + 128) >> 8);
      }
      const float scale = finite ? largest / kLargest<PLANES> : bits_to<float>(0x7FC00000);
      scales[r] = scale;
      scales[m + r] = scale * float(sum);
      for (int q = 0; q < group / 4; ++q) {
        for (int p = 0; p < PLANES; ++p) __builtin_memcpy(out + (q * m + r) * PLANES + p, bytes[p] + 4 * q, 4);
      }
    }
  }
}

}  // namespace imn::IMN_ISA
