// AVX-512 (F, BW, DQ, VL), with VNNI for integer activations where compiled for it: 16 floats. What each operation does
// stands in portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "../isa_name.h"

namespace imn::IMN_ISA {

constexpr int L = 16;
using VF = __m512;
using VI = __m512i;
using SpreadUnit4 = uint32_t;

inline VF vzero() { return _mm512_setzero_ps(); }
inline VF vset1(float a) { return _mm512_set1_ps(a); }
inline VF vload(const float* p) { return _mm512_loadu_ps(p); }
inline void vstore(float* p, VF a) { _mm512_storeu_ps(p, a); }
inline VF vadd(VF a, VF b) { return _mm512_add_ps(a, b); }
inline VF vmul(VF a, VF b) { return _mm512_mul_ps(a, b); }
inline VF vfma(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }

inline __m256 half_sum(VF a) { return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)); }
inline float vsum(VF a) {
  const __m256 half = half_sum(a), pairs = _mm256_hadd_ps(half, half), s = _mm256_hadd_ps(pairs, pairs);
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
inline void vsum4(VF a, VF b, VF c, VF d, float* out) {
  const __m256 ab = _mm256_hadd_ps(half_sum(a), half_sum(b)), cd = _mm256_hadd_ps(half_sum(c), half_sum(d));
  const __m256 s = _mm256_hadd_ps(ab, cd);
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}

inline VF vload_f16(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline VF vload_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
inline void vstore_f16(uint16_t* p, VF a) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(a, 0)); }

inline VI wload(const uint32_t* p) { return _mm512_loadu_si512(p); }
inline VI whigh(VI w) { return _mm512_srli_epi32(w, 16); }
template <int BITS>
inline VF wfield(VI w, int i) {
  return _mm512_cvtepi32_ps(_mm512_and_si512(w, _mm512_set1_epi32(((1 << BITS) - 1) << (BITS * i))));
}
// Two words of 4-bit fields, or four of 8-bit ones.
inline VF wspread4(const uint32_t* p) {
  VI w = _mm512_inserti64x4(_mm512_set1_epi32((int)p[0]), _mm256_set1_epi32((int)p[1]), 1);
  w = _mm512_srlv_epi32(w, _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28));
  return _mm512_cvtepi32_ps(_mm512_and_si512(w, _mm512_set1_epi32(15)));
}
inline VF wspread8(const uint32_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
inline VF vset2(const float* p) { return _mm512_insertf32x8(_mm512_set1_ps(p[0]), _mm256_set1_ps(p[1]), 1); }
inline VF vset4(const float* p) {
  const VI at = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return _mm512_permutexvar_ps(at, _mm512_castps128_ps512(_mm_loadu_ps(p)));
}

inline VF idot(VI w, const int8_t* x) {
  const VI mask = _mm512_set1_epi8(15);
  VI even = _mm512_and_si512(w, mask), odd = _mm512_and_si512(_mm512_srli_epi16(w, 4), mask);
  VI xe = _mm512_loadu_si512(x), xo = _mm512_loadu_si512(x + 64);
#if defined(__AVX512VNNI__)
  return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), even, xe), odd, xo));
#else
  VI sum = _mm512_add_epi16(_mm512_maddubs_epi16(even, xe), _mm512_maddubs_epi16(odd, xo));
  return _mm512_cvtepi32_ps(_mm512_madd_epi16(sum, _mm512_set1_epi16(1)));
#endif
}
#if defined(__AVX512VNNI__)
// Integers of 16 bits as 256 high + low, both of 8 bits with a sign: the weights are then unpacked to bytes, in three steps
// and not six, and as many dot products follow.
constexpr bool kBytePlanes = true;
inline VF idot(VI w, const int16_t* quantized_x) {
  const int8_t* x = (const int8_t*)quantized_x;
  const VI mask = _mm512_set1_epi8(15);
  const VI even = _mm512_and_si512(w, mask), odd = _mm512_and_si512(_mm512_srli_epi16(w, 4), mask);
  VI sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, _mm512_loadu_si512(x));
  sum = _mm512_slli_epi32(_mm512_dpbusd_epi32(sum, odd, _mm512_loadu_si512(x + 64)), 8);
  sum = _mm512_dpbusd_epi32(sum, even, _mm512_loadu_si512(x + 128));
  return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(sum, odd, _mm512_loadu_si512(x + 192)));
}
#else
constexpr bool kBytePlanes = false;
inline VF idot(VI w, const int16_t* x) {
  const VI mask = _mm512_set1_epi16(15);
  VI a = _mm512_and_si512(w, mask), b = _mm512_and_si512(_mm512_srli_epi16(w, 4), mask);
  VI c = _mm512_and_si512(_mm512_srli_epi16(w, 8), mask), d = _mm512_srli_epi16(w, 12);
  a = _mm512_add_epi32(_mm512_madd_epi16(a, _mm512_loadu_si512(x)), _mm512_madd_epi16(b, _mm512_loadu_si512(x + 32)));
  c = _mm512_add_epi32(_mm512_madd_epi16(c, _mm512_loadu_si512(x + 64)), _mm512_madd_epi16(d, _mm512_loadu_si512(x + 96)));
  return _mm512_cvtepi32_ps(_mm512_add_epi32(a, c));
}
#endif
constexpr bool kInt16Pays = true;
inline void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

constexpr int kVectorRegisters = 32;
using VS = __m512i;
inline VS szero() { return _mm512_setzero_si512(); }
inline VS sadd(VS a, VS b) { return _mm512_add_epi32(a, b); }
template <int BITS>
inline VS sshift(VS a) {
  return _mm512_slli_epi32(a, BITS);
}
inline VF sfloat(VS a) { return _mm512_cvtepi32_ps(a); }

inline VI wset1(int32_t bytes) { return _mm512_set1_epi32(bytes); }
inline VI wlow(VI w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
inline VI wupper(VI w) { return _mm512_and_si512(_mm512_srli_epi16(w, 4), _mm512_set1_epi8(15)); }

using DotSum = __m512i;
inline DotSum dot_zero() { return _mm512_setzero_si512(); }
#if defined(__AVX512VNNI__)
constexpr bool kByteCodes = true;
inline DotSum dot_begin(VS before) { return before; }
inline DotSum dot(DotSum sum, VI codes, VI x) { return _mm512_dpbusd_epi32(sum, codes, x); }
inline VS dot_end(VS, DotSum sum) { return sum; }
#else
// Sums of pairs in 16 bits: 8 times 2 * 15 * 128 fit.
constexpr bool kByteCodes = false;
inline DotSum dot_begin(VS) { return dot_zero(); }
inline DotSum dot(DotSum sum, VI codes, VI x) { return _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, x)); }
inline VS dot_end(VS before, DotSum sum) { return _mm512_add_epi32(before, _mm512_madd_epi16(sum, _mm512_set1_epi16(1))); }
#endif

}  // namespace imn::IMN_ISA
