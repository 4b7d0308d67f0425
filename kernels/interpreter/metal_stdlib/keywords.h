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
#define __METAL_VERSION__ 310
#define __HAVE_BFLOAT__ 1
#define __METAL_MEMORY_SCOPE_SYSTEM__ 4

namespace metal {
template <class T> MTL_INLINE constexpr bool is_function_constant_defined(const T&) { return false; }

// The address that all threads of the threadgroup share for one declaration.
template <class T> MTL_INLINE T& mtl_threadgroup(mtl_variable& v) {
  if (v.generation != mtl_now.generation) mtl_allocate(&v);
  return *(T*)v.memory;
}
template <class T> MTL_INLINE uint3 mtl_uint3(const T& v) { return uint3(v[0], v[1], v[2]); }
}  // namespace metal
