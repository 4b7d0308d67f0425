// The kernels for neon; compiled with that level's flags, so nothing else may be defined here.
#include <arm_neon.h>

#include "kernels.h"

namespace imn {
namespace {
#include "scalar_math.h"
#include "simd_neon.h"
#include "kernels_impl.h"
}  // namespace

extern const Kernels kernels_neon = table("neon");

}  // namespace imn
