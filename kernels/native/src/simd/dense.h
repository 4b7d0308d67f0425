// The product with dense weights of any float type, for few rows.
#pragma once

#include "convert.h"
#include "for_rows.h"
#include "isa.h"

namespace imn::IMN_ISA {

template <DType D, int M, int NR>
int dense_span(const void* w, int64_t ldw, int k, const float* x, int64_t ldx, int n, int n1, float* out, int64_t ldo) {
  const int whole = k / L * L;
  const int64_t fetch = ahead(NR * (int64_t)k * (D == DType::f32 ? 4 : 2));
  for (; n + NR <= n1; n += NR) {
    VF acc[NR][M];
    for (int r = 0; r < NR; ++r) {
      for (int m = 0; m < M; ++m) acc[r][m] = vzero();
    }
    for (int i = 0; i < whole; i += L) {
      VF c[NR];
      for (int r = 0; r < NR; ++r) {
        c[r] = vload_as<D>(w, (n + r) * ldw + i);
        prefetch((const char*)offset<D>(w, (n + r) * ldw + i) + fetch);
      }
      for (int m = 0; m < M; ++m) {
        const VF xv = vload(x + m * ldx + i);
        for (int r = 0; r < NR; ++r) acc[r][m] = vfma(c[r], xv, acc[r][m]);
      }
    }
    if (whole < k) {
      for (int r = 0; r < NR; ++r) {
        float tail[L] = {};
        for (int i = whole; i < k; ++i) tail[i - whole] = load_as<D>(w, (n + r) * ldw + i);
        for (int m = 0; m < M; ++m) acc[r][m] = vfma(vload(tail), vload(x + m * ldx + whole), acc[r][m]);
      }
    }
    store_sums<M, NR>(acc, n, out, ldo);
  }
  return n;
}

template <DType D, int M>
void dense_rows(const void* w, int64_t ldw, int k, const float* x, int64_t ldx, int n0, int n1, float* out, int64_t ldo) {
  constexpr int NR = M <= 2 ? 4 : (M <= 5 ? 2 : 1);
  const int n = dense_span<D, M, NR>(w, ldw, k, x, ldx, n0, n1, out, ldo);
  if constexpr (NR > 1) dense_span<D, M, 1>(w, ldw, k, x, ldx, n, n1, out, ldo);
}

template <DType D>
void dense_as(const void* w, int64_t ldw, int k, const float* x, int64_t ldx, int m, int n0, int n1, float* out,
              int64_t ldo) {
  for_rows<kMaxRows>(m, [&](auto rows) { dense_rows<D, rows.value>(w, ldw, k, x, ldx, n0, n1, out, ldo); });
}
inline void dense(const void* w, int64_t ldw, DType dtype, int k, const float* x, int64_t ldx, int m, int n0, int n1,
                  float* out, int64_t ldo) {
  if (dtype == DType::f32) return dense_as<DType::f32>(w, ldw, k, x, ldx, m, n0, n1, out, ldo);
  if (dtype == DType::f16) return dense_as<DType::f16>(w, ldw, k, x, ldx, m, n0, n1, out, ldo);
  dense_as<DType::bf16>(w, ldw, k, x, ldx, m, n0, n1, out, ldo);
}

}  // namespace imn::IMN_ISA
