// Metal's scalar types.
#pragma once

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef unsigned long uintptr_t;
typedef long intptr_t;
typedef _Float16 half;

#define MTL_INLINE inline __attribute__((always_inline))

#ifdef MTL_LINT
typedef double bfloat;  // the lint needs a type of the language, that is neither half nor float
#else
template <class T> inline constexpr bool mtl_integer = __is_enum(T);
#define MTL_INTEGER(T) template <> inline constexpr bool mtl_integer<T> = true;
MTL_INTEGER(bool) MTL_INTEGER(char) MTL_INTEGER(signed char) MTL_INTEGER(uchar) MTL_INTEGER(short) MTL_INTEGER(ushort)
MTL_INTEGER(int) MTL_INTEGER(uint) MTL_INTEGER(long) MTL_INTEGER(ulong) MTL_INTEGER(long long) MTL_INTEGER(unsigned long long)
#undef MTL_INTEGER
template <bool> struct mtl_if {};
template <> struct mtl_if<true> { using type = int; };

// Brain float: Metal converts it to float implicitly, but nothing of floating point converts to it implicitly
// (Metal Shading Language Specification 3.1, "bfloat"). Every operation of two bfloats is rounded to bfloat.
struct bfloat {
  uint16_t bits;

  bfloat() = default;
  // A template, as a float would convert to an integer parameter: `c ? b : 0.0f` could then be either type.
  template <class I, typename mtl_if<mtl_integer<I>>::type = 0> constexpr MTL_INLINE bfloat(I x) : bits(round((float)x)) {}
  constexpr MTL_INLINE explicit bfloat(float x) : bits(round(x)) {}
  constexpr MTL_INLINE explicit bfloat(half x) : bits(round((float)x)) {}

  constexpr MTL_INLINE operator float() const {
    return __builtin_bit_cast(float, (uint32_t)bits << 16);
  }

  // Round to nearest, ties to even; NaN stays NaN. Integer arithmetic, so that fast math cannot drop the NaN case.
  static constexpr MTL_INLINE uint16_t round(float x) {
    const uint32_t u = __builtin_bit_cast(uint32_t, x);
    return (u & 0x7fffffffu) > 0x7f800000u ? (uint16_t)((u >> 16) | 64u)
                                           : (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }

  MTL_INLINE bfloat& operator++() { return *this = bfloat((float)*this + 1.0f); }
  MTL_INLINE bfloat& operator--() { return *this = bfloat((float)*this - 1.0f); }
};

#define MTL_BFLOAT_OP(op)                                                                                            \
  constexpr MTL_INLINE bfloat operator op(bfloat a, bfloat b) { return bfloat((float)a op(float) b); }              \
  constexpr MTL_INLINE float operator op(bfloat a, float b) { return (float)a op b; }                               \
  constexpr MTL_INLINE float operator op(float a, bfloat b) { return a op(float) b; }                               \
  MTL_BFLOAT_OP_INT(op, bool) MTL_BFLOAT_OP_INT(op, char) MTL_BFLOAT_OP_INT(op, signed char)                         \
  MTL_BFLOAT_OP_INT(op, uchar) MTL_BFLOAT_OP_INT(op, short) MTL_BFLOAT_OP_INT(op, ushort)                            \
  MTL_BFLOAT_OP_INT(op, int) MTL_BFLOAT_OP_INT(op, uint) MTL_BFLOAT_OP_INT(op, long) MTL_BFLOAT_OP_INT(op, ulong)    \
  MTL_INLINE bfloat& operator op##=(bfloat& a, bfloat b) { return a = a op b; }
#define MTL_BFLOAT_OP_INT(op, T)                                                                                     \
  constexpr MTL_INLINE bfloat operator op(bfloat a, T b) { return a op bfloat(b); }                                  \
  constexpr MTL_INLINE bfloat operator op(T a, bfloat b) { return bfloat(a) op b; }
MTL_BFLOAT_OP(+)
MTL_BFLOAT_OP(-)
MTL_BFLOAT_OP(*)
MTL_BFLOAT_OP(/)
#undef MTL_BFLOAT_OP
#undef MTL_BFLOAT_OP_INT
constexpr MTL_INLINE bfloat operator-(bfloat a) {
  return __builtin_bit_cast(bfloat, (uint16_t)(a.bits ^ 0x8000u));
}
constexpr MTL_INLINE bfloat operator+(bfloat a) { return a; }
#endif

static_assert(sizeof(half) == 2 && sizeof(long) == 8, "Metal's type sizes");
