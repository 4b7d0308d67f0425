#include "huge_pages.h"

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "pool.h"

#if defined(__linux__)
#include <sys/mman.h>
#if !defined(MADV_COLLAPSE)
#define MADV_COLLAPSE 25  // Linux 6.1
#endif
#endif

namespace imn {

#if defined(__linux__)

void use_huge_pages(const void* data, size_t bytes) {
  constexpr uintptr_t kHuge = uintptr_t(2) << 20;
  const uintptr_t start = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (start + kHuge - 1) / kHuge * kHuge, end = (start + bytes) / kHuge * kHuge;
  if (begin >= end) return;
  {
    static std::mutex mutex;
    static std::unordered_map<uintptr_t, uintptr_t> asked;
    std::lock_guard<std::mutex> lock(mutex);
    uintptr_t& before = asked[begin];
    if (before == end) return;
    before = end;
  }
  parallel_for(int((end - begin) / kHuge), [&](int i) {
    void* page = reinterpret_cast<void*>(begin + uintptr_t(i) * kHuge);
    // Refused by older systems, which can be asked to do it in their own time, and where memory is short.
    if (madvise(page, kHuge, MADV_COLLAPSE) != 0) madvise(page, kHuge, MADV_HUGEPAGE);
  });
}

#else

void use_huge_pages(const void*, size_t) {}

#endif

}  // namespace imn
