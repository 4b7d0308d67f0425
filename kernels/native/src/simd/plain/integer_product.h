// The product with packed weights, activations rounded to integers.
//
// x rounded to 16 or 8 bits, one scale for each block and row: sums of a block are exact, in int32, and are scaled as
// float32. Packed for m rows: per block and row the integers as `idot` reads them, then one scale per block and row, then
// the sums over groups of the *rounded* x, so that the bias term fits the rounded product.
#pragma once

#include "../convert.h"
#include "../for_rows.h"
#include "../isa.h"
#include "blocks.h"

namespace imn::IMN_ISA {

// The largest of them: made of two signed bytes where integers of 16 bits are kept so.
template <typename Int>
constexpr int kRange = sizeof(Int) == 1 ? 127
                       : kBytePlanes    ? 127 * 256 + 127
                                        : 32767;
template <typename Int>
constexpr int kQuantizedFloats = kBlock<4> * sizeof(Int) / 4;  // that a block takes

// A block's integers as `idot` reads them: those that meet the same field of a word side by side; of 16 bits perhaps as
// their high bytes, then their low ones.
template <typename Int>
inline void place_quantized_x(Int* quantized_x, const int32_t* values) {
  constexpr int B = kBlock<4>;
  if constexpr (kBytePlanes && sizeof(Int) == 2) {
    int8_t* bytes = (int8_t*)quantized_x;
    for (int p = 0; p < 2; ++p) {
      for (int i = 0; i < B / 2; ++i) {
        const int32_t v = values[2 * i + p];
        bytes[p * (B / 2) + i] = (int8_t)((v + 128) >> 8);
        bytes[B + p * (B / 2) + i] = (int8_t)v;
      }
    }
  } else {
    constexpr int P = sizeof(Int) == 1 ? 2 : 4;
    for (int p = 0; p < P; ++p) {
      for (int i = 0; i < B / P; ++i) quantized_x[p * (B / P) + i] = (Int)values[P * i + p];
    }
  }
}

inline int64_t packed_size_integer(int m, int k, int group, int width) {
  const int64_t blocks = up(k, kBlock<4>) / kBlock<4>;
  return m * (blocks * (kBlock<4> * (width / 8) / 4 + 1) + up(k / group, L));
}

template <typename Int>
void pack_quantized_x(const float* x, int64_t ldx, int m, int k, int group, float* packed) {
  constexpr int B = kBlock<4>;
  const int64_t blocks = up(k, B) / B, groups = k / group;
  Int* quantized_x = (Int*)packed;
  float* scales = packed + m * blocks * kQuantizedFloats<Int>;
  float* sums = scales + m * blocks;
  for (int64_t i = 0; i < m * up(groups, L); ++i) sums[i] = 0.f;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int r = 0; r < m; ++r, quantized_x += B) {
      const float* row = x + r * ldx + b * B;
      const int n = (int)min_<int64_t>(B, k - b * B);
      float top = 0.f;
      for (int i = 0; i < n; ++i) top = __builtin_fabsf(row[i]) > top ? __builtin_fabsf(row[i]) : top;
      // Below this the inverse would be infinite; such blocks get integers of fewer digits, as floats there have.
      if (top < kSmallestTop) top = kSmallestTop;
      const float inverse = kRange<Int> / top;
      // NaN or infinity in x must come out as such: through the scale.
      float total = 0.f;
      for (int i = 0; i < n; ++i) total += row[i] * 0.f;
      const float scale = top / kRange<Int> + total;
      scales[b * m + r] = scale;
      float rounded[B];
      for (int i = 0; i < B; ++i) rounded[i] = i < n ? (row[i] * inverse + 12582912.f) - 12582912.f : 0.f;
      int32_t values[B];
      for (int i = 0; i < B; ++i) values[i] = (int32_t)rounded[i];
      place_quantized_x(quantized_x, values);
      for (int i = 0; i < n; i += min_(group, B)) {
        sums[r * up(groups, L) + (b * B + i) / group] += scale * sum_of(rounded + i, min_(min_(group, B), n - i));
      }
    }
  }
}
inline void pack_integer(const float* x, int64_t ldx, int m, int k, int group, int width, float* packed) {
  width == 8 ? pack_quantized_x<int8_t>(x, ldx, m, k, group, packed)
             : pack_quantized_x<int16_t>(x, ldx, m, k, group, packed);
}

