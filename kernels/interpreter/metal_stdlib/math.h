// <metal_math>, <metal_integer>, <metal_common>, <metal_geometric>, <metal_relational>: scalars as plain overloads (so that
// a call Metal finds ambiguous is ambiguous here), vectors componentwise. half and bfloat compute in float, round once.
#pragma once
#include "vec.h"

namespace metal {

// One argument. f is the float function.
#define MTL_MATH1(name, f)                                                                                     \
  MTL_INLINE float name(float x) { return f(x); }                                                              \
  MTL_INLINE half name(half x) { return (half)f((float)x); }                                                   \
  MTL_INLINE bfloat name(bfloat x) { return bfloat(f((float)x)); }                                             \
  template <class V, enable_if_t<(mtl_width<V> > 0), bool> = true> MTL_INLINE auto name(const V& v) {           \
    return mtl_map<typename mtl_vec_t<V>::value_type>(v, [](auto x) { return name(x); });                      \
  }
#define MTL_MATH2(name, f)                                                                                     \
  MTL_INLINE float name(float x, float y) { return f(x, y); }                                                  \
  MTL_INLINE half name(half x, half y) { return (half)f((float)x, (float)y); }                                 \
  MTL_INLINE bfloat name(bfloat x, bfloat y) { return bfloat(f((float)x, (float)y)); }                         \
  MTL_LIFT2(name)
#define MTL_MATH3(name, f)                                                                                     \
  MTL_INLINE float name(float x, float y, float z) { return f(x, y, z); }                                      \
  MTL_INLINE half name(half x, half y, half z) { return (half)f((float)x, (float)y, (float)z); }               \
  MTL_INLINE bfloat name(bfloat x, bfloat y, bfloat z) { return bfloat(f((float)x, (float)y, (float)z)); }     \
  MTL_LIFT3(name)
#define MTL_LIFT2(name)                                                                                        \
  template <class A, class B, class V = mtl_pair_t<A, B>> MTL_INLINE V name(const A& a, const B& b) {          \
    const V x = mtl_as_vec<V>(a), y = mtl_as_vec<V>(b);                                                        \
    V r;                                                                                                       \
    for (int i = 0; i < mtl_width<V>; i++) r.s[i] = name(x.s[i], y.s[i]);                                      \
    return r;                                                                                                  \
  }
#define MTL_LIFT3(name)                                                                                        \
  template <class A, class B, class C, class V = mtl_triple_t<A, B, C>>                                        \
  MTL_INLINE V name(const A& a, const B& b, const C& c) {                                                      \
    const V x = mtl_as_vec<V>(a), y = mtl_as_vec<V>(b), z = mtl_as_vec<V>(c);                                  \
    V r;                                                                                                       \
    for (int i = 0; i < mtl_width<V>; i++) r.s[i] = name(x.s[i], y.s[i], z.s[i]);                              \
    return r;                                                                                                  \
  }
template <class A, class B, class C, bool v> struct mtl_triple {};
template <class A, class B, class C> struct mtl_triple<A, B, C, true> {
  using type = mtl_vec_t<conditional_t<(mtl_width<A> > 0), A, conditional_t<(mtl_width<B> > 0), B, C>>>;
};
template <class A, class B, class C>
using mtl_triple_t = typename mtl_triple<A, B, C, (mtl_width<A> + mtl_width<B> + mtl_width<C> > 0)>::type;

MTL_INLINE float mtl_fract(float x) { float r = x - __builtin_floorf(x); return r < 1.0f ? r : 0.99999994f; }
MTL_INLINE float mtl_fmin(float a, float b) { return b < a || a != a ? b : a; }
MTL_INLINE float mtl_fmax(float a, float b) { return b > a || a != a ? b : a; }
#ifdef MTL_SIMT
MTL_INLINE float mtl_rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
#else  // correctly rounded, as the precise one is
MTL_INLINE float mtl_rsqrt(float x) { return (float)((double)1 / __builtin_sqrt((double)x)); }
#endif
MTL_INLINE float mtl_saturate(float x) { return mtl_fmin(mtl_fmax(x, 0.0f), 1.0f); }
MTL_INLINE float mtl_sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? x : 0.0f; }
MTL_INLINE float mtl_divide(float x, float y) { return x / y; }
MTL_INLINE float mtl_mix(float x, float y, float a) { return x + (y - x) * a; }
MTL_INLINE float mtl_step(float edge, float x) { return x < edge ? 0.0f : 1.0f; }
MTL_INLINE float mtl_smoothstep(float a, float b, float x) {
  const float t = mtl_saturate((x - a) / (b - a));
  return t * t * (3.0f - 2.0f * t);
}
MTL_INLINE float mtl_exp10(float x) { return __builtin_powf(10.0f, x); }
// x between -1/2 and 1/2 with the same sine of x · pi, exactly: x · pi itself would be off by many ulps.
MTL_INLINE float mtl_half_turn(float x) {
  const float r = x - 2.0f * __builtin_rintf(0.5f * x);
  return r > 0.5f ? 1.0f - r : r < -0.5f ? -1.0f - r : r;
}
MTL_INLINE float mtl_quarter_on(float x) { return 0.5f - __builtin_fabsf(x - 2.0f * __builtin_rintf(0.5f * x)); }  // for cosines
MTL_INLINE float mtl_sinpi(float x) { return __builtin_sinf(mtl_half_turn(x) * 3.14159265f); }
MTL_INLINE float mtl_cospi(float x) { return __builtin_sinf(mtl_quarter_on(x) * 3.14159265f); }
MTL_INLINE float mtl_tanpi(float x) { return mtl_sinpi(x) / mtl_cospi(x); }

