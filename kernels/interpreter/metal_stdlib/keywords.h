// Metal's keywords. Address spaces vanish: the rewriter has already made `constant` into `const` and threadgroup
// variables into arena references; the lint checks the spaces themselves. Last of all: what Metal lacks is poisoned.
#pragma once

#define device
#define thread
#define threadgroup
#define kernel
#define METAL_FUNC inline __attribute__((always_inline))
#define METAL_INTERNAL inline __attribute__((always_inline))
#define METAL_CONST const
#define __METAL__ 1
#ifdef MTL_METAL_VERSION
#define __METAL_VERSION__ MTL_METAL_VERSION
#else
#define __METAL_VERSION__ 310
#endif
#define __HAVE_BFLOAT__ 1
#define __METAL_MEMORY_SCOPE_SYSTEM__ 4

namespace metal {
template <class T> MTL_INLINE constexpr bool is_function_constant_defined(const T&) { return false; }

struct os_log {  // nothing is logged
  constexpr os_log(const char*, const char*) {}
#define MTL_LOG(name) template <class... T> MTL_INLINE void name(const char*, T...) const {}
  MTL_LOG(log) MTL_LOG(log_debug) MTL_LOG(log_info) MTL_LOG(log_error) MTL_LOG(log_fault)
#undef MTL_LOG
};

#ifdef MTL_SIMT
// Of unknown size, so that the compiler does not reckon with fewer threads at a time because of it.
#define MTL_THREADGROUP(name, qualifiers)                                    \
  extern __attribute__((shared)) unsigned char mtl_slot_##name[];            \
  qualifiers mtl_type_##name& name = *(mtl_type_##name*)mtl_slot_##name
#else
#define MTL_THREADGROUP(name, qualifiers)                                                             \
  static mtl_variable mtl_slot_##name = {                                                             \
      #name, sizeof(mtl_type_##name), alignof(mtl_type_##name), __LINE__, 0, nullptr};                 \
  qualifiers mtl_type_##name& name = metal::mtl_threadgroup<mtl_type_##name>(mtl_slot_##name)
// The address that all threads of the threadgroup share for one declaration.
template <class T> MTL_INLINE T& mtl_threadgroup(mtl_variable& v) {
  if (v.generation != mtl_now.generation) mtl_allocate(&v);
  return *(T*)v.memory;
}
#endif
template <class T> MTL_INLINE uint3 mtl_uint3(const T& v) { return uint3(v[0], v[1], v[2]); }
}  // namespace metal