template <typename Int, int M, int NR, int SPB>
int product_integer_span(const Quantized& q, const float* packed, const float* scales, const float* biases, int n, int n1,
                         float* out, int64_t ldo) {
  constexpr int B = kBlock<4>;
  const int groups = q.k / q.group, words = q.k / 8, blocks = (words + L - 1) / L;
  const int64_t ld = up(groups, L);
  const int dup = q.group > B ? log2_(q.group / B) : 0;
  const int64_t fetch = ahead((int64_t)NR * words * 4);
  const float* xscales = packed + (int64_t)M * blocks * kQuantizedFloats<Int>;
  const float* sums = xscales + M * blocks;
  for (const int n0 = n; n + NR <= n1; n += NR) {
    VF acc[NR][M];
    for (int r = 0; r < NR; ++r) {
      for (int m = 0; m < M; ++m) acc[r][m] = vzero();
    }
    const Int* quantized_x = (const Int*)packed;
    const float* s = scales + (n - n0) * ld;
    each_block<NR>(q.w + (int64_t)n * words, words, [&](int b, const uint32_t* at, int64_t stride) {
      for (int r = 0; r < NR; ++r) {
        const VI wv = wload(at + r * stride);
        prefetch((const char*)(at + r * stride) + fetch);
        const VF sv = block_scale<SPB>(s + r * ld, b, dup);
        for (int m = 0; m < M; ++m) {
          acc[r][m] = vfma(idot(wv, quantized_x + m * B), vmul(sv, vset1(xscales[b * M + m])), acc[r][m]);
        }
      }
      quantized_x += M * B;
    });
    add_bias_terms<M, NR>(biases + (n - n0) * ld, ld, sums, groups, acc);
    store_sums<M, NR>(acc, n, out, ldo);
  }
  return n;
}

template <typename Int, int M, int SPB>
void product_integer_as(const Quantized& q, const float* packed, int n0, int n1, float* scale_tables, float* out,
                        int64_t ldo) {
  constexpr int NR = M <= 4 ? 2 : 1;
  all_rows<NR>(q, n0, n1, scale_tables, [&](auto at_once, int from, int to, const float* scales, const float* biases) {
    return product_integer_span<Int, M, decltype(at_once)::value, SPB>(q, packed, scales, biases, from, to, out, ldo);
  });
}

template <typename Int, int M>
void product_integer_groups(const Quantized& q, const float* packed, int n0, int n1, float* scale_tables, float* out,
                            int64_t ldo) {
  const int per_block = kBlock<4> / q.group;
  if constexpr (kBlock<4> >= 128) {
    if (per_block == 4) return product_integer_as<Int, M, 4>(q, packed, n0, n1, scale_tables, out, ldo);
  }
  if constexpr (kBlock<4> >= 64) {
    if (per_block == 2) return product_integer_as<Int, M, 2>(q, packed, n0, n1, scale_tables, out, ldo);
  }
  product_integer_as<Int, M, 1>(q, packed, n0, n1, scale_tables, out, ldo);
}

template <typename Int>
void product_quantized_x(const Quantized& q, const float* packed, int m, int n0, int n1, float* scale_tables, float* out,
                         int64_t ldo) {
  for_rows<kMaxRows>(m,
                     [&](auto rows) { product_integer_groups<Int, rows.value>(q, packed, n0, n1, scale_tables, out, ldo); });
}
inline void product_integer(const Quantized& q, const float* packed, int m, int n0, int n1, int width, float* scale_tables,
                            float* out, int64_t ldo) {
  (width == 8 ? product_quantized_x<int8_t> : product_quantized_x<int16_t>)(q, packed, m, n0, n1, scale_tables, out, ldo);
}

}  // namespace imn::IMN_ISA