MTL_MATH1(ceil, __builtin_ceilf) MTL_MATH1(fabs, __builtin_fabsf) MTL_MATH1(floor, __builtin_floorf)
MTL_MATH1(fract, mtl_fract) MTL_MATH1(rint, __builtin_rintf) MTL_MATH1(round, __builtin_roundf)
MTL_MATH1(saturate, mtl_saturate) MTL_MATH1(sign, mtl_sign) MTL_MATH1(trunc, __builtin_truncf)
MTL_MATH2(copysign, __builtin_copysignf) MTL_MATH2(fdim, __builtin_fdimf) MTL_MATH2(fmax, mtl_fmax)
MTL_MATH2(fmin, mtl_fmin) MTL_MATH2(step, mtl_step)
MTL_MATH3(fma, __builtin_fmaf) MTL_MATH3(mix, mtl_mix) MTL_MATH3(smoothstep, mtl_smoothstep)

MTL_INLINE float nextafter(float x, float y) { return __builtin_nextafterf(x, y); }
MTL_INLINE float ldexp(float x, int n) { return __builtin_ldexpf(x, n); }
MTL_INLINE half ldexp(half x, int n) { return (half)__builtin_ldexpf((float)x, n); }
MTL_INLINE bfloat ldexp(bfloat x, int n) { return bfloat(__builtin_ldexpf((float)x, n)); }
MTL_INLINE int ilogb(float x) { return __builtin_ilogbf(x); }
MTL_INLINE float frexp(float x, int& n) { return __builtin_frexpf(x, &n); }
MTL_INLINE float modf(float x, float& whole) { whole = __builtin_truncf(x); return x - whole; }

// Integers and all scalars.
#define MTL_INTEGERS(M) M(char) M(uchar) M(signed char) M(short) M(ushort) M(int) M(uint) M(long) M(ulong)
#define MTL_MINMAX(T)                                                                      \
  MTL_INLINE constexpr T min(T a, T b) { return b < a ? b : a; }                           \
  MTL_INLINE constexpr T max(T a, T b) { return a < b ? b : a; }                           \
  MTL_INLINE constexpr T clamp(T x, T lo, T hi) { return min(max(x, lo), hi); }            \
  MTL_INLINE constexpr T min3(T a, T b, T c) { return min(min(a, b), c); }                 \
  MTL_INLINE constexpr T max3(T a, T b, T c) { return max(max(a, b), c); }                 \
  MTL_INLINE constexpr T median3(T a, T b, T c) { return max(min(a, b), min(max(a, b), c)); }
