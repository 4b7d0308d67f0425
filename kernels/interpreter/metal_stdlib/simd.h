// <metal_simdgroup>, <metal_quadgroup> and barriers. Each function is a rendezvous of the lanes of a simdgroup: every lane
// puts its value into the exchange, control passes to the next lane, and all read when the last has come. The line of the
// call tells rendezvous apart.
#pragma once
#include "abi.h"
#include "math.h"

#ifndef __clang__
namespace std {
struct source_location {  // what g++ wants to see before it tells a column
  struct __impl { const char *_M_file_name, *_M_function_name; unsigned _M_line, _M_column; };
};
}  // namespace std
#endif

namespace metal {

enum class mem_flags : uint {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16
};
MTL_INLINE constexpr mem_flags operator|(mem_flags a, mem_flags b) { return (mem_flags)((uint)a | (uint)b); }
MTL_INLINE constexpr mem_flags operator&(mem_flags a, mem_flags b) { return (mem_flags)((uint)a & (uint)b); }
enum thread_scope { thread_scope_thread, thread_scope_simdgroup, thread_scope_threadgroup, thread_scope_device };

// A call's place: its line, and above that its column, as several calls may stand on one line.
#ifdef __clang__
#define MTL_LINE int line = mtl_site(__builtin_LINE(), __builtin_COLUMN())
#else
#define MTL_LINE int line = mtl_site(__builtin_source_location())
#endif
MTL_INLINE constexpr int mtl_site(unsigned line, unsigned column) { return (int)(line | (column & 0x3ff) << MTL_LINE_BITS); }
#ifndef __clang__
MTL_INLINE int mtl_site(const void* here) {
  const auto* at = (const std::source_location::__impl*)here;
  return mtl_site(at->_M_line, at->_M_column);
}
#endif
#ifdef MTL_SIMT
#include "simt.h"
#else
MTL_INLINE uint mtl_lane() { return mtl_now.self->lane; }
MTL_INLINE void threadgroup_barrier(mem_flags f, MTL_LINE) { mtl_threadgroup_barrier((uint)f, line); }
MTL_INLINE void threadgroup_barrier(mem_flags f, thread_scope, MTL_LINE) { mtl_threadgroup_barrier((uint)f, line); }
MTL_INLINE void simdgroup_barrier(mem_flags f, MTL_LINE) { mtl_simdgroup_barrier((uint)f, line); }
MTL_INLINE void simdgroup_barrier(mem_flags f, thread_scope, MTL_LINE) { mtl_simdgroup_barrier((uint)f, line); }

// The values of all lanes, as seen by one of them.
template <class T>
struct mtl_lanes {
  const mtl_exchange* e;
  uint self;
  MTL_INLINE uint mask() const { return e->active; }
  MTL_INLINE T operator[](uint lane) const {
    T v;
    __builtin_memcpy(&v, e->slot[lane & 31], sizeof(T));
    return v;
  }
  MTL_INLINE bool active(uint lane) const { return lane < 32 && (e->active >> lane & 1); }
  // The value of a lane that must take part: shuffles that read an inactive lane are undefined in Metal.
  MTL_INLINE T from(uint lane, int line) const {
#ifdef MTL_CHECK
    if (!active(lane)) mtl_report_lane(lane, line);
#endif
    return (*this)[lane];
  }
};
template <class T> MTL_INLINE mtl_lanes<T> mtl_exchanged(T v, int kind, int line) {
  static_assert(sizeof(T) <= 64, "type too large for a simd operation");
  const uint self = mtl_now.self->lane;
  __builtin_memcpy(mtl_now.exchange->slot[self], &v, sizeof(T));
  return {mtl_rendezvous(kind, line), self};
}

// A reduction over the active lanes, as a tree over lane numbers; computed once per rendezvous.
template <class T, class F> MTL_INLINE T mtl_reduce(T v, F f, int line) {
  const auto lanes = mtl_exchanged(v, MTL_SIMD, line);
  mtl_exchange* e = const_cast<mtl_exchange*>(lanes.e);
  T r;
  if (!e->done) {
    T t[32];
    if (e->active == 0xffffffffu) {
      for (uint i = 0; i < 32; i++) t[i] = lanes[i];
      for (uint n = 16; n; n >>= 1)
        for (uint i = 0; i < n; i++) t[i] = f(t[i], t[i + n]);
      r = t[0];
    } else {
      uint n = 0;
      for (uint i = 0; i < 32; i++)
        if (lanes.active(i)) t[n++] = lanes[i];
      while (n > 1) {
        const uint h = (n + 1) / 2;
        for (uint i = 0; i + h < n; i++) t[i] = f(t[i], t[i + h]);
        n = h;
      }
      r = t[0];
    }
    __builtin_memcpy(e->result, &r, sizeof(T));
    e->done = 1;
    return r;
  }
  __builtin_memcpy(&r, e->result, sizeof(T));
  return r;
}
template <class T, class F> MTL_INLINE T mtl_prefix(T v, T first, bool inclusive, F f, int line) {
  const auto lanes = mtl_exchanged(v, MTL_SIMD, line);
  T r = first;
  for (uint i = 0; i < lanes.self + (inclusive ? 1 : 0); i++)
    if (lanes.active(i)) r = f(r, lanes[i]);
  return r;
}
#endif
template <class T, class F> MTL_INLINE T mtl_quad_reduce(T v, F f, int line) {
  const auto lanes = mtl_exchanged(v, MTL_QUAD, line);
  const uint q = lanes.self & ~3u;
  T r = v;
  bool have = false;
  for (uint i = q; i < q + 4; i++)
    if (lanes.active(i)) { r = have ? f(r, lanes[i]) : lanes[i]; have = true; }
  return r;
}

// What Metal's simd functions accept: 8 to 32 bit scalars and their vectors.
template <class T> constexpr bool mtl_simd_scalar = (is_arithmetic_v<T> && sizeof(T) <= 4 && !is_same_v<T, bool>);
template <class T> constexpr bool mtl_simd_type = mtl_simd_scalar<T>;
template <class T, int N> constexpr bool mtl_simd_type<vec<T, N>> = mtl_simd_scalar<T>;
#define MTL_SIMD_T template <class T, enable_if_t<mtl_simd_type<T>, bool> = true> MTL_INLINE T

#define MTL_REDUCE(name, f)                                                                                     \
  MTL_SIMD_T simd_##name(T v, MTL_LINE) { return mtl_reduce(v, [](T a, T b) { return (T)(f); }, line); }        \
  MTL_SIMD_T quad_##name(T v, MTL_LINE) { return mtl_quad_reduce(v, [](T a, T b) { return (T)(f); }, line); }
MTL_REDUCE(sum, a + b)
MTL_REDUCE(product, a * b)
MTL_REDUCE(min, min(a, b))
MTL_REDUCE(max, max(a, b))
MTL_REDUCE(and, a & b)
MTL_REDUCE(or, a | b)
MTL_REDUCE(xor, a ^ b)
#undef MTL_REDUCE
// Metal has no bfloat addition across lanes in bfloat: the sum is made in float and rounded once, as MLX defines it.
MTL_INLINE bfloat simd_sum(bfloat v, MTL_LINE) { return bfloat(simd_sum((float)v, line)); }
MTL_INLINE bfloat simd_product(bfloat v, MTL_LINE) { return bfloat(simd_product((float)v, line)); }

MTL_SIMD_T simd_prefix_inclusive_sum(T v, MTL_LINE) { return mtl_prefix(v, (T)0, true, [](T a, T b) { return (T)(a + b); }, line); }
MTL_SIMD_T simd_prefix_exclusive_sum(T v, MTL_LINE) { return mtl_prefix(v, (T)0, false, [](T a, T b) { return (T)(a + b); }, line); }
MTL_SIMD_T simd_prefix_inclusive_product(T v, MTL_LINE) { return mtl_prefix(v, (T)1, true, [](T a, T b) { return (T)(a * b); }, line); }
MTL_SIMD_T simd_prefix_exclusive_product(T v, MTL_LINE) { return mtl_prefix(v, (T)1, false, [](T a, T b) { return (T)(a * b); }, line); }

MTL_SIMD_T simd_broadcast(T v, ushort lane, MTL_LINE) { return mtl_exchanged(v, MTL_SIMD, line).from(lane, line); }
MTL_SIMD_T simd_broadcast_first(T v, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_SIMD, line);
  return lanes[(uint)__builtin_ctz(lanes.mask())];
}
MTL_SIMD_T simd_shuffle(T v, ushort lane, MTL_LINE) { return mtl_exchanged(v, MTL_SIMD, line).from(lane, line); }
MTL_SIMD_T simd_shuffle_xor(T v, ushort mask, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_SIMD, line);
  return lanes.from(lanes.self ^ mask, line);
}
// Values do not wrap: lanes without a source keep their own.
MTL_SIMD_T simd_shuffle_down(T v, ushort delta, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_SIMD, line);
  return lanes.self + delta < 32 ? lanes.from(lanes.self + delta, line) : v;
}
MTL_SIMD_T simd_shuffle_up(T v, ushort delta, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_SIMD, line);
  return lanes.self >= delta ? lanes.from(lanes.self - delta, line) : v;
}
MTL_SIMD_T simd_shuffle_rotate_down(T v, ushort delta, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_SIMD, line);
  return lanes.from((lanes.self + delta) & 31, line);
}
MTL_SIMD_T simd_shuffle_rotate_up(T v, ushort delta, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_SIMD, line);
  return lanes.from((lanes.self - delta) & 31, line);
}
template <class T> struct mtl_two { T v, fill; };
template <class T, enable_if_t<mtl_simd_type<T>, bool> = true>
MTL_INLINE T simd_shuffle_and_fill_down(T v, T fill, ushort delta, ushort modulo, MTL_LINE) {
  const auto lanes = mtl_exchanged(mtl_two<T>{v, fill}, MTL_SIMD, line);
  const uint in = lanes.self & (modulo - 1u), base = lanes.self - in;
  return in + delta < modulo ? lanes.from(base + in + delta, line).v : lanes.from(base + in + delta - modulo, line).fill;
}
MTL_SIMD_T simd_shuffle_and_fill_down(T v, T fill, ushort delta, MTL_LINE) { return simd_shuffle_and_fill_down(v, fill, delta, (ushort)32, line); }
template <class T, enable_if_t<mtl_simd_type<T>, bool> = true>
MTL_INLINE T simd_shuffle_and_fill_up(T v, T fill, ushort delta, ushort modulo, MTL_LINE) {
  const auto lanes = mtl_exchanged(mtl_two<T>{v, fill}, MTL_SIMD, line);
  const uint in = lanes.self & (modulo - 1u), base = lanes.self - in;
  return in >= delta ? lanes.from(base + in - delta, line).v : lanes.from(base + in + modulo - delta, line).fill;
}
MTL_SIMD_T simd_shuffle_and_fill_up(T v, T fill, ushort delta, MTL_LINE) { return simd_shuffle_and_fill_up(v, fill, delta, (ushort)32, line); }

