// The name of the instruction set that this file is compiled for: the namespace that everything in simd/ lives in, so
// that a template compiled with one set's flags is never the copy that the linker keeps for another.
//
// CMakeLists.txt compiles isa_table.cpp once for each set, with -DIMN_ISA_<SET>; without one it is the portable set.
#pragma once

#if defined(IMN_ISA_AVX512VNNI)
#define IMN_ISA avx512vnni
#elif defined(IMN_ISA_AVX512)
#define IMN_ISA avx512
#elif defined(IMN_ISA_AVX2)
#define IMN_ISA avx2
#elif defined(IMN_ISA_NEONDOTPROD)
#define IMN_ISA neondotprod
#elif defined(IMN_ISA_NEON)
#define IMN_ISA neon
#else
#define IMN_ISA portable
#endif
