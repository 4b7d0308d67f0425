// Which instruction set to use: the best this machine has, or the one that INSTRUCT_MUSICGEN_ISA names.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "isa_kernels.h"

#if defined(IMN_ARM) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace imn {

#if defined(IMN_X86)
namespace avx512vnni {
extern const IsaKernels table;
}
namespace avx512 {
extern const IsaKernels table;
}
namespace avx2 {
extern const IsaKernels table;
}
#elif defined(IMN_ARM)
namespace neondotprod {
extern const IsaKernels table;
}
namespace neon {
extern const IsaKernels table;
}
#endif
namespace portable {
extern const IsaKernels table;
}

namespace {

#if defined(IMN_ARM)
bool has_dot_products() {
#if defined(__APPLE__)
  return true;  // every Apple silicon
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}
#endif

struct RunnableIsas {
  const IsaKernels* tables[8] = {};
  const char* names[8] = {};
  int count = 0;

  void add(const IsaKernels& table) {
    tables[count] = &table;
    names[count++] = table.name;
  }

  RunnableIsas() {
#if defined(IMN_X86)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (has_avx512 && __builtin_cpu_supports("avx512vnni")) add(avx512vnni::table);
    if (has_avx512) add(avx512::table);
    if (has_avx2) add(avx2::table);  // every processor with AVX2 also converts half floats (F16C)
#elif defined(IMN_ARM)
    if (has_dot_products()) add(neondotprod::table);
    add(neon::table);
#endif
    add(portable::table);
  }

  const IsaKernels* find(const char* name) const {
    if (std::strcmp(name, "auto") == 0) return tables[0];
    for (int i = 0; i < count; ++i) {
      if (std::strcmp(name, names[i]) == 0) return tables[i];
    }
    return nullptr;
  }
};

const RunnableIsas& isas() {
  static const RunnableIsas the;
  return the;
}

std::atomic<const IsaKernels*>& current() {
  // A name that cannot run here is reported by the Python side, which reads the same variable.
  static std::atomic<const IsaKernels*> the{[] {
    const char* name = std::getenv("INSTRUCT_MUSICGEN_ISA");
    const IsaKernels* wanted = name != nullptr ? isas().find(name) : nullptr;
    return wanted != nullptr ? wanted : isas().tables[0];
  }()};
  return the;
}

}  // namespace

const IsaKernels& isa_kernels() { return *current().load(std::memory_order_relaxed); }
bool force_isa(const char* name) {
  const IsaKernels* wanted = isas().find(name);
  if (wanted != nullptr) current().store(wanted);
  return wanted != nullptr;
}
const char* const* runnable_isas() { return isas().names; }

}  // namespace imn
