#include "pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>

#include "pool.h"

namespace imn {
namespace {

constexpr size_t kHuge = 2 << 20;
constexpr size_t kArena = 64 << 20;

// A mapping that several matrices share, one behind the other, so that all of its pages can be huge; unmapped with the last
// of them. It stands at its own beginning.
struct Arena {
  size_t matrices, size, used, touched;

  static Arena* make(size_t bytes) {
    const size_t size = (bytes + kHuge - 1) / kHuge * kHuge, room = size + kHuge;
    void* got = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got == MAP_FAILED) throw std::bad_alloc();
    const uintptr_t from = reinterpret_cast<uintptr_t>(got), start = (from + kHuge - 1) / kHuge * kHuge;
    if (start > from) munmap(got, start - from);
    if (from + room > start + size) munmap(reinterpret_cast<void*>(start + size), from + room - start - size);
#if defined(MADV_HUGEPAGE)
    madvise(reinterpret_cast<void*>(start), size, MADV_HUGEPAGE);
#endif
    Arena* arena = new (reinterpret_cast<void*>(start)) Arena;
    arena->matrices = 0, arena->size = size, arena->used = sizeof(Arena), arena->touched = kHuge;
    return arena;
  }
  char* at(size_t offset) { return reinterpret_cast<char*>(this) + offset; }
};

// Of the arena that `data` lies in: where its header begins.
Arena*& arena_of(char* data) { return *reinterpret_cast<Arena**>(data - kPageHeader); }

std::mutex filling;
Arena* current = nullptr;  // what is filled now

}  // namespace

Pages allocate_pages(size_t bytes) {
  const size_t need = (bytes + 63) / 64 * 64 + kPageHeader;
  std::lock_guard<std::mutex> lock(filling);
  if (current == nullptr || current->size - current->used < need) {
    current = Arena::make(std::max(kArena, need + 2 * kPageHeader));
  }
  Arena* arena = current;
  ++arena->matrices;
  const size_t at = (arena->used + 63) / 64 * 64 + kPageHeader;
  arena->used = at + bytes;
  // The page of the header is touched here, those behind it by `touch`.
  const size_t first = std::max(arena->touched, (at + kHuge - 1) / kHuge * kHuge);
  arena->touched = std::max(first, (arena->used + kHuge - 1) / kHuge * kHuge);
  char* data = arena->at(at);
  arena_of(data) = arena;
  return {data, arena->at(first), int((arena->touched - first) / kHuge)};
}

void Pages::touch() const {
  // No two threads at the same page.
  parallel_for(count, [this](int page) { *static_cast<volatile char*>(fresh + size_t(page) * kHuge) = 0; });
}

void free_pages(void* data) {
  Arena* arena = arena_of(static_cast<char*>(data));
  std::lock_guard<std::mutex> lock(filling);
  if (--arena->matrices > 0) return;
  if (arena == current) current = nullptr;
  munmap(arena, arena->size);
}

}  // namespace imn
