// Products with interleaved weights, activations rounded to integers.
//
// Each lane sums one output, exactly in integers within a group and in the order of the groups as floats; so a result has
// the same bits whatever rows, outputs and threads it is computed with.
//
// The loops over tiles and groups are written out here and in float_product.h: between them lie the sums, which a compiler
// keeps in registers only as arrays of the same function.
#pragma once

#include "../for_rows.h"
#include "quantized_x.h"
#include "tile.h"

namespace imn::IMN_ISA {

// Few sums are bound by memory, where asking ahead only disturbs the processor's own prefetching (measured on Zen 4).
constexpr bool asks_ahead(int sums) { return sums >= 6; }
constexpr int kAheadBytes = 8192;

// Adds the products of RUNS (or, if that is 0, of `runs`) times 32 columns: sum[t][m][p] is of vector t, row m, plane p.
template <int BITS, int PLANES, int M, int T, int RUNS>
inline void add_integers(const uint8_t* codes, int runs, const int32_t* x, VS (&sum)[T][M][PLANES]) {
  constexpr bool kAhead = asks_ahead(PLANES * M);
  constexpr bool kSplit = BITS == 8 && !kByteCodes;  // codes of 8 bits as 16 upper + low
  constexpr int kLines = BITS == 4 ? 4 : 8;
  constexpr int kHalves = BITS == 4 || kSplit ? 2 : 1;
#pragma GCC unroll 2
  for (int run = 0; run < (RUNS ? RUNS : runs); ++run, codes += kLines * kLineBytes, x += 8 * M * PLANES) {
    DotSum part[kSplit ? 2 : 1][T][M][PLANES];
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int p = 0; p < PLANES; ++p) {
          part[0][t][m][p] = dot_begin(sum[t][m][p]);
          if constexpr (kSplit) part[1][t][m][p] = dot_zero();
        }
      }
    }
#pragma GCC unroll 8
    for (int j = 0; j < kLines; ++j) {
      VI v[T];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const uint8_t* at = codes + j * kLineBytes + t * 4 * L;
        v[t] = wload((const uint32_t*)at);
        if (kAhead && t * 4 * L % 64 == 0) prefetch(at + kAheadBytes);
      }
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        VI c[T];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) c[t] = kHalves == 1 ? v[t] : (h == 0 ? wlow(v[t]) : wupper(v[t]));
        const int32_t* quad = x + (BITS == 4 ? 2 * j + h : j) * M * PLANES;
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
          for (int p = 0; p < PLANES; ++p) {
            const VI xq = wset1(quad[m * PLANES + p]);
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) part[kSplit ? h : 0][t][m][p] = dot(part[kSplit ? h : 0][t][m][p], c[t], xq);
          }
        }
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int p = 0; p < PLANES; ++p) {
          sum[t][m][p] = dot_end(sum[t][m][p], part[0][t][m][p]);
          if constexpr (kSplit) sum[t][m][p] = sadd(sum[t][m][p], sshift<4>(dot_end(szero(), part[1][t][m][p])));
        }
      }
    }
  }
}

// M rows that `quantize_rows` arranged, by outputs n0..n1 and groups g0..g1; with g0 > 0 y is added to.
template <int BITS, int PLANES, int M, int RUNS>
void integer_rows(const Interleaved& w, const int32_t* x, int g0, int g1, int n0, int n1, float* y, int64_t ldy) {
  constexpr int T = kSideBySide<PLANES * M>;
  const int64_t words = quantized_group_words<PLANES>(M, w.group), code_bytes = w.code_bytes(),
                piece_bytes = w.piece_bytes();
  const int64_t biases = code_bytes + kTileOutputs * int64_t(size_of(w.dtype));
  const int runs = w.group / 32;
  for (int n = n0; n < n1; n += kTileOutputs) {
    const uint8_t* at = w.piece(n, g0);
    const int32_t* xg = x + g0 * words;
    const int count = min_(n1 - n, kTileOutputs);
    VF acc[kTileVectors][M];
    load_tile<M>(acc, g0 != 0, count, y + n, ldy);
    for (int g = g0; g < g1; ++g, at += piece_bytes, xg += words) {
      const float* scales = (const float*)(xg + w.group / 4 * M * PLANES);
      for (int v = 0; v < kTileVectors; v += T) {
        VS sum[T][M][PLANES];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
          for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
            for (int p = 0; p < PLANES; ++p) sum[t][m][p] = szero();
          }
        }
        add_integers<BITS, PLANES, M, T, RUNS>(at + v * 4 * L, runs, xg, sum);
        if (asks_ahead(PLANES * M) && v == 0) {
          for (int64_t i = code_bytes; i < piece_bytes; i += 64) prefetch(at + i + kAheadBytes);
        }
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          const VF s = group_vector(at + code_bytes, w.dtype, (v + t) * L);
          const VF b = group_vector(at + biases, w.dtype, (v + t) * L);
#pragma GCC unroll 4
          for (int m = 0; m < M; ++m) {
            VS whole = sum[t][m][PLANES - 1];
            if constexpr (PLANES == 2) whole = sadd(sshift<8>(sum[t][m][0]), whole);
            acc[v + t][m] = vfma(sfloat(whole), vmul(s, vset1(scales[m])), acc[v + t][m]);
            acc[v + t][m] = vfma(b, vset1(scales[M + m]), acc[v + t][m]);
          }
        }
      }
    }
    store_tile<M>(acc, count, y + n, ldy);
  }
}

// The same for m <= kInterleavedRows rows, arranged together.
template <int BITS, int PLANES>
void integer_product(const Interleaved& w, const int32_t* x, int m, int g0, int g1, int n0, int n1, float* y, int64_t ldy) {
  for_rows<kInterleavedRows>(m, [&](auto rows) {
    if (BITS == 4 && w.group == 64)
      integer_rows<BITS, PLANES, rows.value, 2>(w, x, g0, g1, n0, n1, y, ldy);
    else
      integer_rows<BITS, PLANES, rows.value, 0>(w, x, g0, g1, n0, n1, y, ldy);
  });
}

}  // namespace imn::IMN_ISA
