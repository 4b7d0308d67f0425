#include "pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace imn {
namespace {

constexpr size_t kHuge = 2 << 20;
constexpr size_t kPage = 64 << 10;  // a multiple of every system's pages

size_t mapped(size_t bytes) { return (bytes + kPageHeader + kPage - 1) / kPage * kPage; }

}  // namespace

void* allocate_pages(size_t bytes) {
  const size_t size = mapped(bytes), room = size + kHuge;
  void* got = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (got == MAP_FAILED) throw std::bad_alloc();
  const uintptr_t from = reinterpret_cast<uintptr_t>(got), start = (from + kHuge - 1) / kHuge * kHuge;
  if (start > from) munmap(got, start - from);
  if (from + room > start + size) munmap(reinterpret_cast<void*>(start + size), from + room - start - size);
  char* base = reinterpret_cast<char*>(start);
#if defined(MADV_HUGEPAGE)
  madvise(base, size / kHuge * kHuge, MADV_HUGEPAGE);  // only what fills whole ones, so that nothing is wasted
#endif
  return base + kPageHeader;
}

void free_pages(void* data, size_t bytes) { munmap(static_cast<char*>(data) - kPageHeader, mapped(bytes)); }

}  // namespace imn
