// Attention of few queries, over keys and values as they lie in memory.
#pragma once

#include "convert.h"
#include "isa.h"
#include "scalar_math.h"

namespace imn::IMN_ISA {

// The row of keys or values that lies about `ahead` bytes further on than the one at `at`.
template <DType D>
inline void prefetch_row(const void* rows, int64_t at, int64_t stride, int d) {
  constexpr int kSize = D == DType::f32 ? 4 : 2;
  if (stride <= 0) return;
  const char* row = (const char*)offset<D>(rows, at) + ahead(stride * kSize);
  for (int i = 0; i < d * kSize; i += 64) prefetch(row + i);
}

template <DType D, int NQ>
void scores_rows(const float* q, int64_t ldq, int d, const void* keys, int64_t stride, int count, float* out, int64_t lds) {
  constexpr int NS = 4;
  const int whole = d / L * L;
  for (int s = 0; s < count; s += NS) {
    const int n = min_(NS, count - s);
    VF acc[NQ][NS];
    for (int i = 0; i < NQ; ++i) {
      for (int j = 0; j < NS; ++j) acc[i][j] = vzero();
    }
    int64_t at[NS];
    for (int j = 0; j < NS; ++j) {
      at[j] = (s + min_(j, n - 1)) * stride;
      prefetch_row<D>(keys, at[j], stride, d);
    }
    for (int i = 0; i < whole; i += L) {
      VF qv[NQ];
      for (int h = 0; h < NQ; ++h) qv[h] = vload(q + h * ldq + i);
      for (int j = 0; j < NS; ++j) {
        const VF kv = vload_as<D>(keys, at[j] + i);
        for (int h = 0; h < NQ; ++h) acc[h][j] = vfma(kv, qv[h], acc[h][j]);
      }
    }
    if (whole < d) {
      for (int j = 0; j < NS; ++j) {
        float tail[L] = {};
        for (int i = whole; i < d; ++i) tail[i - whole] = load_as<D>(keys, at[j] + i);
        for (int h = 0; h < NQ; ++h) acc[h][j] = vfma(vload(tail), vload(q + h * ldq + whole), acc[h][j]);
      }
    }
    for (int h = 0; h < NQ; ++h) {
      float four[NS];
      vsum4(acc[h][0], acc[h][1], acc[h][2], acc[h][3], four);
      for (int j = 0; j < n; ++j) out[h * lds + s + j] = four[j];
    }
  }
}
template <DType D>
void scores_as(const float* q, int64_t ldq, int nq, int d, const void* keys, int64_t stride, int count, float* out,
               int64_t lds) {
  int i = 0;
  for (; i + 2 <= nq; i += 2) scores_rows<D, 2>(q + i * ldq, ldq, d, keys, stride, count, out + i * lds, lds);
  if (i < nq) scores_rows<D, 1>(q + i * ldq, ldq, d, keys, stride, count, out + i * lds, lds);
}
inline void scores(const float* q, int64_t ldq, int nq, int d, const void* keys, int64_t stride, DType dtype, int count,
                   float* out, int64_t lds) {
  if (dtype == DType::f32) return scores_as<DType::f32>(q, ldq, nq, d, keys, stride, count, out, lds);
  if (dtype == DType::f16) return scores_as<DType::f16>(q, ldq, nq, d, keys, stride, count, out, lds);
  scores_as<DType::bf16>(q, ldq, nq, d, keys, stride, count, out, lds);
}

inline float softmax(float* row, int n) {
  float top = row[0];
  for (int i = 1; i < n; ++i) top = row[i] > top ? row[i] : top;
  for (int i = 0; i < n; ++i) row[i] = exp_(row[i] - top);
  return sum_of(row, n);
}

template <DType D, int NQ, int NV>
void weighted_slice(const float* p, int64_t ldp, const float* factors, const void* values, int64_t stride, int count, int d0,
                    int d, float* out, int64_t ldo) {
  VF acc[NQ][NV];
  for (int h = 0; h < NQ; ++h) {
    for (int v = 0; v < NV; ++v) acc[h][v] = vzero();
  }
  for (int s = 0; s < count; ++s) {
    if (d0 == 0) prefetch_row<D>(values, s * stride, stride, d);
    VF pv[NQ];
    for (int h = 0; h < NQ; ++h) pv[h] = vset1(p[h * ldp + s]);
    for (int v = 0; v < NV; ++v) {
      const VF value = vload_as<D>(values, s * stride + d0 + v * L);
      for (int h = 0; h < NQ; ++h) acc[h][v] = vfma(pv[h], value, acc[h][v]);
    }
  }
  for (int h = 0; h < NQ; ++h) {
    const VF f = vset1(factors[h]);
    for (int v = 0; v < NV; ++v) {
      float* at = out + h * ldo + d0 + v * L;
      vstore(at, vfma(acc[h][v], f, vload(at)));
    }
  }
}
template <DType D, int NQ>
void weighted_rows(const float* p, int64_t ldp, const float* factors, const void* values, int64_t stride, int count, int d,
                   float* out, int64_t ldo) {
  constexpr int NV = NQ == 1 ? 8 : 4;
  int i = 0;
  for (; i + NV * L <= d; i += NV * L) {
    weighted_slice<D, NQ, NV>(p, ldp, factors, values, stride, count, i, d, out, ldo);
  }
  for (; i + L <= d; i += L) weighted_slice<D, NQ, 1>(p, ldp, factors, values, stride, count, i, d, out, ldo);
  for (; i < d; ++i) {
    for (int h = 0; h < NQ; ++h) {
      float sum = 0.f;
      for (int s = 0; s < count; ++s) sum += p[h * ldp + s] * load_as<D>(values, s * stride + i);
      out[h * ldo + i] += factors[h] * sum;
    }
  }
}
template <DType D>
void weighted_as(const float* p, int64_t ldp, int nq, const float* factors, const void* values, int64_t stride, int count,
                 int d, float* out, int64_t ldo) {
  int i = 0;
  for (; i + 2 <= nq; i += 2) {
    weighted_rows<D, 2>(p + i * ldp, ldp, factors + i, values, stride, count, d, out + i * ldo, ldo);
  }
  if (i < nq) weighted_rows<D, 1>(p + i * ldp, ldp, factors + i, values, stride, count, d, out + i * ldo, ldo);
}
inline void weighted_sum(const float* p, int64_t ldp, int nq, const float* factors, const void* values, int64_t stride,
                         DType dtype, int count, int d, float* out, int64_t ldo) {
  if (dtype == DType::f32) return weighted_as<DType::f32>(p, ldp, nq, factors, values, stride, count, d, out, ldo);
  if (dtype == DType::f16) return weighted_as<DType::f16>(p, ldp, nq, factors, values, stride, count, d, out, ldo);
  weighted_as<DType::bf16>(p, ldp, nq, factors, values, stride, count, d, out, ldo);
}

}  // namespace imn::IMN_ISA
