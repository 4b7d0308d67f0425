// Packed weights as vectors: the walk over a matrix's words, its scales and its sums that all products share.
//
// A vector of words holds a block of L * (32 / bits) consecutive weights: lane l the word l, field i of that word the
// weight (32 / bits) * l + i.
#pragma once

#include "../convert.h"
#include "../for_rows.h"
#include "../isa.h"

namespace imn::IMN_ISA {

template <int BITS>
constexpr int kFields = 32 / BITS;
template <int BITS>
constexpr int kBlock = L * kFields<BITS>;

// Scales or biases of rows n0..n1 as float32, each row followed by zeros up to a whole vector.
inline void load_groups(float* dst, const void* src, int64_t n0, int64_t n1, int groups, DType dtype) {
  const int64_t size = dtype == DType::f32 ? 4 : 2, ld = up(groups, L);
  const char* at = (const char*)src + n0 * groups * size;
  if (ld == groups) return widen(dst, at, (n1 - n0) * groups, dtype);
  for (int64_t n = n0; n < n1; ++n, dst += ld, at += groups * size) {
    widen(dst, at, groups, dtype);
    for (int64_t g = groups; g < ld; ++g) dst[g] = 0.f;
  }
}

// The scale of each lane for one block. A block has SPB groups, or a group has 2^dup blocks.
template <int SPB>
inline VF block_scale(const float* s, int block, int dup) {
  if constexpr (SPB == 1) return vset1(s[block >> dup]);
  if constexpr (SPB == 2) return vset2(s + 2 * block);
  if constexpr (SPB == 4) return vset4(s + 4 * block);
}

inline int log2_(int n) {
  int r = 0;
  while ((1 << r) < n) ++r;
  return r;
}

// The words of NR rows, block by block: the whole blocks where they lie, then the one in which K ends, padded with zeros.
// body(block, words of row 0, words from one row to the next)
template <int NR, typename Body>
inline void each_block(const uint32_t* w, int words, const Body& body) {
  const int whole = words / L, blocks = (words + L - 1) / L;
  uint32_t tail[NR * L] = {};
  for (int r = 0; r < NR; ++r) {
    for (int l = 0; l < words - whole * L; ++l) tail[r * L + l] = w[(int64_t)r * words + whole * L + l];
  }
  for (int pass = 0; pass < 2; ++pass) {  // two passes over one loop, so that its body is compiled once
    const uint32_t* at = pass == 0 ? w : tail;
    const int64_t stride = pass == 0 ? words : L;
    for (int b = pass == 0 ? 0 : whole; b < (pass == 0 ? whole : blocks); ++b, at += L) body(b, at, stride);
  }
}

// Lane by lane: biases times the sums of x, the other half of the affine product.
template <int M, int NR>
inline void add_bias_terms(const float* biases, int64_t ldb, const float* sums, int groups, VF (&acc)[NR][M]) {
  const int64_t lds = up(groups, L);
  for (int g = 0; g < groups; g += L) {
    for (int r = 0; r < NR; ++r) {
      const VF b = vload(biases + r * ldb + g);
      for (int m = 0; m < M; ++m) acc[r][m] = vfma(b, vload(sums + m * lds + g), acc[r][m]);
    }
  }
}

// Rows n0..n1, some at a time: the tables of their scales and biases, then the rows, NR together and the rest singly:
// span(rows together as a type, first, last, scales, biases) returns the row it stopped at.
template <int NR, typename Span>
inline void all_rows(const Quantized& q, int n0, int n1, float* scale_tables, const Span& span) {
  constexpr int kSome = 24;  // the tables stay in the first cache; a multiple of every NR
  static_assert(kSome % NR == 0);
  const int groups = q.k / q.group;
  const int64_t ld = up(groups, L), row_bytes = (int64_t)groups * (q.dtype == DType::f32 ? 4 : 2);
  for (int from = n0; from < n1; from += kSome) {
    const int to = min_(from + kSome, n1), next = min_(to + kSome, n1);
    float* scales = scale_tables;
    float* biases = scale_tables + (to - from) * ld;
    load_groups(scales, q.scales, from, to, groups, q.dtype);
    load_groups(biases, q.biases, from, to, groups, q.dtype);
    for (int64_t at = to * row_bytes; at < next * row_bytes; at += 64) {
      prefetch((const char*)q.scales + at);
      prefetch((const char*)q.biases + at);
    }
    const int n = span(Int<NR>(), from, to, scales, biases);
    if constexpr (NR > 1) span(Int<1>(), n, to, scales + (n - from) * ld, biases + (n - from) * ld);
  }
}

}  // namespace imn::IMN_ISA
