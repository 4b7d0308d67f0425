// The kernels for neon; compiled with that level's flags, so nothing else may be defined here.
#include <arm_neon.h>

#include "isa_kernels.h"

namespace imn {
namespace {
#include "scalar_math.h"
#include "isa/neon.h"
#include "table.h"
}  // namespace

extern const Kernels kernels_neon = table("neon");

}  // namespace imn
