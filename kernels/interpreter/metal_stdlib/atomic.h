// <metal_atomic>. Threads take turns, so plain operations are atomic; check mode is told of each.
#pragma once
#include "simd.h"

namespace metal {

enum memory_order { memory_order_relaxed, memory_order_acquire, memory_order_release, memory_order_acq_rel, memory_order_seq_cst };

template <class T>
struct atomic {
  T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<ulong> atomic_ulong;
typedef atomic<float> atomic_float;

#ifdef MTL_CHECK
#define MTL_ATOMIC(write) mtl_atomic(p, sizeof(T), write, line)
#define MTL_UNSEEN __attribute__((noinline, no_sanitize("thread"), no_sanitize("signed-integer-overflow")))
#else
#define MTL_ATOMIC(write) (void)line
#define MTL_UNSEEN MTL_INLINE
#endif

template <class T> struct mtl_self_t { using type = T; };
template <class T> using mtl_no_deduce = typename mtl_self_t<T>::type;

template <class T> MTL_UNSEEN T atomic_load_explicit(const volatile atomic<T>* p, memory_order, MTL_LINE) {
  MTL_ATOMIC(0);
  return p->value;
}
template <class T> MTL_UNSEEN void atomic_store_explicit(volatile atomic<T>* p, mtl_no_deduce<T> v, memory_order, MTL_LINE) {
  MTL_ATOMIC(1);
  p->value = v;
}
template <class T> MTL_UNSEEN T atomic_exchange_explicit(volatile atomic<T>* p, mtl_no_deduce<T> v, memory_order, MTL_LINE) {
  MTL_ATOMIC(2);
  const T old = p->value;
  p->value = v;
  return old;
}
template <class T>
MTL_UNSEEN bool atomic_compare_exchange_weak_explicit(volatile atomic<T>* p, T* expected, mtl_no_deduce<T> v, memory_order, memory_order, MTL_LINE) {
  MTL_ATOMIC(2);
  const T old = p->value;
  if (as_type<conditional_t<sizeof(T) == 4, uint, conditional_t<sizeof(T) == 8, ulong, uchar>>>(old) ==
      as_type<conditional_t<sizeof(T) == 4, uint, conditional_t<sizeof(T) == 8, ulong, uchar>>>(*expected)) {
    p->value = v;
    return true;
  }
  *expected = old;
  return false;
}
#define MTL_FETCH(name, expression)                                                                                          \
  template <class T> MTL_UNSEEN T atomic_fetch_##name##_explicit(volatile atomic<T>* p, mtl_no_deduce<T> v, memory_order, MTL_LINE) { \
    MTL_ATOMIC(2);                                                                                                           \
    const T old = p->value;                                                                                                  \
    p->value = (T)(expression);                                                                                              \
    return old;                                                                                                              \
  }
MTL_FETCH(add, old + v)
MTL_FETCH(sub, old - v)
MTL_FETCH(min, v < old ? v : old)
MTL_FETCH(max, v > old ? v : old)
MTL_FETCH(and, old & v)
MTL_FETCH(or, old | v)
MTL_FETCH(xor, old ^ v)
#undef MTL_FETCH
#undef MTL_ATOMIC
MTL_INLINE void atomic_thread_fence(mem_flags, memory_order, thread_scope = thread_scope_device) {}

}  // namespace metal
#undef MTL_LINE
