// The vector interface, in plain C++ with the vector types that GCC and Clang have for every processor. This file is the
// specification of what the others in this folder implement; it also serves processors without a file of their own, and
// checks the others.
//
// Naming: v... works on vectors of floats (VF), w... on vectors of packed weights (VI), i... on integers.
#pragma once

#include <cstdint>

#include "../isa_name.h"
#include "../scalar_math.h"

namespace imn::IMN_ISA {

constexpr int L = 4;                                   // lanes: floats in a vector, 32-bit words in a VI
typedef float VF __attribute__((vector_size(16)));     // L floats
typedef uint32_t VI __attribute__((vector_size(16)));  // L words
typedef int32_t VS __attribute__((vector_size(16)));   // (of this file alone)
using SpreadUnit4 = uint16_t;                          // what L weights of 4 bits are read from: see wspread4

// ---- floats ----------------------------------------------------------------------------------------------------------

// All lanes the same, or 0. Loads and stores need no alignment.
inline VF vset1(float a) { return VF{a, a, a, a}; }
inline VF vzero() { return vset1(0); }
inline VF vload(const float* p) {
  VF a;
  __builtin_memcpy(&a, p, sizeof a);
  return a;
}
inline void vstore(float* p, VF a) { __builtin_memcpy(p, &a, sizeof a); }

// a + b, a * b and a * b + c in each lane; vfma rounds once where the processor can.
inline VF vadd(VF a, VF b) { return a + b; }
inline VF vmul(VF a, VF b) { return a * b; }
inline VF vfma(VF a, VF b, VF c) { return a * b + c; }

// The sum over the lanes; vsum4: of four vectors, to out[0..3], added in the same order. Each set has an order of its own.
inline float vsum(VF a) { return (a[0] + a[2]) + (a[1] + a[3]); }
inline void vsum4(VF a, VF b, VF c, VF d, float* out) {
  out[0] = vsum(a), out[1] = vsum(b), out[2] = vsum(c), out[3] = vsum(d);
}

// L half floats or bfloats as floats (exact), and L floats as half floats (to nearest, ties to even).
inline VF vload_f16(const uint16_t* p) { return VF{from_half(p[0]), from_half(p[1]), from_half(p[2]), from_half(p[3])}; }
inline VF vload_bf16(const uint16_t* p) {
  return VF{from_bfloat(p[0]), from_bfloat(p[1]), from_bfloat(p[2]), from_bfloat(p[3])};
}
inline void vstore_f16(uint16_t* p, VF a) {
  for (int l = 0; l < L; ++l) p[l] = to_half(a[l]);
}

// p[0] in the first half of the lanes, p[1] in the second; or p[0..3] in the four quarters.
inline VF vset2(const float* p) { return VF{p[0], p[0], p[1], p[1]}; }
inline VF vset4(const float* p) { return vload(p); }

// ---- packed weights: words of 32 bits, fields from the lowest bits up -------------------------------------------------

// L words from memory; the upper half of each word moved to the lower, 0 above it.
inline VI wload(const uint32_t* p) {
  VI w;
  __builtin_memcpy(&w, p, sizeof w);
  return w;
}
inline VI whigh(VI w) { return w >> 16; }

// (This file alone.) Only called with values below 2^31, where the signed conversion, which processors have, is right.
inline VF to_float(VI w) { return __builtin_convertvector((VS)w, VF); }

// Field i (of BITS bits, in the lower half) of each word, times 2^(BITS * i): masked where it stands, not shifted.
template <int BITS>
inline VF wfield(VI w, int i) {
  return to_float(w & (((1u << BITS) - 1) << (BITS * i)));
}

// L consecutive fields of 4 bits from one or more SpreadUnit4 (uint16_t where L = 4, else uint32_t), or of 8 bits from
// words, one in each lane.
inline VF wspread4(const SpreadUnit4* p) { return to_float((VI{*p, *p, *p, *p} >> VI{0, 4, 8, 12}) & 15u); }
inline VF wspread8(const uint32_t* p) { return to_float((VI{*p, *p, *p, *p} >> VI{0, 8, 16, 24}) & 255u); }

// ---- packed weights times integer activations -------------------------------------------------------------------------

// Lane l: the exact sum over the 8 fields of word l of field * x, as a float. With 8-bit activations x holds the even
// elements of the block of 8 L, then the odd ones.
inline VF idot(VI w, const int8_t* x) {
  VF r;
  for (int l = 0; l < L; ++l) {
    int sum = 0;
    for (int b = 0; b < 4; ++b) {
      const int byte = (w[l] >> (8 * b)) & 255;
      sum += (byte & 15) * x[4 * l + b] + (byte >> 4) * x[4 * L + 4 * l + b];
    }
    r[l] = float(sum);
  }
  return r;
}
// With 16-bit activations x holds the elements 0, 4, 8, ... of the block, then 1, 5, 9, ..., and so on; where
// kBytePlanes, it holds the high bytes of all in the order of 8-bit activations, then the low bytes: x = 256 high + low,
// both signed.
inline VF idot(VI w, const int16_t* x) {
  VF r;
  for (int l = 0; l < L; ++l) {
    int sum = 0;
    for (int i = 0; i < 8; ++i) sum += int((w[l] >> (4 * i)) & 15) * x[i % 4 * 2 * L + 2 * l + i / 4];
    r[l] = float(sum);
  }
  return r;
}
constexpr bool kBytePlanes = false;

// Whether 16-bit activations are faster than float32 ones.
constexpr bool kInt16Pays = false;

// Asks for the cache line at p in the second-level cache; never faults.
inline void prefetch(const void*) {}

// ---- interleaved weights (weights.h) times integer activations ---------------------------------------------

constexpr int kVectorRegisters = 16;  // how many vectors the processor keeps: how much is summed side by side follows

// L signed words of 32 bits: 0; a + b; a shifted left; as floats, rounded to nearest.
inline VS szero() { return VS{0, 0, 0, 0}; }
inline VS sadd(VS a, VS b) { return a + b; }
template <int BITS>
inline VS sshift(VS a) {
  return a << BITS;
}
inline VF sfloat(VS a) { return __builtin_convertvector(a, VF); }

// 4 bytes in every lane; the low and the high 4 bits of each byte.
inline VI wset1(int32_t bytes) {
  const uint32_t b = uint32_t(bytes);
  return VI{b, b, b, b};
}
inline VI wlow(VI w) { return w & 0x0F0F0F0Fu; }
inline VI wupper(VI w) { return (w >> 4) & 0x0F0F0F0Fu; }

// Lane l of `dot`: plus the sum over its 4 bytes of codes (no sign; up to 15, or 255 where kByteCodes) times x (signed).
// A DotSum may have fewer bits than a VS, and then takes 8 products of codes up to 15: begin with dot_begin(wide sum) or
// dot_zero(), add, and come back with dot_end(the same wide sum or szero(), sum).
constexpr bool kByteCodes = true;
using DotSum = VS;
inline DotSum dot_zero() { return szero(); }
inline DotSum dot_begin(VS before) { return before; }
inline DotSum dot(DotSum sum, VI codes, VI x) {
  for (int b = 0; b < 4; ++b) sum += (VS)((codes >> (8 * b)) & 255u) * ((VS)(x << (24 - 8 * b)) >> 24);
  return sum;
}
inline VS dot_end(VS, DotSum sum) { return sum; }

}  // namespace imn::IMN_ISA
