// The kernels for neon; compiled with that level's flags, so nothing else may be defined here.
#include <arm_neon.h>

#include "kernels.h"

namespace imn {
namespace {
#include "inner/scalar_math.h"
#include "inner/simd_neon.h"
#include "inner/all.h"
}  // namespace

extern const Kernels kernels_neon = table("neon");

}  // namespace imn
