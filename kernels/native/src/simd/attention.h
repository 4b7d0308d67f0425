// Attention of few queries, over keys and values as they lie in memory.
//
// A decode step reads every cached row once, so what counts is that memory never waits: whole cache lines are asked for
// while rows further up are worked on, across the end of the keys into the values, and so on (CachedRows::next).
#pragma once

#include "convert.h"
#include "isa.h"
#include "scalar_math.h"

namespace imn::IMN_ISA {

constexpr int kRowsAhead = 64;  // 8 KB of 64 half floats each

// Asks for the rows that lie kRowsAhead further on; beyond the end, for those of the next ones.
template <DType D>
class Ahead {
 public:
  Ahead(const CachedRows& rows, int d) : stride_(rows.stride * kSize), bytes_(d * kSize), own_(rows.count - kRowsAhead) {
    const char* data = (const char*)rows.data;
    here_ = data + kRowsAhead * stride_;
    beyond_ = rows.next == nullptr ? data : (const char*)rows.next - own_ * stride_;  // data: of no use, nor harm
  }
  // COUNT rows from that of row s on.
  template <int COUNT>
  void ask(int s) const {
    const char* row = (s < own_ ? here_ : beyond_) + s * stride_;
    for (int i = 0; i < COUNT; ++i, row += stride_) {
      for (int64_t at = 0; at < bytes_; at += 64) prefetch(row + at);
    }
  }

 private:
  static constexpr int kSize = D == DType::f32 ? 4 : 2;
  int64_t stride_, bytes_, own_;
  const char *here_, *beyond_;
};

// d as a constant where it is the usual one, so that the loops over it are unrolled.
template <typename F>
inline void with_head_dim(int d, const F& f) {
  if (d == 64) return f(64);
  f(d);
}

// Scores of up to 4 keys, s and those after it, by NQ queries; of fewer the last one is taken again in place of the rest.
template <DType D, int NQ>
inline __attribute__((always_inline)) void four_scores(const float* q, int64_t ldq, int d, const CachedRows& keys, int s,
                                                       int n, float (&four)[NQ][4]) {
  VF acc[NQ][4];
  int64_t at[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    at[j] = (s + min_(j, n - 1)) * keys.stride;
#pragma GCC unroll 2
    for (int h = 0; h < NQ; ++h) acc[h][j] = vzero();
  }
  const auto add = [&](int i, const auto& value) __attribute__((always_inline)) {
    VF qv[NQ];
#pragma GCC unroll 2
    for (int h = 0; h < NQ; ++h) qv[h] = vload(q + h * ldq + i);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const VF kv = value(at[j] + i);
#pragma GCC unroll 2
      for (int h = 0; h < NQ; ++h) acc[h][j] = vfma(kv, qv[h], acc[h][j]);
    }
  };
  const int whole = d / L * L;
#pragma GCC unroll 4
  for (int i = 0; i < whole; i += L) add(i, [&](int64_t from) { return vload_as<D>(keys.data, from); });
  if (whole < d) {
    add(whole, [&](int64_t from) {
      float tail[L] = {};
      for (int i = 0; whole + i < d; ++i) tail[i] = load_as<D>(keys.data, from + i);
      return vload(tail);
    });
  }
#pragma GCC unroll 2
  for (int h = 0; h < NQ; ++h) vsum4(acc[h][0], acc[h][1], acc[h][2], acc[h][3], four[h]);
}

template <DType D, int NQ>
inline __attribute__((always_inline)) void scores_rows(const float* q, int64_t ldq, int d, const CachedRows& keys,
                                                       float* out, int64_t lds) {
  const Ahead<D> ahead(keys, d);
  float four[NQ][4];
  int s = 0;
  for (; s + 4 <= keys.count; s += 4) {
    ahead.template ask<4>(s);
    four_scores<D, NQ>(q, ldq, d, keys, s, 4, four);
    for (int h = 0; h < NQ; ++h) __builtin_memcpy(out + h * lds + s, four[h], sizeof four[h]);
  }
  if (s == keys.count) return;
  four_scores<D, NQ>(q, ldq, d, keys, s, keys.count - s, four);
  for (int h = 0; h < NQ; ++h) {
    for (int j = 0; s + j < keys.count; ++j) out[h * lds + s + j] = four[h][j];
  }
}
template <DType D>
void scores_as(const float* q, int64_t ldq, int nq, int d, const CachedRows& keys, float* out, int64_t lds) {
  int i = 0;
  for (; i + 2 <= nq; i += 2) {
    with_head_dim(d, [&](int dim) __attribute__((always_inline)) {
      scores_rows<D, 2>(q + i * ldq, ldq, dim, keys, out + i * lds, lds);
    });
  }
  if (i == nq) return;
  with_head_dim(d, [&](int dim) __attribute__((always_inline)) {
    scores_rows<D, 1>(q + i * ldq, ldq, dim, keys, out + i * lds, lds);
  });
}
inline void scores(const float* q, int64_t ldq, int nq, int d, const CachedRows& keys, float* out, int64_t lds) {
  if (keys.dtype == DType::f32) return scores_as<DType::f32>(q, ldq, nq, d, keys, out, lds);
  if (keys.dtype == DType::f16) return scores_as<DType::f16>(q, ldq, nq, d, keys, out, lds);
  scores_as<DType::bf16>(q, ldq, nq, d, keys, out, lds);
}

