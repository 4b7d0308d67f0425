#include "windows.h"

#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

Window windows[kWindows];
unsigned window_count, window_shift;
uintptr_t space;

namespace {

std::vector<std::pair<uintptr_t, size_t>> opened;  // pages made accessible for an out-of-bounds access

template <class T> T* zeroed(uint64_t n) { return (T*)std::calloc(n ? n : 1, sizeof(T)); }

void take_back(uintptr_t from, size_t size) {
  mmap((void*)from, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

}  // namespace

bool reserve_windows() {
  opened.clear();
  window_count = 0;
  if (space) return true;
  for (window_shift = MTL_LARGEST_WINDOW; window_shift >= 26; window_shift -= 2) {
    void* p = mmap(nullptr, (size_t)kWindows << window_shift, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) {
      // Windows begin at multiples of their size, so that addresses tell alignment too.
      space = (uintptr_t)p;
      return true;
    }
  }
  return false;
}

// The end of the memory is the end of a page, as nearly as alignment allows.
bool open_window(mtl_region* r) {
  if (window_count >= kWindows) return false;
  const uint64_t half = (uint64_t)1 << (window_shift - 1);
  if (r->size > half / 2) return false;
  Window& w = windows[window_count];
  w = {};
  const uintptr_t end = space + ((uintptr_t)window_count << window_shift) + half;
  w.region = r;
  w.size = r->size;
  w.start = (end - r->size) & ~(uintptr_t)15;
  const uintptr_t page = w.start & ~(uintptr_t)4095;
  if (end > page && mprotect((void*)page, end - page, PROT_READ | PROT_WRITE) != 0) return false;
  if (end > page) std::memset((void*)page, 0xff, end - page);
  if (r->data && r->size && (r->space == MTL_INPUT || r->initialized)) std::memcpy((void*)w.start, r->data, r->size);
  w.read = zeroed<uint8_t>(r->size / 8 + 2);
  w.written = zeroed<uint8_t>(r->size / 8 + 2);
  w.multi = zeroed<uint8_t>(r->size / 8 + 16);
  if (r->space != MTL_INPUT) {
    // Bytes, as kernels may write an element piece by piece; elements where that would take too much memory.
    w.unit = r->size > (4u << 20) ? (unsigned)__builtin_ctz(r->element ? r->element : 1) : 0;
    w.shadow = zeroed<Shadow>((r->size >> w.unit) + 1);
    if (!w.shadow) return false;
  }
  if (!w.read || !w.written || !w.multi) return false;
  r->mapped = (void*)w.start;
  r->loaded = r->stored = r->unique_loaded = r->unique_stored = r->multi_writer = 0;
  window_count++;
  return true;
}

// Memory of nobody, to go on with after the report.
void open_pages(const Window& w, uintptr_t address, uint64_t size) {
  const uintptr_t page = address & ~(uintptr_t)4095, end = (address + size + 4095) & ~(uintptr_t)4095;
  if (opened.size() > 4096) abort_run(MTL_ABORTED);
  for (uintptr_t p = page; p < end; p += 4096) {
    if (p + 4096 > (w.start & ~(uintptr_t)4095) && p < w.start + w.size) continue;
    bool known = false;
    for (auto& o : opened) known |= o.first == p;
    if (known) continue;
    if (mprotect((void*)p, 4096, PROT_READ | PROT_WRITE) != 0) abort_run(MTL_ABORTED);
    std::memset((void*)p, 0xff, 4096);
    opened.push_back({p, 4096});
  }
}

void locate(const void* address, mtl_issue* issue) {
  const uintptr_t index = ((uintptr_t)address - space) >> window_shift;
  if (index >= window_count) return;
  issue->region = (int)index;
  issue->offset = (int64_t)((uintptr_t)address - windows[index].start);
}

void close_windows() {
  for (unsigned k = 0; k < window_count; k++) {
    Window& w = windows[k];
    std::free(w.shadow);
    std::free(w.read);
    std::free(w.written);
    std::free(w.multi);
    const uintptr_t page = w.start & ~(uintptr_t)4095, end = (w.start + w.size + 4095) & ~(uintptr_t)4095;
    // The window's last page can lie beyond start + size when size is not a multiple of the alignment.
    const uintptr_t window_end = space + ((uintptr_t)k << window_shift) + ((uint64_t)1 << (window_shift - 1));
    const uintptr_t upto = end > window_end ? end : window_end;
    if (upto > page) take_back(page, upto - page);
  }
  for (auto& o : opened) take_back(o.first, o.second);
}
