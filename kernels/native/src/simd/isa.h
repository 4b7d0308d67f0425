// The vector operations of the instruction set that this file is compiled for; isa/portable.h says what each one does.
#pragma once

#include "isa_kernels.h"
#include "isa_name.h"

#if defined(IMN_ISA_AVX512VNNI) || defined(IMN_ISA_AVX512)
#include "isa/avx512.h"
#elif defined(IMN_ISA_AVX2)
#include "isa/avx2.h"
#elif defined(IMN_ISA_NEON) || defined(IMN_ISA_NEONDOTPROD)
#include "isa/neon.h"
#else
#include "isa/portable.h"
#endif
