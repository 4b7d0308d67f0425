// The AVX-512 instructions that kernels/native uses, each as two AVX2 ones or as its definition in Intel's manual, so that
// the logic of the AVX-512 sets is tested where no processor has them. Included ahead of isa_table.cpp by test_isas.py.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#if defined(EMULATE_VNNI)
#define __AVX512VNNI__ 1
#endif

struct Emulated512 {
  __m256 low, high;
};
struct Emulated512i {
  __m256i low, high;
};

namespace emulated {

using F = Emulated512;
using I = Emulated512i;

// Compiled with -fno-strict-aliasing.
template <typename T>
T* at(I& a) {
  return reinterpret_cast<T*>(&a);
}
inline F castsi(I a) { return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)}; }
inline F castps128(__m128 a) { return {_mm256_castps128_ps256(a), _mm256_setzero_ps()}; }
inline F setzero_ps() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline I setzero_si() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline F set1_ps(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
inline I set1_epi32(int a) { return {_mm256_set1_epi32(a), _mm256_set1_epi32(a)}; }
inline I set1_epi16(short a) { return {_mm256_set1_epi16(a), _mm256_set1_epi16(a)}; }
inline I set1_epi8(char a) { return {_mm256_set1_epi8(a), _mm256_set1_epi8(a)}; }
template <typename... A>
I setr_epi32(A... a) {
  const int values[16] = {a...};
  I r;
  std::memcpy(&r, values, sizeof r);
  return r;
}
inline F loadu_ps(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void storeu_ps(float* p, F a) { _mm256_storeu_ps(p, a.low), _mm256_storeu_ps(p + 8, a.high); }
inline I loadu_si(const void* p) {
  return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)p + 1)};
}
inline F add_ps(F a, F b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline F mul_ps(F a, F b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline F fmadd_ps(F a, F b, F c) { return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)}; }
inline F cvtph_ps(__m256i a) {
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))};
}
inline __m256i cvtps_ph(F a) { return _mm256_set_m128i(_mm256_cvtps_ph(a.high, 0), _mm256_cvtps_ph(a.low, 0)); }
inline I cvtepu16_epi32(__m256i a) {
  return {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1))};
}
inline I cvtepu8_epi32(__m128i a) { return {_mm256_cvtepu8_epi32(a), _mm256_cvtepu8_epi32(_mm_srli_si128(a, 8))}; }
inline F cvtepi32_ps(I a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
inline I slli_epi32(I a, int n) { return {_mm256_slli_epi32(a.low, n), _mm256_slli_epi32(a.high, n)}; }
inline I srli_epi32(I a, int n) { return {_mm256_srli_epi32(a.low, n), _mm256_srli_epi32(a.high, n)}; }
inline I srli_epi16(I a, int n) { return {_mm256_srli_epi16(a.low, n), _mm256_srli_epi16(a.high, n)}; }
inline I srlv_epi32(I a, I n) { return {_mm256_srlv_epi32(a.low, n.low), _mm256_srlv_epi32(a.high, n.high)}; }
inline I and_si(I a, I b) { return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)}; }
inline I add_epi16(I a, I b) { return {_mm256_add_epi16(a.low, b.low), _mm256_add_epi16(a.high, b.high)}; }
inline I inserti64x4(I a, __m256i b, int half) { return half ? I{a.low, b} : I{b, a.high}; }
inline F insertf32x8(F a, __m256 b, int half) { return half ? F{a.low, b} : F{b, a.high}; }
inline F permutexvar_ps(I index, F a) {
  float from[16], to[16];
  storeu_ps(from, a);
  for (int l = 0; l < 16; ++l) to[l] = from[at<int>(index)[l] & 15];
  return loadu_ps(to);
}
inline int saturate16(int a) { return a > 32767 ? 32767 : (a < -32768 ? -32768 : a); }
inline I maddubs_epi16(I a, I b) {
  I r;
  for (int l = 0; l < 32; ++l) {
    at<int16_t>(r)[l] = int16_t(
        saturate16(at<uint8_t>(a)[2 * l] * at<int8_t>(b)[2 * l] + at<uint8_t>(a)[2 * l + 1] * at<int8_t>(b)[2 * l + 1]));
  }
  return r;
}
inline I madd_epi16(I a, I b) { return {_mm256_madd_epi16(a.low, b.low), _mm256_madd_epi16(a.high, b.high)}; }
inline I add_epi32(I a, I b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
inline I dpwssd_epi32(I sum, I a, I b) { return add_epi32(sum, madd_epi16(a, b)); }
inline I dpbusd_epi32(I sum, I a, I b) {
  for (int l = 0; l < 64; ++l) at<int32_t>(sum)[l / 4] += at<uint8_t>(a)[l] * at<int8_t>(b)[l];
  return sum;
}

}  // namespace emulated

#define __m512 Emulated512
#define __m512i Emulated512i
#define _mm512_castsi512_ps emulated::castsi
#define _mm512_castps128_ps512 emulated::castps128
#define _mm512_setzero_ps emulated::setzero_ps
#define _mm512_setzero_si512 emulated::setzero_si
#define _mm512_set1_ps emulated::set1_ps
#define _mm512_set1_epi32 emulated::set1_epi32
#define _mm512_set1_epi16 emulated::set1_epi16
#define _mm512_set1_epi8 emulated::set1_epi8
#undef _mm512_setr_epi32
#define _mm512_setr_epi32 emulated::setr_epi32
#define _mm512_loadu_ps emulated::loadu_ps
#define _mm512_storeu_ps emulated::storeu_ps
#define _mm512_loadu_si512 emulated::loadu_si
#define _mm512_add_ps emulated::add_ps
#define _mm512_mul_ps emulated::mul_ps
#define _mm512_fmadd_ps emulated::fmadd_ps
#define _mm512_castps512_ps256(a) ((a).low)
#define _mm512_extractf32x8_ps(a, half) ((half) ? (a).high : (a).low)
#define _mm512_cvtph_ps emulated::cvtph_ps
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(a, rounding) emulated::cvtps_ph(a)
#define _mm512_cvtepu16_epi32 emulated::cvtepu16_epi32
#define _mm512_cvtepu8_epi32 emulated::cvtepu8_epi32
#define _mm512_cvtepi32_ps emulated::cvtepi32_ps
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 emulated::slli_epi32
#undef _mm512_srli_epi32
#define _mm512_srli_epi32 emulated::srli_epi32
#undef _mm512_srli_epi16
#define _mm512_srli_epi16 emulated::srli_epi16
#define _mm512_srlv_epi32 emulated::srlv_epi32
#define _mm512_and_si512 emulated::and_si
#define _mm512_add_epi16 emulated::add_epi16
#undef _mm512_inserti64x4
#define _mm512_inserti64x4 emulated::inserti64x4
#undef _mm512_insertf32x8
#define _mm512_insertf32x8 emulated::insertf32x8
#define _mm512_permutexvar_ps emulated::permutexvar_ps
#define _mm512_maddubs_epi16 emulated::maddubs_epi16
#define _mm512_madd_epi16 emulated::madd_epi16
#define _mm512_dpbusd_epi32 emulated::dpbusd_epi32
#define _mm512_dpwssd_epi32 emulated::dpwssd_epi32
#define _mm512_add_epi32 emulated::add_epi32
