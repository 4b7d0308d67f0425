// Metal's library as declarations, for the address-space lint (lint.py): clang only parses, and address spaces are real.
// Vectors are the compiler's own, so that objects can be copied from one space to another. What does not parse for other
// reasons is ignored there.
#pragma once
#include "traits.h"

#define device __attribute__((address_space(1)))
#define constant const __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#define thread
#define kernel
#define METAL_FUNC inline
#define METAL_INTERNAL inline
#define METAL_CONST constant
#define __METAL__ 1
#define __METAL_VERSION__ 310
#define __HAVE_BFLOAT__ 1

namespace metal {
template <class T, int N> using vec = T __attribute__((ext_vector_type(N)));
template <class T, int N> using packed_vec = vec<T, N>;

#define MTL_DECLARE(name) template <class T> T name(T);
MTL_DECLARE(acos) MTL_DECLARE(acosh) MTL_DECLARE(asin) MTL_DECLARE(asinh) MTL_DECLARE(atan) MTL_DECLARE(atanh)
MTL_DECLARE(ceil) MTL_DECLARE(cos) MTL_DECLARE(cosh) MTL_DECLARE(cospi) MTL_DECLARE(exp) MTL_DECLARE(exp2)
MTL_DECLARE(exp10) MTL_DECLARE(fabs) MTL_DECLARE(floor) MTL_DECLARE(fract) MTL_DECLARE(log) MTL_DECLARE(log2)
MTL_DECLARE(log10) MTL_DECLARE(rint) MTL_DECLARE(round) MTL_DECLARE(rsqrt) MTL_DECLARE(sin) MTL_DECLARE(sinh)
MTL_DECLARE(sinpi) MTL_DECLARE(sqrt) MTL_DECLARE(tan) MTL_DECLARE(tanh) MTL_DECLARE(tanpi) MTL_DECLARE(trunc)
MTL_DECLARE(saturate) MTL_DECLARE(sign) MTL_DECLARE(abs) MTL_DECLARE(popcount) MTL_DECLARE(clz)
MTL_DECLARE(ctz) MTL_DECLARE(reverse_bits) MTL_DECLARE(normalize) MTL_DECLARE(simd_sum)
MTL_DECLARE(simd_product) MTL_DECLARE(simd_min) MTL_DECLARE(simd_max) MTL_DECLARE(simd_and)
MTL_DECLARE(simd_or) MTL_DECLARE(simd_xor) MTL_DECLARE(quad_sum) MTL_DECLARE(quad_product)
MTL_DECLARE(quad_min) MTL_DECLARE(quad_max) MTL_DECLARE(quad_and) MTL_DECLARE(quad_or) MTL_DECLARE(quad_xor)
MTL_DECLARE(simd_broadcast_first) MTL_DECLARE(simd_prefix_inclusive_sum)
MTL_DECLARE(simd_prefix_exclusive_sum) MTL_DECLARE(simd_prefix_inclusive_product)
MTL_DECLARE(simd_prefix_exclusive_product)
#undef MTL_DECLARE
#define MTL_DECLARE(name) template <class T> T name(T, T);
MTL_DECLARE(atan2) MTL_DECLARE(copysign) MTL_DECLARE(divide) MTL_DECLARE(fdim) MTL_DECLARE(fmax)
MTL_DECLARE(fmin) MTL_DECLARE(fmod) MTL_DECLARE(pow) MTL_DECLARE(powr) MTL_DECLARE(step) MTL_DECLARE(min)
MTL_DECLARE(max) MTL_DECLARE(rotate) MTL_DECLARE(mulhi) MTL_DECLARE(absdiff) MTL_DECLARE(hadd)
MTL_DECLARE(nextafter)
#undef MTL_DECLARE
#define MTL_DECLARE(name) template <class T> T name(T, T, T);
MTL_DECLARE(fma) MTL_DECLARE(mix) MTL_DECLARE(smoothstep) MTL_DECLARE(clamp) MTL_DECLARE(min3)
MTL_DECLARE(max3) MTL_DECLARE(median3) MTL_DECLARE(mad)
#undef MTL_DECLARE
#define MTL_DECLARE(name) template <class T> T name(T, ushort);
MTL_DECLARE(simd_broadcast) MTL_DECLARE(simd_shuffle) MTL_DECLARE(simd_shuffle_xor)
MTL_DECLARE(simd_shuffle_down) MTL_DECLARE(simd_shuffle_up) MTL_DECLARE(simd_shuffle_rotate_down)
MTL_DECLARE(simd_shuffle_rotate_up) MTL_DECLARE(quad_broadcast) MTL_DECLARE(quad_shuffle)
MTL_DECLARE(quad_shuffle_xor) MTL_DECLARE(quad_shuffle_down) MTL_DECLARE(quad_shuffle_up)
#undef MTL_DECLARE
#define MTL_DECLARE(name) template <class T> bool name(T);
MTL_DECLARE(isnan) MTL_DECLARE(isinf) MTL_DECLARE(isfinite) MTL_DECLARE(isnormal) MTL_DECLARE(signbit)
MTL_DECLARE(all) MTL_DECLARE(any) MTL_DECLARE(simd_all) MTL_DECLARE(simd_any)
#undef MTL_DECLARE
namespace fast { using namespace metal; }
namespace precise { using namespace metal; }
template <class T, class C> T select(T, T, C);
template <class T> T ldexp(T, int);
template <class T> float dot(T, T);
template <class T> float length(T);
template <class T> T simd_shuffle_and_fill_up(T, T, ushort, ushort = 32);
template <class T> T simd_shuffle_and_fill_down(T, T, ushort, ushort = 32);

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return (mem_flags)((uint)a | (uint)b); }
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);

