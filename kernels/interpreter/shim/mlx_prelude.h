// What MLX puts before every custom kernel (its utils.h): names, type limits, strided indexing. Each part stands back where
// the kernel's own header brings it, as headers taken from MLX do (translate.py sets the MTL_HAS_ macros).
#pragma once
#ifdef MTL_LINT
#include "lint.h"
#else
#include "metal_stdlib"
#endif

using namespace metal;

typedef half float16_t;
typedef bfloat bfloat16_t;

#ifndef MTL_HAS_COMPLEX
struct complex64_t {
  float real, imag;
  constexpr complex64_t() : real(0), imag(0) {}
  constexpr complex64_t(float r, float i) : real(r), imag(i) {}
  template <class T, enable_if_t<is_arithmetic_v<T>, bool> = true>
  constexpr complex64_t(T r) : real((float)r), imag(0) {}
  template <class T, enable_if_t<is_arithmetic_v<T>, bool> = true>
  constexpr operator T() const { return (T)real; }
};
constexpr complex64_t operator+(complex64_t a, complex64_t b) { return {a.real + b.real, a.imag + b.imag}; }
constexpr complex64_t operator-(complex64_t a, complex64_t b) { return {a.real - b.real, a.imag - b.imag}; }
constexpr complex64_t operator-(complex64_t a) { return {-a.real, -a.imag}; }
constexpr complex64_t operator*(complex64_t a, complex64_t b) {
  return {a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real};
}
constexpr complex64_t operator/(complex64_t a, complex64_t b) {
  const float d = b.real * b.real + b.imag * b.imag;
  return {(a.real * b.real + a.imag * b.imag) / d, (a.imag * b.real - a.real * b.imag) / d};
}
constexpr bool operator==(complex64_t a, complex64_t b) { return a.real == b.real && a.imag == b.imag; }
constexpr bool operator!=(complex64_t a, complex64_t b) { return !(a == b); }
constexpr bool operator<(complex64_t a, complex64_t b) {
  return a.real < b.real || (a.real == b.real && a.imag < b.imag);
}
constexpr bool operator>(complex64_t a, complex64_t b) { return b < a; }
constexpr bool operator<=(complex64_t a, complex64_t b) { return !(b < a); }
constexpr bool operator>=(complex64_t a, complex64_t b) { return !(a < b); }
#endif

#ifndef MTL_HAS_LIMITS
template <typename U>
struct Limits {
  static constexpr U max = is_floating_point_v<U> ? numeric_limits<U>::infinity() : numeric_limits<U>::max();
  static constexpr U min = is_floating_point_v<U> ? (U)-numeric_limits<U>::infinity() : numeric_limits<U>::min();
  static constexpr U finite_max = numeric_limits<U>::max();
  static constexpr U finite_min = is_floating_point_v<U> ? (U)-numeric_limits<U>::max() : numeric_limits<U>::min();
};
template <> struct Limits<bool> {
  static constexpr bool max = true;
  static constexpr bool min = false;
};
#endif

#ifndef MTL_HAS_LOC
template <typename IdxT = int64_t>
METAL_FUNC IdxT elem_to_loc(IdxT elem, MTL_CONSTANT int* shape, MTL_CONSTANT int64_t* strides, int ndim) {
  IdxT loc = 0;
  for (int i = ndim - 1; i >= 0 && elem > 0; --i) {
    loc += (elem % shape[i]) * IdxT(strides[i]);
    elem /= shape[i];
  }
  return loc;
}
METAL_FUNC int64_t elem_to_loc(uint elem, MTL_CONSTANT int* shape, MTL_CONSTANT int64_t* strides, int ndim) {
  return elem_to_loc<int64_t>((int64_t)elem, shape, strides, ndim);
}
template <typename IdxT = int64_t>
METAL_FUNC IdxT elem_to_loc(uint3 elem, MTL_CONSTANT int* shape, MTL_CONSTANT int64_t* strides, int ndim) {
  IdxT loc = elem.x * IdxT(strides[ndim - 1]) + elem.y * IdxT(strides[ndim - 2]);
  uint z = elem.z;
  for (int d = ndim - 3; d >= 0; --d) {
    loc += (z % shape[d]) * IdxT(strides[d]);
    z /= shape[d];
  }
  return loc;
}
template <typename IdxT = int64_t> METAL_FUNC IdxT elem_to_loc_1(uint elem, MTL_CONSTANT int64_t& stride) {
  return elem * IdxT(stride);
}
template <typename IdxT = int64_t> METAL_FUNC IdxT elem_to_loc_2(uint2 elem, MTL_CONSTANT int64_t* strides) {
  return elem.x * IdxT(strides[1]) + elem.y * IdxT(strides[0]);
}
template <typename IdxT = int64_t> METAL_FUNC IdxT elem_to_loc_3(uint3 elem, MTL_CONSTANT int64_t* strides) {
  return elem.x * IdxT(strides[2]) + elem.y * IdxT(strides[1]) + elem.z * IdxT(strides[0]);
}
#endif

#ifndef MTL_HAS_CONDITIONAL
template <bool condition, typename T, typename U> struct ConditionalType { using type = U; };
template <typename T, typename U> struct ConditionalType<true, T, U> { using type = T; };
#endif
#ifndef MLX_MTL_LOG
#define MLX_MTL_LOG
#endif
#ifndef MTL_HAS_CEILDIV
inline size_t ceildiv(size_t n, size_t m) { return (n + m - 1) / m; }
#endif
#ifndef MLX_MTL_PRAGMA_UNROLL
#define MLX_MTL_PRAGMA_UNROLL
#endif
