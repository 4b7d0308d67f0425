// The product with packed weights, float32 throughout.
//
// Masking a field of the lower half of a word in place and converting gives weight * 2^(bits * i) exactly, in two
// instructions without a shift; the upper half takes one shift for all its fields. So x is arranged field by field and
// scaled by the inverse power of two, which is exact too.
#pragma once

#include "../convert.h"
#include "../for_rows.h"
#include "../isa.h"
#include "blocks.h"

namespace imn::IMN_ISA {

inline int64_t packed_size(int m, int k, int group, int bits) {
  const int block = bits == 4 ? kBlock<4> : kBlock<8>;
  return m * (up(k, block) + up(k / group, L));
}

template <int BITS>
void pack_as(const float* x, int64_t ldx, int m, int k, float* out) {
  constexpr int F = kFields<BITS>;
  for (int b = 0; b < up(k, kBlock<BITS>); b += kBlock<BITS>) {
    for (int i = 0; i < F; ++i) {
      const float factor = 1.f / float(1u << (BITS * (i % (F / 2))));
      for (int r = 0; r < m; ++r, out += L) {
        const float* row = x + r * ldx;
        for (int l = 0; l < L; ++l) {
          const int at = b + F * l + i;
          out[l] = at < k ? row[at] * factor : 0.f;
        }
      }
    }
  }
}

inline void pack(const float* x, int64_t ldx, int m, int k, int group, int bits, float* out) {
  const int groups = k / group, block = bits == 4 ? kBlock<4> : kBlock<8>;
  bits == 4 ? pack_as<4>(x, ldx, m, k, out) : pack_as<8>(x, ldx, m, k, out);
  float* sums = out + m * up(k, block);
  for (int r = 0; r < m; ++r) {
    for (int g = 0; g < up(groups, L); ++g) *sums++ = g < groups ? sum_of(x + r * ldx + g * group, group) : 0.f;
  }
}

// NR rows of the matrix by M rows of x.
//
// What limits this on two-FMA cores is latency and registers: every sum of a block is a chain of dependent FMAs, so there
// must be 8 or so chains in flight, and each value of x loaded should serve several rows of the matrix.
template <int BITS, int M, int NR, int SPB>
inline void product_rows(const Quantized& q, const float* xp, const float* scales, int64_t lds, int dup, int64_t row,
                         VF (&acc)[NR][M]) {
  constexpr int F = kFields<BITS>;
  const int words = q.k / F;
  const int64_t fetch = ahead((int64_t)NR * words * 4);
  each_block<NR>(q.w + row * words, words, [&](int b, const uint32_t* at, int64_t stride) {
    VI wv[NR];
    VF s[NR];
    for (int r = 0; r < NR; ++r) {
      wv[r] = wload(at + r * stride);
      prefetch((const char*)(at + r * stride) + fetch);
      s[r] = block_scale<SPB>(scales + r * lds, b, dup);
    }
    VF part[NR][M];
#pragma GCC unroll 8
    for (int i = 0; i < F; ++i) {
      if (i == F / 2) {
        for (int r = 0; r < NR; ++r) wv[r] = whigh(wv[r]);
      }
      VF c[NR];
      for (int r = 0; r < NR; ++r) {
        c[r] = wfield<BITS>(wv[r], i % (F / 2));
      }
      for (int m = 0; m < M; ++m) {
        const VF x = vload(xp + (i * M + m) * L);
        for (int r = 0; r < NR; ++r) {
          part[r][m] = i == 0 ? vmul(c[r], x) : vfma(c[r], x, part[r][m]);
        }
      }
    }
    // A block is summed unscaled and scaled once, for every M: scaling the weights first rounds differently.
    for (int r = 0; r < NR; ++r) {
      for (int m = 0; m < M; ++m) acc[r][m] = vfma(part[r][m], s[r], acc[r][m]);
    }
    xp += F * M * L;
  });
}

template <int BITS, int M, int NR, int SPB>
int product_span(const Quantized& q, const float* packed, const float* scales, const float* biases, int n, int n1,
                 float* out, int64_t ldo) {
  const int groups = q.k / q.group;
  const int64_t ld = up(groups, L);
  const int dup = q.group > kBlock<BITS> ? log2_(q.group / kBlock<BITS>) : 0;
  const float* sums = packed + M * up(q.k, kBlock<BITS>);
  for (const int n0 = n; n + NR <= n1; n += NR) {
    VF acc[NR][M];
    for (int r = 0; r < NR; ++r) {
      for (int m = 0; m < M; ++m) acc[r][m] = vzero();
    }
    product_rows<BITS, M, NR, SPB>(q, packed, scales + (n - n0) * ld, ld, dup, n, acc);
    add_bias_terms<M, NR>(biases + (n - n0) * ld, ld, sums, groups, acc);
    store_sums<M, NR>(acc, n, out, ldo);
  }
  return n;
}

template <int BITS, int M, int SPB>
void product_as(const Quantized& q, const float* packed, int n0, int n1, float* scale_tables, float* out, int64_t ldo) {
  // As many rows at once as leave the sums in 16 registers (M = 2: measured, 2 rows 5.4 ns a block, 3 rows 4.4, 4 rows 5.3).
  constexpr int NR = M == 1 ? 4 : (M == 2 ? 3 : 2);
  all_rows<NR>(q, n0, n1, scale_tables, [&](auto at_once, int from, int to, const float* scales, const float* biases) {
    return product_span<BITS, M, decltype(at_once)::value, SPB>(q, packed, scales, biases, from, to, out, ldo);
  });
}

template <int BITS, int M>
void product_groups(const Quantized& q, const float* packed, int n0, int n1, float* scale_tables, float* out, int64_t ldo) {
  const int per_block = kBlock<BITS> / q.group;
  if constexpr (kBlock<BITS> >= 128) {
    if (per_block == 4) return product_as<BITS, M, 4>(q, packed, n0, n1, scale_tables, out, ldo);
  }
  if constexpr (kBlock<BITS> >= 64) {
    if (per_block == 2) return product_as<BITS, M, 2>(q, packed, n0, n1, scale_tables, out, ldo);
  }
  product_as<BITS, M, 1>(q, packed, n0, n1, scale_tables, out, ldo);
}

template <int M>
void product_bits(const Quantized& q, const float* packed, int n0, int n1, float* scale_tables, float* out, int64_t ldo) {
  q.bits == 4 ? product_groups<4, M>(q, packed, n0, n1, scale_tables, out, ldo)
              : product_groups<8, M>(q, packed, n0, n1, scale_tables, out, ldo);
}

inline void product(const Quantized& q, const float* packed, int m, int n0, int n1, float* scale_tables, float* out,
                    int64_t ldo) {
  for_rows<kFloatRows>(m, [&](auto rows) { product_bits<rows.value>(q, packed, n0, n1, scale_tables, out, ldo); });
}

}  // namespace imn::IMN_ISA
