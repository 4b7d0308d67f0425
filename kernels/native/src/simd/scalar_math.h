// Scalar conversions and functions written so that compilers vectorize loops over them (no branches, no libm).
#pragma once

#include <cstdint>

#include "isa_name.h"

namespace imn::IMN_ISA {

template <typename To, typename From>
inline To bits_to(From a) {
  static_assert(sizeof(To) == sizeof(From));
  To r;
  __builtin_memcpy(&r, &a, sizeof r);
  return r;
}

inline float from_bfloat(uint16_t h) { return bits_to<float>(uint32_t(h) << 16); }
inline uint16_t to_bfloat(float f) {
  const uint32_t u = bits_to<uint32_t>(f);
  if ((u & 0x7FFFFFFF) > 0x7F800000) return uint16_t((u >> 16) | 0x40);
  return uint16_t((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
}
inline float from_half(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, magnitude = h & 0x7FFF;
  if (magnitude >= 0x7C00) return bits_to<float>(sign | 0x7F800000 | ((magnitude & 0x3FF) << 13));
  // The exponent is moved by a multiplication, which also makes subnormals right.
  return bits_to<float>(sign | bits_to<uint32_t>(bits_to<float>(magnitude << 13) * bits_to<float>(uint32_t(239) << 23)));
}
inline uint16_t to_half(float f) {
  const uint32_t u = bits_to<uint32_t>(f);
  const uint32_t sign = (u >> 16) & 0x8000, magnitude = u & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return uint16_t(sign | 0x7E00);
  if (magnitude >= 0x477FF000) return uint16_t(sign | 0x7C00);
  if (magnitude < 0x38800000) {  // subnormal: adding 0.5 aligns the mantissa and rounds it
    return uint16_t(sign | (bits_to<uint32_t>(bits_to<float>(magnitude) + 0.5f) - 0x3F000000));
  }
  return uint16_t(sign | ((magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13));
}

// exp to about 1 ulp for x <= 0 and moderate x > 0 (Cephes' polynomial); 0 below -87.3, +inf above 88.7, NaN stays.
inline float exp_(float x) {
  const float low = -87.33654f, high = 88.72283f;
  const float y = x < low ? low : (x > high ? high : x);
  const float n = (y * 1.44269504f + 12582912.f) - 12582912.f;  // round to nearest
  const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r * r + r) + 1.f;
  // Two factors, so that 2^128 at the top needs no exponent of 255.
  const int i = int(n), half = i / 2;
  const float scaled = p * bits_to<float>((half + 127) << 23) * bits_to<float>((i - half + 127) << 23);
  return x < low ? 0.f : (x > high ? bits_to<float>(0x7F800000) : scaled);
}

// expm1 for x <= 0, relative error a few ulp: its Taylor series near 0, exp(x) - 1 elsewhere.
inline float expm1_(float x) {
  float p = 1.f / 5040;
  p = p * x + 1.f / 720;
  p = p * x + 1.f / 120;
  p = p * x + 1.f / 24;
  p = p * x + 1.f / 6;
  p = p * x + 0.5f;
  p = p * x * x + x;
  const float far = exp_(x) - 1.f;
  return x > -0.35f ? p : far;
}

// erf as a rational function on [-4, 4] (coefficients as in Eigen and XLA), absolute error about 1e-7.
inline float erf_(float a) {
  const float x = a < -4.f ? -4.f : (a > 4.f ? 4.f : a), s = x * x;
  float p = -2.72614225801306e-10f;
  p = p * s + 2.77068142495902e-08f;
  p = p * s + -2.10102402082508e-06f;
  p = p * s + -5.69250639462346e-05f;
  p = p * s + -7.34990630326855e-04f;
  p = p * s + -2.95459980854025e-03f;
  p = p * s + -1.60960333262415e-02f;
  float q = -1.45660718464996e-05f;
  q = q * s + -2.13374055278905e-04f;
  q = q * s + -1.68282697438203e-03f;
  q = q * s + -7.37332916720468e-03f;
  q = q * s + -1.42647390514189e-02f;
  return x * p / q;
}

}  // namespace imn::IMN_ISA
