// The kernels for portable; compiled with that level's flags, so nothing else may be defined here.
#include "kernels.h"

namespace imn {
namespace {
#include "scalar_math.h"
#include "simd_portable.h"
#include "kernels_impl.h"
}  // namespace

extern const Kernels kernels_portable = table("portable");

}  // namespace imn
