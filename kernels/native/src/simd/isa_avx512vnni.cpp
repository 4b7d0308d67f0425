// The kernels for avx512vnni; compiled with that level's flags, so nothing else may be defined here.
#include <immintrin.h>

#include "isa_kernels.h"

namespace imn {
namespace {
#include "scalar_math.h"
#include "isa/avx512.h"
#include "table.h"
}  // namespace

extern const Kernels kernels_avx512vnni = table("avx512vnni");

}  // namespace imn
