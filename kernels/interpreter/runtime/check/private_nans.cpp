#include "private_nans.h"
#include "issues.h"
#include "windows.h"

namespace {

// An element whose bytes are all ones: as a float, a NaN that arithmetic never makes by itself.
bool all_ones(const unsigned char* p, unsigned size) {
  for (unsigned i = 0; i < size; i++)
    if (p[i] != 0xff) return false;
  return true;
}

bool holds_all_ones(const Window& w) {
  for (uint64_t at = 0; at + w.region->element <= w.size; at += w.region->element)
    if (all_ones((const unsigned char*)w.start + at, w.region->element)) return true;
  return false;
}

}  // namespace

// clang fills private variables with that NaN: where it comes out, one of them was read before it was assigned.
void find_private_nans() {
  for (auto& i : issues)
    if (i.fault == MTL_OUT_OF_BOUNDS || i.fault == MTL_UNINITIALIZED_READ) return;  // it came from there
  for (unsigned k = 0; k < window_count; k++)
    if (windows[k].region->space != MTL_OUTPUT && windows[k].region->floating && holds_all_ones(windows[k])) return;
  for (unsigned k = 0; k < window_count; k++) {
    Window& w = windows[k];
    const unsigned element = w.region->element;
    if (w.region->space != MTL_OUTPUT || !w.region->floating) continue;
    for (uint64_t at = 0; at + element <= w.size; at += element) {
      const Access& last = w.shadow[at >> w.unit].write;
      if (!bit(w.written, at) || !valid(last.who) || !all_ones((const unsigned char*)w.start + at, element)) continue;
      mtl_issue i = describe(MTL_UNINITIALIZED_READ, last.pc ? image + last.pc : 0);
      i.region = (int)k, i.offset = (int64_t)at, i.size = element, i.write = 1;
      position(group_of(last.who), thread_of(last.who), i.thread);
      add_issue(i);
    }
  }
}
