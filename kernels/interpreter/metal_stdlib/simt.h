// Barriers and lanes where a kernel is compiled for a SIMT processor to look at its code (registers/): included by simd.h,
// inside its namespace, in place of the fibers' rendezvous. The shape is what counts: a shuffle is one instruction, a
// reduction five.

MTL_INLINE uint mtl_lane() { return __builtin_amdgcn_mbcnt_lo(~0u, 0u); }

MTL_INLINE void threadgroup_barrier(mem_flags, MTL_LINE) {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
MTL_INLINE void threadgroup_barrier(mem_flags f, thread_scope, MTL_LINE) { threadgroup_barrier(f, line); }
MTL_INLINE void simdgroup_barrier(mem_flags, MTL_LINE) { __builtin_amdgcn_wave_barrier(); }
MTL_INLINE void simdgroup_barrier(mem_flags f, thread_scope, MTL_LINE) { simdgroup_barrier(f, line); }

template <class T>
struct mtl_lanes {
  T own;
  uint self;
  MTL_INLINE T operator[](uint lane) const {
    int words[(sizeof(T) + 3) / 4] = {};
    __builtin_memcpy(words, &own, sizeof(T));
    for (int& word : words) word = __builtin_amdgcn_ds_bpermute((int)(lane << 2), word);
    T v;
    __builtin_memcpy(&v, words, sizeof(T));
    return v;
  }
  MTL_INLINE uint mask() const { return __builtin_amdgcn_ballot_w32(true); }
  MTL_INLINE bool active(uint lane) const { return mask() >> lane & 1; }
  MTL_INLINE T from(uint lane, int) const { return (*this)[lane]; }
};
template <class T> MTL_INLINE mtl_lanes<T> mtl_exchanged(T v, int, int) { return {v, mtl_lane()}; }

template <class T, class F> MTL_INLINE T mtl_reduce(T v, F f, int) {
#pragma unroll
  for (uint offset = 1; offset < 32; offset *= 2) v = f(v, mtl_lanes<T>{v, mtl_lane()}[mtl_lane() ^ offset]);
  return v;
}
template <class T, class F> MTL_INLINE T mtl_prefix(T v, T first, bool inclusive, F f, int) {
#pragma unroll
  for (uint offset = 1; offset < 32; offset *= 2) {
    const T before = mtl_lanes<T>{v, mtl_lane()}[mtl_lane() - offset];
    if (mtl_lane() >= offset) v = f(v, before);
  }
  if (inclusive) return v;
  const T before = mtl_lanes<T>{v, mtl_lane()}[mtl_lane() - 1];
  return mtl_lane() ? before : first;
}
