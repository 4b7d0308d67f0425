// Interleaved weights as the table of kernels offers them: the choice among templates.
#pragma once

#include "float_product.h"
#include "integer_product.h"
#include "order.h"

namespace imn::IMN_ISA {

inline int64_t arranged_size(int m, int k, int group, int width) {
  const int groups = k / group;
  if (width == 32) return groups * float_group_words(m, group);
  return groups * (width == 16 ? quantized_group_words<2>(m, group) : quantized_group_words<1>(m, group));
}

inline void arrange(const float* x, int64_t ldx, int m, const Interleaved& w, int width, float* out) {
  if (width == 16) return quantize_rows<2>(x, ldx, m, w.k, w.group, (int32_t*)out);
  if (width == 8) return quantize_rows<1>(x, ldx, m, w.k, w.group, (int32_t*)out);
  (w.bits == 4 ? arrange_rows<4> : arrange_rows<8>)(x, ldx, m, w.k, w.group, out);
}

inline void interleaved_product(const Interleaved& w, const float* x, int m, int width, int g0, int g1, int n0, int n1,
                                float* out, int64_t ldo) {
  const bool four = w.bits == 4;
  if (width == 32) return (four ? float_product<4> : float_product<8>)(w, x, m, g0, g1, n0, n1, out, ldo);
  const int32_t* q = (const int32_t*)x;
  if (width == 16) return (four ? integer_product<4, 2> : integer_product<8, 2>)(w, q, m, g0, g1, n0, n1, out, ldo);
  (four ? integer_product<4, 1> : integer_product<8, 1>)(w, q, m, g0, g1, n0, n1, out, ldo);
}

inline void interleaved_columns(const Interleaved& w, int g0, int g1, int n0, int n1, float* out, int64_t ld) {
  (w.bits == 4 ? columns_of<4> : columns_of<8>)(w, g0, g1, n0, n1, out, ld);
}

}  // namespace imn::IMN_ISA
