// The kernels for avx512vnni; compiled with that level's flags, so nothing else may be defined here.
#include <immintrin.h>

#include "kernels.h"

namespace imn {
namespace {
#include "inner/scalar_math.h"
#include "inner/simd_avx512.h"
#include "inner/all.h"
}  // namespace

extern const Kernels kernels_avx512vnni = table("avx512vnni");

}  // namespace imn
