// The kernels for portable; compiled with that level's flags, so nothing else may be defined here.
#include "kernels.h"

namespace imn {
namespace {
#include "inner/scalar_math.h"
#include "inner/simd_portable.h"
#include "inner/all.h"
}  // namespace

extern const Kernels kernels_portable = table("portable");

}  // namespace imn
