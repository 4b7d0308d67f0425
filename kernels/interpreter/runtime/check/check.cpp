// Check mode: begins and ends it for a launch. Python calls these (launch.py).
#include "check.h"
#include "accesses.h"
#include "issues.h"
#include "private_nans.h"
#include "windows.h"

#include <cstring>
#include <vector>

namespace {
std::vector<mtl_region> threadgroup_regions;
std::vector<mtl_variable*> variables;
}  // namespace

void* check_allocate(mtl_variable* v) {
  for (size_t i = 0; i < variables.size(); i++)
    if (variables[i] == v) return threadgroup_regions[i].mapped;
  if (variables.size() >= threadgroup_regions.capacity()) abort_run(MTL_THREADGROUP_MEMORY);
  mtl_region r = {};
  r.name = v->name;
  r.size = v->size;
  r.element = 1;
  r.space = MTL_THREADGROUP;
  variables.push_back(v);
  threadgroup_regions.push_back(r);
  if (!open_window(&threadgroup_regions.back())) abort_run(MTL_THREADGROUP_MEMORY);
  return threadgroup_regions.back().mapped;
}

extern "C" {

// Maps the regions (their `mapped` is set). 0: no address space.
int mtl_check_begin(mtl_region* regions, unsigned count) {
  if (!reserve_windows()) return 0;
  issues.clear();
  variables.clear();
  threadgroup_regions.clear();
  threadgroup_regions.reserve(kWindows - count);
  forget_store();
  for (unsigned i = 0; i < count; i++)
    if (!open_window(&regions[i])) return 0;
  return 1;
}

// Ends check mode: fills in the counters, copies outputs out, reports bytes never written. Returns the number of issues.
int mtl_check_end(unsigned count, int complete) {
  settle();
  if (complete && rt.current) find_private_nans();
  rt.current = nullptr;
  for (unsigned k = 0; k < window_count; k++) {
    Window& w = windows[k];
    mtl_region& r = *w.region;
    r.unique_loaded = count_bits(w.read, r.size);
    r.unique_stored = count_bits(w.written, r.size);
    r.multi_writer = count_bits(w.multi, r.size);
    if (r.space == MTL_OUTPUT) {
      if (r.size) std::memcpy(r.data, (void*)w.start, r.size);
      if (complete && !r.initialized && r.unique_stored < r.size) {
        mtl_issue i = describe(MTL_UNWRITTEN_OUTPUT, 0);
        i.region = (int)k;
        i.size = r.size - r.unique_stored;
        while (bit(w.written, (uint64_t)i.offset)) i.offset++;
        add_issue(i);
      }
    }
  }
  close_windows();
  (void)count;
  return (int)issues.size();
}
const mtl_issue* mtl_check_issues() { return issues.data(); }
int mtl_check_issue_count() { return (int)issues.size(); }
void mtl_check_clear() { issues.clear(); }
uint64_t mtl_check_image() { return image; }
int mtl_check_threadgroup_regions(const mtl_region** out) {
  *out = threadgroup_regions.data();
  return (int)threadgroup_regions.size();
}

}  // extern "C"
