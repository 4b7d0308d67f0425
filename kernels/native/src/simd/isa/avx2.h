// AVX2 + FMA + F16C: 8 floats. What each operation does stands in portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "../isa_name.h"

namespace imn::IMN_ISA {

constexpr int L = 8;
using VF = __m256;
using VI = __m256i;
using SpreadUnit4 = uint32_t;

inline VF vzero() { return _mm256_setzero_ps(); }
inline VF vset1(float a) { return _mm256_set1_ps(a); }
inline VF vload(const float* p) { return _mm256_loadu_ps(p); }
inline void vstore(float* p, VF a) { _mm256_storeu_ps(p, a); }
inline VF vadd(VF a, VF b) { return _mm256_add_ps(a, b); }
inline VF vmul(VF a, VF b) { return _mm256_mul_ps(a, b); }
inline VF vfma(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }

inline float vsum(VF a) {
  const VF pairs = _mm256_hadd_ps(a, a), s = _mm256_hadd_ps(pairs, pairs);
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
inline void vsum4(VF a, VF b, VF c, VF d, float* out) {
  VF s = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}

inline VF vload_f16(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
inline VF vload_bf16(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline void vstore_f16(uint16_t* p, VF a) { _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(a, 0)); }

inline VI wload(const uint32_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline VI whigh(VI w) { return _mm256_srli_epi32(w, 16); }
template <int BITS>
inline VF wfield(VI w, int i) {
  return _mm256_cvtepi32_ps(_mm256_and_si256(w, _mm256_set1_epi32(((1 << BITS) - 1) << (BITS * i))));
}
// All fields of one word in order: 8 of 4 bits, or of two words: 8 of 8 bits.
inline VF wspread4(const uint32_t* p) {
  VI w = _mm256_srlv_epi32(_mm256_set1_epi32((int)*p), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
  return _mm256_cvtepi32_ps(_mm256_and_si256(w, _mm256_set1_epi32(15)));
}
inline VF wspread8(const uint32_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
inline VF vset2(const float* p) { return _mm256_insertf128_ps(_mm256_set1_ps(p[0]), _mm_set1_ps(p[1]), 1); }
inline VF vset4(const float* p) { return _mm256_setr_ps(p[0], p[0], p[1], p[1], p[2], p[2], p[3], p[3]); }

inline VF idot(VI w, const int8_t* x) {
  const VI mask = _mm256_set1_epi8(15);
  VI even = _mm256_maddubs_epi16(_mm256_and_si256(w, mask), _mm256_loadu_si256((const __m256i*)x));
  VI odd =
      _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 4), mask), _mm256_loadu_si256((const __m256i*)(x + 32)));
  return _mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_add_epi16(even, odd), _mm256_set1_epi16(1)));
}
inline VF idot(VI w, const int16_t* x) {
  const VI mask = _mm256_set1_epi16(15);
  const VI* at = (const VI*)x;
  VI a = _mm256_madd_epi16(_mm256_and_si256(w, mask), _mm256_loadu_si256(at));
  VI b = _mm256_madd_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 4), mask), _mm256_loadu_si256(at + 1));
  VI c = _mm256_madd_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 8), mask), _mm256_loadu_si256(at + 2));
  VI d = _mm256_madd_epi16(_mm256_srli_epi16(w, 12), _mm256_loadu_si256(at + 3));
  return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)));
}
constexpr bool kBytePlanes = false;
constexpr bool kInt16Pays = true;
inline void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

constexpr int kVectorRegisters = 16;
using VS = __m256i;
inline VS szero() { return _mm256_setzero_si256(); }
inline VS sadd(VS a, VS b) { return _mm256_add_epi32(a, b); }
template <int BITS>
inline VS sshift(VS a) {
  return _mm256_slli_epi32(a, BITS);
}
inline VF sfloat(VS a) { return _mm256_cvtepi32_ps(a); }

inline VI wset1(int32_t bytes) { return _mm256_set1_epi32(bytes); }
inline VI wlow(VI w) { return _mm256_and_si256(w, _mm256_set1_epi8(15)); }
inline VI wupper(VI w) { return _mm256_and_si256(_mm256_srli_epi16(w, 4), _mm256_set1_epi8(15)); }

// Makes a sum of integers a chain of additions in one register. GCC turns it into a tree whose products all wait on the
// stack, which takes 7 % longer (two rows of 16-bit activations, Zen 4).
inline void in_order(VI& sum) {
#if defined(__GNUC__)
  asm("" : "+x"(sum));
#endif
}

// Sums of pairs in 16 bits: 8 times 2 * 15 * 128 fit.
constexpr bool kByteCodes = false;
using DotSum = __m256i;
inline DotSum dot_zero() { return _mm256_setzero_si256(); }
inline DotSum dot_begin(VS) { return dot_zero(); }
inline DotSum dot(DotSum sum, VI codes, VI x) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x));
  in_order(sum);
  return sum;
}
inline VS dot_end(VS before, DotSum sum) { return _mm256_add_epi32(before, _mm256_madd_epi16(sum, _mm256_set1_epi16(1))); }

}  // namespace imn::IMN_ISA
