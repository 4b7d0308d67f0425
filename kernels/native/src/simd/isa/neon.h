// NEON (AArch64), with its dot products where compiled for them: 4 floats. What each operation does stands in portable.h.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "../isa_name.h"

namespace imn::IMN_ISA {

constexpr int L = 4;
using VF = float32x4_t;
using VI = uint32x4_t;
using SpreadUnit4 = uint16_t;

inline VF vzero() { return vdupq_n_f32(0); }
inline VF vset1(float a) { return vdupq_n_f32(a); }
inline VF vload(const float* p) { return vld1q_f32(p); }
inline void vstore(float* p, VF a) { vst1q_f32(p, a); }
inline VF vadd(VF a, VF b) { return vaddq_f32(a, b); }
inline VF vmul(VF a, VF b) { return vmulq_f32(a, b); }
inline VF vfma(VF a, VF b, VF c) { return vfmaq_f32(c, a, b); }

inline float vsum(VF a) { return vaddvq_f32(a); }
inline void vsum4(VF a, VF b, VF c, VF d, float* out) { vst1q_f32(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))); }

inline VF vload_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline VF vload_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
inline void vstore_f16(uint16_t* p, VF a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }

inline VI wload(const uint32_t* p) { return vld1q_u32(p); }
inline VI whigh(VI w) { return vshrq_n_u32(w, 16); }
template <int BITS>
inline VF wfield(VI w, int i) {
  return vcvtq_f32_u32(vandq_u32(w, vdupq_n_u32(((1u << BITS) - 1) << (BITS * i))));
}
// Half a word of 4-bit fields (the caller passes half-words), or one of 8-bit fields.
inline VF wspread4(const uint16_t* p) {
  const int32_t right[4] = {0, -4, -8, -12};
  return vcvtq_f32_u32(vandq_u32(vshlq_u32(vdupq_n_u32(*p), vld1q_s32(right)), vdupq_n_u32(15)));
}
inline VF wspread8(const uint32_t* p) {
  const int32_t right[4] = {0, -8, -16, -24};
  return vcvtq_f32_u32(vandq_u32(vshlq_u32(vdupq_n_u32(*p), vld1q_s32(right)), vdupq_n_u32(255)));
}
inline VF vset2(const float* p) { return vcombine_f32(vdup_n_f32(p[0]), vdup_n_f32(p[1])); }
inline VF vset4(const float* p) { return vld1q_f32(p); }

inline VF idot(VI w, const int8_t* x) {
  const uint8x16_t bytes = vreinterpretq_u8_u32(w);
  const int8x16_t even = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
  const int8x16_t odd = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
  const int8x16_t xe = vld1q_s8(x), xo = vld1q_s8(x + 16);
#if defined(__ARM_FEATURE_DOTPROD)
  return vcvtq_f32_s32(vdotq_s32(vdotq_s32(vdupq_n_s32(0), even, xe), odd, xo));
#else
  int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(even), vget_low_s8(xe)), vget_low_s8(odd), vget_low_s8(xo));
  int16x8_t high = vmlal_s8(vmull_s8(vget_high_s8(even), vget_high_s8(xe)), vget_high_s8(odd), vget_high_s8(xo));
  return vcvtq_f32_s32(vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}
inline VF idot(VI w, const int16_t* x) {
  const uint16x8_t halves = vreinterpretq_u16_u32(w), mask = vdupq_n_u16(15);
  const int16x8_t fields[4] = {
      vreinterpretq_s16_u16(vandq_u16(halves, mask)), vreinterpretq_s16_u16(vandq_u16(vshrq_n_u16(halves, 4), mask)),
      vreinterpretq_s16_u16(vandq_u16(vshrq_n_u16(halves, 8), mask)), vreinterpretq_s16_u16(vshrq_n_u16(halves, 12))};
  int32x4_t low = vdupq_n_s32(0), high = low;
  for (int i = 0; i < 4; ++i) {
    const int16x8_t xi = vld1q_s16(x + 8 * i);
    low = vmlal_s16(low, vget_low_s16(fields[i]), vget_low_s16(xi));
    high = vmlal_s16(high, vget_high_s16(fields[i]), vget_high_s16(xi));
  }
  return vcvtq_f32_s32(vpaddq_s32(low, high));
}
constexpr bool kBytePlanes = false;
constexpr bool kInt16Pays = true;
inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

constexpr int kVectorRegisters = 32;
using VS = int32x4_t;
inline VS szero() { return vdupq_n_s32(0); }
inline VS sadd(VS a, VS b) { return vaddq_s32(a, b); }
template <int BITS>
inline VS sshift(VS a) {
  return vshlq_n_s32(a, BITS);
}
inline VF sfloat(VS a) { return vcvtq_f32_s32(a); }

inline VI wset1(int32_t bytes) { return vdupq_n_u32(uint32_t(bytes)); }
inline VI wlow(VI w) { return vreinterpretq_u32_u8(vandq_u8(vreinterpretq_u8_u32(w), vdupq_n_u8(15))); }
inline VI wupper(VI w) { return vreinterpretq_u32_u8(vshrq_n_u8(vreinterpretq_u8_u32(w), 4)); }

// Codes below 128 are the same with a sign.
constexpr bool kByteCodes = false;
using DotSum = int32x4_t;
inline DotSum dot_zero() { return vdupq_n_s32(0); }
inline DotSum dot_begin(VS before) { return before; }
inline DotSum dot(DotSum sum, VI codes, VI x) {
  const int8x16_t c = vreinterpretq_s8_u32(codes), b = vreinterpretq_s8_u32(x);
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sum, c, b);
#else
  const int16x8_t low = vmull_s8(vget_low_s8(c), vget_low_s8(b)), high = vmull_s8(vget_high_s8(c), vget_high_s8(b));
  return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}
inline VS dot_end(VS, DotSum sum) { return sum; }

}  // namespace imn::IMN_ISA
