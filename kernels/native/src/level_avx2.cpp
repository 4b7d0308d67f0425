// The kernels for avx2; compiled with that level's flags, so nothing else may be defined here.
#include <immintrin.h>

#include "kernels.h"

namespace imn {
namespace {
#include "inner/scalar_math.h"
#include "inner/simd_avx2.h"
#include "inner/all.h"
}  // namespace

extern const Kernels kernels_avx2 = table("avx2");

}  // namespace imn
