// The kernels for avx2; compiled with that level's flags, so nothing else may be defined here.
#include <immintrin.h>

#include "isa_kernels.h"

namespace imn {
namespace {
#include "scalar_math.h"
#include "isa/avx2.h"
#include "table.h"
}  // namespace

extern const Kernels kernels_avx2 = table("avx2");

}  // namespace imn
