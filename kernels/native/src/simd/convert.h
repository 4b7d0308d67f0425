// Elements of any float type as vectors of floats, and what little every kernel needs besides.
#pragma once

#include "isa.h"
#include "scalar_math.h"

namespace imn::IMN_ISA {

template <typename T>
constexpr T min_(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
constexpr T max_(T a, T b) {
  return a > b ? a : b;
}
inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

template <DType D>
inline VF vload_as(const void* p, int64_t i) {
  if constexpr (D == DType::f32) return vload((const float*)p + i);
  if constexpr (D == DType::f16) return vload_f16((const uint16_t*)p + i);
  if constexpr (D == DType::bf16) return vload_bf16((const uint16_t*)p + i);
}
template <DType D>
inline float load_as(const void* p, int64_t i) {
  if constexpr (D == DType::f32) return ((const float*)p)[i];
  if constexpr (D == DType::f16) return from_half(((const uint16_t*)p)[i]);
  if constexpr (D == DType::bf16) return from_bfloat(((const uint16_t*)p)[i]);
}
template <DType D>
inline const void* offset(const void* p, int64_t i) {
  return (const char*)p + i * (D == DType::f32 ? 4 : 2);
}

template <DType D>
void widen_as(float* dst, const void* src, int64_t n) {
  int64_t i = 0;
  for (; i + L <= n; i += L) vstore(dst + i, vload_as<D>(src, i));
  for (; i < n; ++i) dst[i] = load_as<D>(src, i);
}
inline void widen(float* dst, const void* src, int64_t n, DType dtype) {
  if (dtype == DType::f32) return widen_as<DType::f32>(dst, src, n);
  if (dtype == DType::f16) return widen_as<DType::f16>(dst, src, n);
  widen_as<DType::bf16>(dst, src, n);
}
inline void narrow(void* dst, const float* src, int64_t n, DType dtype) {
  int64_t i = 0;
  if (dtype == DType::f32) {
    __builtin_memcpy(dst, src, n * 4);
  } else if (dtype == DType::f16) {
    for (; i + L <= n; i += L) vstore_f16((uint16_t*)dst + i, vload(src + i));
    for (; i < n; ++i) ((uint16_t*)dst)[i] = to_half(src[i]);
  } else {
    for (; i < n; ++i) ((uint16_t*)dst)[i] = to_bfloat(src[i]);
  }
}

inline float sum_of(const float* x, int64_t n) {
  VF s = vzero();
  int64_t i = 0;
  for (; i + L <= n; i += L) s = vadd(s, vload(x + i));
  float r = vsum(s);
  for (; i < n; ++i) r += x[i];
  return r;
}

// The smallest magnitude that stands for a whole block of integers: 32767 over it is still finite.
constexpr float kSmallestTop = 1e-34f;

// How far ahead of a group of rows to `prefetch` (into the L2 cache, which has more loads in flight than the first): whole
// groups, since the rows of one are read side by side, and about 8 KB or more. Measured on Zen 4, ms for the projections of
// a decode step: into the first cache 90 at 4 KB and 96 at 8; into the second 86 at 4 KB, 72 at 8, 77 at 16; none 125.
inline int64_t ahead(int64_t group_bytes) { return group_bytes * ((8191 + group_bytes) / group_bytes); }

// The sum of each vector of `acc` to its row of x and of the weights.
template <int M, int NR>
inline void store_sums(const VF (&acc)[NR][M], int64_t row, float* out, int64_t ldo) {
  constexpr int N = NR * M, N4 = N / 4 * 4;
  float sums[N];
  for (int i = 0; i < N4; i += 4) {
    vsum4(acc[i / M][i % M], acc[(i + 1) / M][(i + 1) % M], acc[(i + 2) / M][(i + 2) % M], acc[(i + 3) / M][(i + 3) % M],
          sums + i);
  }
  for (int i = N4; i < N; ++i) sums[i] = vsum(acc[i / M][i % M]);
  for (int i = 0; i < N; ++i) out[i % M * ldo + row + i / M] = sums[i];
}

}  // namespace imn::IMN_ISA
