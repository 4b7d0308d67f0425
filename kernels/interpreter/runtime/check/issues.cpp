#include "issues.h"

#include <cstring>
#include <link.h>

std::vector<mtl_issue> issues;
uintptr_t image, image_end;

namespace {

constexpr unsigned kMaxIssues = 256;

int holds(dl_phdr_info* info, size_t, void* entry) {
  uintptr_t low = ~(uintptr_t)0, high = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
    const uintptr_t a = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, b = a + info->dlpi_phdr[i].p_memsz;
    low = a < low ? a : low, high = b > high ? b : high;
  }
  if ((uintptr_t)entry < low || (uintptr_t)entry >= high) return 0;
  image = info->dlpi_addr, image_end = high;
  return 1;
}

}  // namespace

void find_image(void* entry) { dl_iterate_phdr(holds, entry); }

mtl_issue describe(int fault, uintptr_t pc) {
  mtl_issue i = {};
  i.fault = fault;
  i.region = -1;
  i.pc = pc;
  if (rt.current) {
    std::memcpy(i.thread, rt.current->self.position_in_grid, sizeof i.thread);
    std::memcpy(i.group, rt.current->self.threadgroup_position, sizeof i.group);
  }
  return i;
}

int add_issue(mtl_issue issue) {
  constexpr int kLine = (1 << MTL_LINE_BITS) - 1;
  issue.line &= kLine;
  if (issue.other_line > 0) issue.other_line &= kLine;
  for (size_t i = 0; i < issues.size(); i++) {
    mtl_issue& o = issues[i];
    if (o.fault == issue.fault && o.line == issue.line && o.pc == issue.pc && o.region == issue.region) {
      o.count++;
      return (int)i;
    }
  }
  if (issues.size() >= kMaxIssues) return -1;
  issue.count = 1;
  issues.push_back(issue);
  return (int)issues.size() - 1;
}

void no_progress(uintptr_t pc, int line) {
  mtl_issue i = describe(MTL_NO_PROGRESS, pc);
  i.line = line;
  i.size = rt.launch->seconds;
  add_issue(i);
  abort_run(MTL_ABORTED);
}

void position(uint64_t group, unsigned thread, uint32_t out[3]) {
  const mtl_thread& t = rt.current->self;
  uint64_t rest = group;
  unsigned dims[3], at[3];
  for (int d = 0; d < 3; d++) {
    at[d] = (unsigned)(rest % t.threadgroups_per_grid[d]);
    rest /= t.threadgroups_per_grid[d];
    const unsigned left = t.threads_per_grid[d] - at[d] * t.dispatch_threads_per_threadgroup[d];
    dims[d] = left < t.dispatch_threads_per_threadgroup[d] ? left : t.dispatch_threads_per_threadgroup[d];
  }
  const unsigned p[3] = {thread % dims[0], thread / dims[0] % dims[1], thread / (dims[0] * dims[1])};
  for (int d = 0; d < 3; d++) out[d] = at[d] * t.dispatch_threads_per_threadgroup[d] + p[d];
}
