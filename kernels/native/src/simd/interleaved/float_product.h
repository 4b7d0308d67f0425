// Products with interleaved weights in float32 throughout, and the weights themselves as float32.
//
// Masking a field of the lower half of a word in place and converting gives weight * 2^(bits * i) exactly; the upper half
// takes one shift for all its fields. So x is arranged field by field and scaled by the inverse power of two, exactly too.
#pragma once

#include "../for_rows.h"
#include "tile.h"

namespace imn::IMN_ISA {

// Columns of one line of codes, and the column in it of field i of a word.
template <int BITS>
constexpr int kLineColumns = 32 / BITS;
template <int BITS>
constexpr int field_column(int i) {
  return BITS == 4 ? i % 2 * 4 + i / 2 : i;
}
template <int BITS>
constexpr float field_factor(int i) {
  return 1.f / float(1 << (BITS * (i % (kLineColumns<BITS> / 2))));
}

// For each group: for each line and field the m rows' values, then each row's sum.
inline int64_t float_group_words(int m, int group) { return int64_t(group) * m + m; }

template <int BITS>
void arrange_rows(const float* x, int64_t ldx, int m, int k, int group, float* out) {
  constexpr int F = kLineColumns<BITS>;
  for (int g0 = 0; g0 < k; g0 += group) {
    for (int line = g0; line < g0 + group; line += F) {
      for (int i = 0; i < F; ++i) {
        for (int r = 0; r < m; ++r) *out++ = x[r * ldx + line + field_column<BITS>(i)] * field_factor<BITS>(i);
      }
    }
    for (int r = 0; r < m; ++r) *out++ = sum_of(x + r * ldx + g0, group);
  }
}

// M rows that `arrange_rows` arranged, by outputs n0..n1 and groups g0..g1; with g0 > 0 y is added to.
template <int BITS, int M>
void float_rows(const Interleaved& w, const float* x, int g0, int g1, int n0, int n1, float* y, int64_t ldy) {
  constexpr int T = kSideBySide<M>, F = kLineColumns<BITS>;
  const int64_t words = float_group_words(M, w.group), code_bytes = w.code_bytes(), piece_bytes = w.piece_bytes();
  const int64_t biases = code_bytes + kTileOutputs * int64_t(size_of(w.dtype));
  for (int n = n0; n < n1; n += kTileOutputs) {
    const uint8_t* at = w.piece(n, g0);
    const float* xg = x + g0 * words;
    const int count = min_(n1 - n, kTileOutputs);
    VF acc[kTileVectors][M];
    load_tile<M>(acc, g0 != 0, count, y + n, ldy);
    for (int g = g0; g < g1; ++g, at += piece_bytes, xg += words) {
      for (int v = 0; v < kTileVectors; v += T) {
        VF part[T][M];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
          for (int m = 0; m < M; ++m) part[t][m] = vzero();
        }
        const float* xi = xg;
        const uint8_t* end = at + code_bytes + v * 4 * L;
        for (const uint8_t* line = at + v * 4 * L; line < end; line += kLineBytes) {
          VI words_of[T];
#pragma GCC unroll 4
          for (int t = 0; t < T; ++t) words_of[t] = wload((const uint32_t*)(line + t * 4 * L));
#pragma GCC unroll 8
          for (int i = 0; i < F; ++i, xi += M) {
            VF c[T];
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) {
              if (i == F / 2) words_of[t] = whigh(words_of[t]);
              c[t] = wfield<BITS>(words_of[t], i % (F / 2));
            }
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m) {
              const VF xv = vset1(xi[m]);
#pragma GCC unroll 4
              for (int t = 0; t < T; ++t) part[t][m] = vfma(c[t], xv, part[t][m]);
            }
          }
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          const VF s = group_vector(at + code_bytes, w.dtype, (v + t) * L);
          const VF b = group_vector(at + biases, w.dtype, (v + t) * L);
#pragma GCC unroll 4
          for (int m = 0; m < M; ++m) {
            acc[v + t][m] = vfma(part[t][m], s, acc[v + t][m]);
            acc[v + t][m] = vfma(b, vset1(xi[m]), acc[v + t][m]);
          }
        }
      }
    }
    store_tile<M>(acc, count, y + n, ldy);
  }
}

template <int BITS>
void float_product(const Interleaved& w, const float* x, int m, int g0, int g1, int n0, int n1, float* y, int64_t ldy) {
  for_rows<kInterleavedRows>(m, [&](auto rows) { float_rows<BITS, rows.value>(w, x, g0, g1, n0, n1, y, ldy); });
}

// Groups g0..g1 of outputs n0..n1 (n0 a multiple of kTileOutputs) as float32, column after column, ld floats apart; whole
// tiles are written.
template <int BITS>
void columns_of(const Interleaved& w, int g0, int g1, int n0, int n1, float* out, int64_t ld) {
  constexpr int F = kLineColumns<BITS>;
  const int64_t code_bytes = w.code_bytes(), biases = code_bytes + kTileOutputs * int64_t(size_of(w.dtype));
  for (int n = n0; n < n1; n += kTileOutputs) {
    for (int g = g0; g < g1; ++g) {
      const uint8_t* at = w.piece(n, g);
      for (int v = 0; v < kTileVectors; ++v) {
        const VF s = group_vector(at + code_bytes, w.dtype, v * L), b = group_vector(at + biases, w.dtype, v * L);
        VF scaled[F / 2];
        for (int i = 0; i < F / 2; ++i) scaled[i] = vmul(s, vset1(field_factor<BITS>(i)));
        float* to = out + int64_t(g - g0) * w.group * ld + (n - n0) + v * L;
        for (int line = 0; line < w.group / F; ++line, to += F * ld) {
          VI word = wload((const uint32_t*)(at + line * kLineBytes + v * 4 * L));
          for (int i = 0; i < F; ++i) {
            if (i == F / 2) word = whigh(word);
            vstore(to + field_column<BITS>(i) * ld, vfma(wfield<BITS>(word, i % (F / 2)), scaled[i % (F / 2)], b));
          }
        }
      }
    }
  }
}

}  // namespace imn::IMN_ISA
