// Which instruction set to use: the best this machine has, or the one that INSTRUCT_MUSICGEN_ISA names.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "isa_kernels.h"

namespace imn {

#if defined(IMN_X86)
extern const Kernels kernels_avx512vnni, kernels_avx512, kernels_avx2;
#elif defined(IMN_ARM)
extern const Kernels kernels_neon;
#endif
extern const Kernels kernels_portable;

namespace {

struct Levels {
  const Kernels* runnable[8] = {};
  const char* names[8] = {};
  int count = 0;

  void add(const Kernels& level) {
    runnable[count] = &level;
    names[count++] = level.name;
  }

  Levels() {
#if defined(IMN_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512 && __builtin_cpu_supports("avx512vnni")) add(kernels_avx512vnni);
    if (avx512) add(kernels_avx512);
    if (avx2) add(kernels_avx2);  // every processor with AVX2 also converts half floats (F16C)
#elif defined(IMN_ARM)
    add(kernels_neon);
#endif
    add(kernels_portable);
  }

  const Kernels* find(const char* name) const {
    if (std::strcmp(name, "auto") == 0) return runnable[0];
    for (int i = 0; i < count; ++i) {
      if (std::strcmp(name, names[i]) == 0) return runnable[i];
    }
    return nullptr;
  }
};

const Levels& levels() {
  static const Levels the;
  return the;
}

std::atomic<const Kernels*>& current() {
  // A name that cannot run here is reported by the Python side, which reads the same variable.
  static std::atomic<const Kernels*> the{[] {
    const char* name = std::getenv("INSTRUCT_MUSICGEN_ISA");
    const Kernels* wanted = name != nullptr ? levels().find(name) : nullptr;
    return wanted != nullptr ? wanted : levels().runnable[0];
  }()};
  return the;
}

}  // namespace

const Kernels& kernels() {
  return *current().load(std::memory_order_relaxed);
}
bool force_level(const char* name) {
  const Kernels* wanted = levels().find(name);
  if (wanted != nullptr) current().store(wanted);
  return wanted != nullptr;
}
const char* const* runnable_levels() {
  return levels().names;
}

}  // namespace imn