MTL_INTEGERS(MTL_MINMAX)
#undef MTL_MINMAX
#define MTL_MINMAX(T)                                                                      \
  MTL_INLINE T min(T a, T b) { return fmin(a, b); }                                        \
  MTL_INLINE T max(T a, T b) { return fmax(a, b); }                                        \
  MTL_INLINE T clamp(T x, T lo, T hi) { return fmin(fmax(x, lo), hi); }                    \
  MTL_INLINE T min3(T a, T b, T c) { return fmin(fmin(a, b), c); }                         \
  MTL_INLINE T max3(T a, T b, T c) { return fmax(fmax(a, b), c); }                         \
  MTL_INLINE T fmin3(T a, T b, T c) { return fmin(fmin(a, b), c); }                        \
  MTL_INLINE T fmax3(T a, T b, T c) { return fmax(fmax(a, b), c); }                        \
  MTL_INLINE T median3(T a, T b, T c) { return fmax(fmin(a, b), fmin(fmax(a, b), c)); }    \
  MTL_INLINE T fmedian3(T a, T b, T c) { return fmax(fmin(a, b), fmin(fmax(a, b), c)); }
MTL_MINMAX(half) MTL_MINMAX(bfloat) MTL_MINMAX(float)
#undef MTL_MINMAX
MTL_LIFT2(min) MTL_LIFT2(max) MTL_LIFT3(clamp) MTL_LIFT3(min3) MTL_LIFT3(max3)
MTL_INLINE float abs(float x) { return __builtin_fabsf(x); }
MTL_INLINE half abs(half x) { return (half)__builtin_fabsf((float)x); }
MTL_INLINE bfloat abs(bfloat x) { return bfloat(__builtin_fabsf((float)x)); }
#define MTL_BITS(T)                                                                                                  \
  MTL_INLINE constexpr T abs(T x) { return x < 0 ? (T)(0u - (make_unsigned_t<T>)x) : x; }                                                  \
  MTL_INLINE constexpr make_unsigned_t<T> absdiff(T a, T b) { return a < b ? (make_unsigned_t<T>)b - a : (make_unsigned_t<T>)a - b; } \
  MTL_INLINE constexpr T popcount(T x) { return (T)__builtin_popcountl((ulong)(make_unsigned_t<T>)x); }              \
  MTL_INLINE constexpr T clz(T x) {                                                                                  \
    return x ? (T)(__builtin_clzl((ulong)(make_unsigned_t<T>)x) - (64 - (int)sizeof(T) * 8)) : (T)(sizeof(T) * 8);   \
  }                                                                                                                  \
  MTL_INLINE constexpr T ctz(T x) { return x ? (T)__builtin_ctzl((ulong)x) : (T)(sizeof(T) * 8); }                   \
  MTL_INLINE constexpr T rotate(T x, T n) {                                                                          \
    const int bits = (int)sizeof(T) * 8, k = (int)(n & (bits - 1));                                                  \
    const auto u = (make_unsigned_t<T>)x;                                                                            \
    return k ? (T)((u << k) | (u >> (bits - k))) : x;                                                                \
  }                                                                                                                  \
  MTL_INLINE constexpr T reverse_bits(T x) {                                                                         \
    auto u = (make_unsigned_t<T>)x;                                                                                  \
    make_unsigned_t<T> r = 0;                                                                                        \
    for (int i = 0; i < (int)sizeof(T) * 8; i++, u >>= 1) r = (r << 1) | (u & 1);                                    \
    return (T)r;                                                                                                     \
  }                                                                                                                  \
  MTL_INLINE constexpr T extract_bits(T x, uint offset, uint bits) {                                                 \
    const uint top = sizeof(T) * 8;                                                                                  \
    if (bits == 0) return 0;                                                                                         \
    return (T)((T)((make_unsigned_t<T>)x << (top - offset - bits)) >> (top - bits));                                 \
  }                                                                                                                  \
  MTL_INLINE constexpr T insert_bits(T base, T insert, uint offset, uint bits) {                                     \
    using U = make_unsigned_t<T>;                                                                                    \
    const U mask = bits >= sizeof(T) * 8 ? (U)~(U)0 : (U)((((U)1 << bits) - 1) << offset);                           \
    return (T)(((U)base & ~mask) | (((U)insert << offset) & mask));                                                  \
  }                                                                                                                  \
  MTL_INLINE constexpr T mulhi(T a, T b) {                                                                           \
    using W = conditional_t<is_signed_v<T>, __int128, unsigned __int128>;                                            \
    return (T)(((W)a * (W)b) >> (sizeof(T) * 8));                                                                    \
  }                                                                                                                  \
  MTL_INLINE constexpr T madhi(T a, T b, T c) { return (T)((ulong)mulhi(a, b) + (ulong)c); }                                   \
  MTL_INLINE constexpr T hadd(T a, T b) { return (T)(((__int128)a + b) >> 1); }                                      \
  MTL_INLINE constexpr T rhadd(T a, T b) { return (T)(((__int128)a + b + 1) >> 1); }                                 \
  MTL_INLINE constexpr T addsat(T a, T b) {                                                                          \
    const __int128 v = (__int128)a + b, lo = numeric_limits<T>::min(), hi = numeric_limits<T>::max();                \
    return (T)(v < lo ? lo : v > hi ? hi : v);                                                                       \
  }                                                                                                                  \
  MTL_INLINE constexpr T subsat(T a, T b) {                                                                          \
    const __int128 v = (__int128)a - b, lo = numeric_limits<T>::min(), hi = numeric_limits<T>::max();                \
    return (T)(v < lo ? lo : v > hi ? hi : v);                                                                       \
  }
