// Functions that a SIMT target's compiler would call from a library that isn't there, as short code of about the length
// that a GPU has for them. Only where code is looked at (registers/): their values are never used.
#pragma once

namespace metal {
template <class T, int Columns, int Rows> struct simdgroup_matrix;  // which the target lacks: headers may name it
inline __attribute__((always_inline)) float mtl_simt_function(float x) {
  const float e = __builtin_exp2f(x * 1.442695f);
  return (e - x) / (e + 1.0f);
}
}  // namespace metal

#define __builtin_tanhf(x) metal::mtl_simt_function(x)
#define __builtin_sinhf(x) metal::mtl_simt_function(x)
#define __builtin_coshf(x) metal::mtl_simt_function(x)
#define __builtin_tanf(x) metal::mtl_simt_function(x)
#define __builtin_asinf(x) metal::mtl_simt_function(x)
#define __builtin_acosf(x) metal::mtl_simt_function(x)
#define __builtin_atanf(x) metal::mtl_simt_function(x)
#define __builtin_asinhf(x) metal::mtl_simt_function(x)
#define __builtin_acoshf(x) metal::mtl_simt_function(x)
#define __builtin_atanhf(x) metal::mtl_simt_function(x)
#define __builtin_atan2f(x, y) metal::mtl_simt_function((x) / (y))
#define __builtin_fmodf(x, y) ((x) - (y) * __builtin_truncf((x) / (y)))
#define __builtin_powf(x, y) __builtin_exp2f((y) * __builtin_log2f(x))
#define __builtin_ldexpf(x, n) ((x) * __builtin_exp2f((float)(n)))
#define __builtin_ilogbf(x) ((int)__builtin_log2f(x))
#define __builtin_frexpf(x, n) (*(n) = (int)__builtin_log2f(x), (x) * __builtin_exp2f(-(float)*(n)))
#define __builtin_nextafterf(x, y) ((x) + ((y) - (x)) * 1e-7f)
#define __builtin_expf(x) __builtin_exp2f((x) * 1.44269504f)
#define __builtin_logf(x) (__builtin_log2f(x) * 0.693147181f)
#define __builtin_log10f(x) (__builtin_log2f(x) * 0.301029996f)