// Whole vectors: 16 lanes of maxima and of sums, the last ones filled up with what adds nothing.
inline float softmax(float* row, int n) {
  constexpr int W = 16;
  const int whole = n / W * W;
  float last[W], top[W], sums[W] = {};
  for (int l = 0; l < W; ++l) last[l] = whole + l < n ? row[whole + l] : -__builtin_inff();
  for (int l = 0; l < W; ++l) top[l] = last[l];
  for (int i = 0; i < whole; i += W) {
    for (int l = 0; l < W; ++l) top[l] = row[i + l] > top[l] ? row[i + l] : top[l];
  }
  float most = top[0];
  for (int l = 1; l < W; ++l) most = top[l] > most ? top[l] : most;
  for (int i = 0; i < whole; i += W) {
    for (int l = 0; l < W; ++l) {
      row[i + l] = exp_(row[i + l] - most);
      sums[l] += row[i + l];
    }
  }
  for (int l = 0; l < W; ++l) last[l] = exp_(last[l] - most);
  for (int l = 0; whole + l < n; ++l) row[whole + l] = last[l], sums[l] += last[l];
  float sum = 0.f;
  for (int l = 0; l < W; ++l) sum += sums[l];
  return sum;
}

// NV vectors of the sums from d0 on, of NQ queries; each in CHAINS parts, so that additions need not wait for each other.
template <DType D, int NQ, int NV>
inline void weighted_slice(const float* p, int64_t ldp, const float* factors, const CachedRows& values, int d0, int d,
                           float* out, int64_t ldo) {
  constexpr int CHAINS = NQ == 1 ? 2 : 1;
  const Ahead<D> ahead(values, d);
  VF acc[CHAINS][NQ][NV];
  for (int c = 0; c < CHAINS; ++c) {
    for (int h = 0; h < NQ; ++h) {
      for (int v = 0; v < NV; ++v) acc[c][h][v] = vzero();
    }
  }
  const auto add = [&](int s, int c) __attribute__((always_inline)) {
    if (d0 == 0) ahead.template ask<1>(s);
    VF pv[NQ];
    for (int h = 0; h < NQ; ++h) pv[h] = vset1(p[h * ldp + s]);
    for (int v = 0; v < NV; ++v) {
      const VF value = vload_as<D>(values.data, s * values.stride + d0 + v * L);
      for (int h = 0; h < NQ; ++h) acc[c][h][v] = vfma(pv[h], value, acc[c][h][v]);
    }
  };
  int s = 0;
  for (; s + CHAINS <= values.count; s += CHAINS) {
    for (int c = 0; c < CHAINS; ++c) add(s + c, c);
  }
  for (; s < values.count; ++s) add(s, 0);
  for (int h = 0; h < NQ; ++h) {
    const VF f = vset1(factors[h]);
    for (int v = 0; v < NV; ++v) {
      float* at = out + h * ldo + d0 + v * L;
      VF sum = acc[0][h][v];
      if constexpr (CHAINS == 2) sum = vadd(sum, acc[1][h][v]);
      vstore(at, vfma(sum, f, vload(at)));
    }
  }
}
template <DType D, int NQ>
inline void weighted_rows(const float* p, int64_t ldp, const float* factors, const CachedRows& values, int d, float* out,
                          int64_t ldo) {
  constexpr int NV = 4;
  int i = 0;
  for (; i + NV * L <= d; i += NV * L) weighted_slice<D, NQ, NV>(p, ldp, factors, values, i, d, out, ldo);
  for (; i + L <= d; i += L) weighted_slice<D, NQ, 1>(p, ldp, factors, values, i, d, out, ldo);
  for (; i < d; ++i) {
    for (int h = 0; h < NQ; ++h) {
      float sum = 0.f;
      for (int s = 0; s < values.count; ++s) sum += p[h * ldp + s] * load_as<D>(values.data, s * values.stride + i);
      out[h * ldo + i] += factors[h] * sum;
    }
  }
}
template <DType D>
void weighted_as(const float* p, int64_t ldp, int nq, const float* factors, const CachedRows& values, int d, float* out,
                 int64_t ldo) {
  int i = 0;
  for (; i + 2 <= nq; i += 2) weighted_rows<D, 2>(p + i * ldp, ldp, factors + i, values, d, out + i * ldo, ldo);
  if (i < nq) weighted_rows<D, 1>(p + i * ldp, ldp, factors + i, values, d, out + i * ldo, ldo);
}
inline void weighted_sum(const float* p, int64_t ldp, int nq, const float* factors, const CachedRows& values, int d,
                         float* out, int64_t ldo) {
  if (values.dtype == DType::f32) return weighted_as<DType::f32>(p, ldp, nq, factors, values, d, out, ldo);
  if (values.dtype == DType::f16) return weighted_as<DType::f16>(p, ldp, nq, factors, values, d, out, ldo);
  weighted_as<DType::bf16>(p, ldp, nq, factors, values, d, out, ldo);
}

}  // namespace imn::IMN_ISA