MTL_INLINE bool simd_all(bool x, MTL_LINE) { return mtl_reduce((uint)x, [](uint a, uint b) { return a & b; }, line); }
MTL_INLINE bool simd_any(bool x, MTL_LINE) { return mtl_reduce((uint)x, [](uint a, uint b) { return a | b; }, line); }
MTL_INLINE bool quad_all(bool x, MTL_LINE) { return mtl_quad_reduce((uint)x, [](uint a, uint b) { return a & b; }, line); }
MTL_INLINE bool quad_any(bool x, MTL_LINE) { return mtl_quad_reduce((uint)x, [](uint a, uint b) { return a | b; }, line); }
struct simd_vote {
  typedef ulong vote_t;
  vote_t v;
  MTL_INLINE explicit simd_vote(vote_t x = 0) : v(x) {}
  MTL_INLINE explicit operator vote_t() const { return v; }
  MTL_INLINE bool all() const { return v == 0xffffffffu; }
  MTL_INLINE bool any() const { return v != 0; }
};
MTL_INLINE simd_vote simd_ballot(bool x, MTL_LINE) {
  const uint bit = (uint)x << mtl_lane();
  return simd_vote(mtl_reduce(bit, [](uint a, uint b) { return a | b; }, line));
}
MTL_INLINE simd_vote simd_active_threads_mask(MTL_LINE) { return simd_ballot(true, line); }
MTL_INLINE bool simd_is_first(MTL_LINE) {
  const auto lanes = mtl_exchanged((uint)0, MTL_SIMD, line);
  return lanes.self == (uint)__builtin_ctz(lanes.mask());
}
MTL_INLINE bool simd_is_helper_thread() { return false; }

MTL_SIMD_T quad_broadcast(T v, ushort lane, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_QUAD, line);
  return lanes.from((lanes.self & ~3u) + lane, line);
}
MTL_SIMD_T quad_shuffle(T v, ushort lane, MTL_LINE) { return quad_broadcast(v, lane, line); }
MTL_SIMD_T quad_shuffle_xor(T v, ushort mask, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_QUAD, line);
  return lanes.from(lanes.self ^ (mask & 3u), line);
}
MTL_SIMD_T quad_shuffle_down(T v, ushort delta, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_QUAD, line);
  return (lanes.self & 3u) + delta < 4 ? lanes.from(lanes.self + delta, line) : v;
}
MTL_SIMD_T quad_shuffle_up(T v, ushort delta, MTL_LINE) {
  const auto lanes = mtl_exchanged(v, MTL_QUAD, line);
  return (lanes.self & 3u) >= delta ? lanes.from(lanes.self - delta, line) : v;
}
MTL_INLINE uint __metal_get_thread_index_in_simdgroup(ushort = 0) { return mtl_lane(); }
MTL_INLINE ushort __metal_get_simdgroup_size(ushort = 0) { return 32; }
#undef MTL_SIMD_T

}  // namespace metal
