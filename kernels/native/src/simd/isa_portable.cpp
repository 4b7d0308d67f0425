// The kernels for portable; compiled with that level's flags, so nothing else may be defined here.
#include "isa_kernels.h"

namespace imn {
namespace {
#include "scalar_math.h"
#include "isa/portable.h"
#include "table.h"
}  // namespace

extern const Kernels kernels_portable = table("portable");

}  // namespace imn