template <class T, int C, int R> struct simdgroup_matrix {
  vec<T, 2> e;
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T);
  vec<T, 2>& thread_elements();
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;
template <class T, int C, int R = C> simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T);
template <class T, int C, int R = C> simdgroup_matrix<T, C, R> make_diagonal_simdgroup_matrix(T);
template <class M, class P> void simdgroup_load(M&, P, ulong = 8, vec<ulong, 2> = 0, bool = false);
template <class M, class P> void simdgroup_store(const M&, P, ulong = 8, vec<ulong, 2> = 0, bool = false);
template <class D, class A, class B, class C> void simdgroup_multiply_accumulate(D&, const A&, const B&, const C&);
template <class D, class A, class B> void simdgroup_multiply(D&, const A&, const B&);

enum memory_order { memory_order_relaxed, memory_order_acquire, memory_order_release, memory_order_acq_rel, memory_order_seq_cst };
template <class T> struct atomic { T value; };
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
#define MTL_ATOMIC(space)                                                                          \
  template <class T> T atomic_load_explicit(const volatile space atomic<T>*, memory_order);        \
  template <class T, class V> void atomic_store_explicit(volatile space atomic<T>*, V, memory_order); \
  MTL_FETCH(space, exchange) MTL_FETCH(space, fetch_add) MTL_FETCH(space, fetch_sub) MTL_FETCH(space, fetch_min) \
  MTL_FETCH(space, fetch_max) MTL_FETCH(space, fetch_and) MTL_FETCH(space, fetch_or) MTL_FETCH(space, fetch_xor) \
  template <class T, class V>                                                                      \
  bool atomic_compare_exchange_weak_explicit(volatile space atomic<T>*, T*, V, memory_order, memory_order);
#define MTL_FETCH(space, name) template <class T, class V> T atomic_##name##_explicit(volatile space atomic<T>*, V, memory_order);
MTL_ATOMIC(device)
MTL_ATOMIC(threadgroup)
#undef MTL_FETCH
#undef MTL_ATOMIC
template <class T> constexpr bool is_function_constant_defined(const T&) { return false; }
}  // namespace metal

template <class T, class U> T as_type(U);
template <class V, class... A> constexpr V mtl_make(A...) { return V{}; }  // a vector's constructor
#define MTL_VECTORS(T) \
  typedef metal::vec<T, 2> T##2; typedef metal::vec<T, 3> T##3; typedef metal::vec<T, 4> T##4; \
  typedef metal::vec<T, 2> packed_##T##2; typedef metal::vec<T, 3> packed_##T##3; typedef metal::vec<T, 4> packed_##T##4;
MTL_VECTORS(bool) MTL_VECTORS(char) MTL_VECTORS(uchar) MTL_VECTORS(short) MTL_VECTORS(ushort) MTL_VECTORS(int)
MTL_VECTORS(uint) MTL_VECTORS(long) MTL_VECTORS(ulong) MTL_VECTORS(half) MTL_VECTORS(bfloat) MTL_VECTORS(float)
#undef MTL_VECTORS