MTL_INTEGERS(MTL_BITS)
#undef MTL_BITS
MTL_INLINE constexpr int mul24(int a, int b) { return (int)((uint)a * (uint)b); }
MTL_INLINE constexpr uint mul24(uint a, uint b) { return a * b; }
MTL_INLINE constexpr int mad24(int a, int b, int c) { return (int)((uint)a * (uint)b + (uint)c); }
MTL_INLINE constexpr uint mad24(uint a, uint b, uint c) { return a * b + c; }
MTL_LIFT2(rotate) MTL_LIFT2(mulhi) MTL_LIFT2(absdiff)
#define MTL_LIFT1(name)                                                                                   \
  template <class V, enable_if_t<(mtl_width<V> > 0), bool> = true> MTL_INLINE auto name(const V& v) {     \
    return mtl_map<typename mtl_vec_t<V>::value_type>(v, [](auto x) { return name(x); });                 \
  }
MTL_LIFT1(abs) MTL_LIFT1(popcount) MTL_LIFT1(clz) MTL_LIFT1(ctz) MTL_LIFT1(reverse_bits)

// Relational. By bits, so that fast math cannot fold them away.
#define MTL_CLASSIFY(name, T, U, expression)                                     \
  MTL_INLINE bool name(T x) {                                                    \
    const U u = as_type<U>(x), sign = (U)1 << (sizeof(U) * 8 - 1), m = u & ~sign; \
    const U inf = as_type<U>(numeric_limits<T>::infinity());                     \
    (void)m, (void)inf, (void)sign;                                              \
    return expression;                                                           \
  }
#define MTL_CLASSIFIERS(T, U)                         \
  MTL_CLASSIFY(isnan, T, U, m > inf)                  \
  MTL_CLASSIFY(isinf, T, U, m == inf)                 \
  MTL_CLASSIFY(isfinite, T, U, m < inf)               \
  MTL_CLASSIFY(isnormal, T, U, m < inf && m >= as_type<U>(numeric_limits<T>::min())) \
  MTL_CLASSIFY(signbit, T, U, (u & sign) != 0)
MTL_CLASSIFIERS(float, uint32_t) MTL_CLASSIFIERS(half, uint16_t) MTL_CLASSIFIERS(bfloat, uint16_t)
#undef MTL_CLASSIFIERS
#undef MTL_CLASSIFY
#define MTL_RELATION(name)                                                                                 \
  template <class V, enable_if_t<(mtl_width<V> > 0), bool> = true> MTL_INLINE auto name(const V& v) {      \
    return mtl_map<bool>(v, [](auto x) { return name(x); });                                               \
  }
MTL_RELATION(isnan) MTL_RELATION(isinf) MTL_RELATION(isfinite) MTL_RELATION(isnormal) MTL_RELATION(signbit)
#undef MTL_RELATION
MTL_INLINE constexpr bool all(bool x) { return x; }
MTL_INLINE constexpr bool any(bool x) { return x; }
template <int N> MTL_INLINE bool all(vec<bool, N> v) { bool r = true; for (int i = 0; i < N; i++) r = r && v.s[i]; return r; }
template <int N> MTL_INLINE bool any(vec<bool, N> v) { bool r = false; for (int i = 0; i < N; i++) r = r || v.s[i]; return r; }
template <class T> MTL_INLINE constexpr T select(T a, T b, bool c) { return c ? b : a; }
template <class T, int N> MTL_INLINE vec<T, N> select(vec<T, N> a, vec<T, N> b, vec<bool, N> c) {
  for (int i = 0; i < N; i++) a.s[i] = c.s[i] ? b.s[i] : a.s[i];
  return a;
}

// mad: fused or not is up to the compiler, as on Metal.
template <class T> MTL_INLINE T mad(T a, T b, T c) { return a * b + c; }

// Geometry.
template <class A, class B, class V = mtl_pair_t<A, B>> MTL_INLINE auto dot(const A& a, const B& b) {
  const V x = mtl_as_vec<V>(a), y = mtl_as_vec<V>(b);
  auto r = x.s[0] * y.s[0];
  for (int i = 1; i < mtl_width<V>; i++) r += x.s[i] * y.s[i];
  return r;
}
template <class V, enable_if_t<(mtl_width<V> > 0), bool> = true> MTL_INLINE auto length_squared(const V& v) { return dot(v, v); }
template <class T> MTL_INLINE vec<T, 3> cross(vec<T, 3> a, vec<T, 3> b) {
  return vec<T, 3>(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}

// The two qualities of <metal_math>. With fp="metal" bare functions are the fast ones, as they are from macOS 15 on where MLX
// compiles a kernel; otherwise both are the host's libm.
#ifdef MTL_FP_METAL
#include "fast_math.h"
#define MTL_QUALITY(name, exact) mtl_fast_##name
#else
#define MTL_QUALITY(name, exact) exact
#endif
#include "two_qualities.inc"
#undef MTL_QUALITY
#define MTL_ONE_QUALITY                                                                                               \
  using metal::abs; using metal::ceil; using metal::clamp; using metal::copysign; using metal::dot; using metal::fabs; \
  using metal::fdim; using metal::floor; using metal::fma; using metal::fmax; using metal::fmin; using metal::fract;   \
  using metal::frexp; using metal::isfinite; using metal::isinf; using metal::isnan; using metal::isnormal;            \
  using metal::ldexp; using metal::max; using metal::max3; using metal::min; using metal::min3; using metal::mix;      \
  using metal::modf; using metal::nextafter; using metal::rint; using metal::round; using metal::saturate;             \
  using metal::sign; using metal::signbit; using metal::smoothstep; using metal::step; using metal::trunc;
#define MTL_TWO_QUALITIES                                                                                              \
  using metal::acos; using metal::acosh; using metal::asin; using metal::asinh; using metal::atan; using metal::atan2; \
  using metal::atanh; using metal::cos; using metal::cosh; using metal::cospi; using metal::distance;                  \
  using metal::divide; using metal::exp; using metal::exp10; using metal::exp2; using metal::fmod; using metal::length; \
  using metal::log; using metal::log10; using metal::log2; using metal::normalize; using metal::pow;                   \
  using metal::powr; using metal::rsqrt; using metal::sin; using metal::sincos; using metal::sinh;                     \
  using metal::sinpi; using metal::sqrt; using metal::tan; using metal::tanh; using metal::tanpi;
namespace fast { MTL_ONE_QUALITY MTL_TWO_QUALITIES }
namespace precise {
MTL_ONE_QUALITY
#ifdef MTL_FP_METAL
#define MTL_QUALITY(name, exact) exact
#include "two_qualities.inc"
#undef MTL_QUALITY
#else
MTL_TWO_QUALITIES
#endif
}  // namespace precise
#undef MTL_ONE_QUALITY
#undef MTL_TWO_QUALITIES
#undef MTL_MATH1
#undef MTL_MATH2
#undef MTL_MATH3
#undef MTL_LIFT1
#undef MTL_LIFT2
#undef MTL_LIFT3
#undef MTL_INTEGERS

}  // namespace metal
