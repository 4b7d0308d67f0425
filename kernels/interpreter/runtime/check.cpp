// Check mode: every access of the kernel to memory comes here (from hooks.cpp). Buffers lie in windows of a large reserved
// range, so an address tells its buffer, and an access that misses is reported with the buffer it meant. Threads run one
// after another; what would be a race on a GPU is found by remembering who touched each unit of memory since which
// barrier (shadow.h).
#include "check.h"
#include "shadow.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <sys/mman.h>
#include <vector>

namespace {

constexpr unsigned kWindows = 128, kMaxIssues = 256;
unsigned window_shift;
uintptr_t space;  // the reserved range
uintptr_t image, image_end;

struct Window {
  mtl_region* region;
  uintptr_t start;
  uint64_t size;
  Shadow* shadow;        // outputs and threadgroup memory
  uint64_t shadow_count;
  unsigned unit;         // log2 of the bytes per shadow
  uint8_t *read, *written, *multi;  // a bit per byte
};
Window windows[kWindows];
unsigned window_count;
std::vector<mtl_region> threadgroup_regions;
std::vector<mtl_variable*> variables;
std::vector<mtl_issue> issues;
std::vector<std::pair<uintptr_t, size_t>> opened;  // pages made accessible for an out-of-bounds access

// A store over another thread's store: harmless if it stores the same bytes, which is known once it has happened.
struct {
  bool active;
  uintptr_t address;
  unsigned size;
  unsigned char before[64];
  mtl_issue issue;
} pending;

const mtl_thread& self() { return rt.current->self; }

void position(uint64_t group, unsigned thread, uint32_t out[3]) {
  const mtl_thread& t = self();
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

void settle() {
  pending.active = false;
  if (std::memcmp((void*)pending.address, pending.before, pending.size) == 0) return;
  add_issue(pending.issue);
}

mtl_issue conflict(const Window& w, unsigned index, uint64_t mine, const Access& other, uint64_t offset, uint64_t size, bool write,
                   uintptr_t pc) {
  const bool across = group_of(mine) != group_of(other.who);
  mtl_issue i = describe(across ? MTL_CROSS_THREADGROUP : MTL_RACE, pc);
  i.region = (int)index;
  i.write = write;
  i.offset = (int64_t)offset;
  i.size = size;
  i.other_pc = other.pc ? image + other.pc : 0;
  i.other_group = (uint32_t)group_of(other.who);
  position(group_of(other.who), thread_of(other.who), i.other_thread);
  (void)w;
  return i;
}

void out_of_bounds(unsigned index, uintptr_t address, uint64_t size, bool write, uintptr_t pc, int line) {
  const Window& w = windows[index];
  mtl_issue i = describe(MTL_OUT_OF_BOUNDS, pc);
  i.region = index < window_count ? (int)index : -1;
  i.write = write, i.line = line;
  i.offset = (int64_t)(address - w.start);
  i.size = size;
  add_issue(i);
  // Let the access happen, in memory of nobody, and go on.
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

// The heart: an access to memory that threads share.
__attribute__((noinline)) void tracked(Window& w, unsigned index, uint64_t offset, uint64_t size, bool write, mtl_atomicity atomic,
                                       uintptr_t pc, int line) {
  const bool shared = w.region->space == MTL_THREADGROUP;
  const uint64_t me = who_am_i(shared ? 1 : 0, atomic != MTL_PLAIN);
  const uint64_t as_writer = atomic == MTL_ATOMIC_STORE ? plain(me) : me;
  const uint32_t here = pc >= image && pc < image_end ? (uint32_t)(pc - image) : 0;
  bool uninitialised = false, over = false;
  const Access* clash = nullptr;
  const uint64_t last = (offset + size - 1) >> w.unit;
  for (uint64_t u = offset >> w.unit; u <= last; u++) {
    Shadow& s = w.shadow[u];
    const bool stale = shared && group_of(s.write.who) != group_of(me);
    const bool stale_read = shared && group_of(s.read.who) != group_of(me);
    const bool stale_read2 = shared && group_of(s.read2.who) != group_of(me);
    if (!write) {
      if (!valid(s.write.who) || stale) {
        uninitialised |= !w.region->initialised;
      } else if (concurrent(s.write.who, me)) {
        clash = &s.write;
      }
      if (valid(s.read.who) && !stale_read && (thread_of(s.read.who) != thread_of(me) || group_of(s.read.who) != group_of(me))) {
        // Keep two readers, of two simdgroups if there are, so that any later writer meets one that isn't itself.
        const bool other_group = thread_of(s.read.who) / kLanes != thread_of(me) / kLanes || group_of(s.read.who) != group_of(me);
        const bool keep = valid(s.read2.who) && !stale_read2 && concurrent(s.read2.who | 1ull << 62, me & ~(1ull << 62)) &&
                          thread_of(s.read2.who) / kLanes != thread_of(me) / kLanes;
        if (other_group || !keep) s.read2 = s.read;
      }
      s.read.who = me, s.read.pc = here;
    } else {
      if (valid(s.write.who) && !stale) {
        if (thread_of(s.write.who) != thread_of(me) || group_of(s.write.who) != group_of(me)) {
          set_bits(w.multi, u << w.unit, 1u << w.unit);
          if (concurrent(s.write.who, as_writer) && !clash) clash = &s.write, over = true;
        }
      }
      for (const Access* r : {&s.read, &s.read2}) {
        const bool old = r == &s.read ? stale_read : stale_read2;
        if (valid(r->who) && !old && concurrent(r->who, me)) clash = r, over = false;
      }
    }
    if (clash && write) {
      const Access other = *clash;
      mtl_issue i = conflict(w, index, me, other, offset, size, write, pc);
      i.line = line;
      if (over) {
        if (!pending.active && size <= sizeof pending.before) {
          pending.active = true;
          pending.address = w.start + offset;
          pending.size = (unsigned)size;
          std::memcpy(pending.before, (void*)pending.address, size);
          pending.issue = i;
        }
      } else {
        add_issue(i);
      }
      clash = nullptr;
    }
    if (write) {
      s.write.who = me, s.write.pc = here;
      s.read.who = s.read2.who = 0;
    }
  }
  if (clash) {
    mtl_issue i = conflict(w, index, me, *clash, offset, size, write, pc);
    i.line = line;
    add_issue(i);
  }
  if (uninitialised) {
    mtl_issue i = describe(MTL_UNINITIALISED_READ, pc);
    i.region = (int)index, i.offset = (int64_t)offset, i.size = size, i.line = line;
    add_issue(i);
  }
}

bool reserve() {
  if (space) return true;
  for (window_shift = 32; window_shift >= 26; window_shift -= 2) {
    void* p = mmap(nullptr, (size_t)kWindows << window_shift, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) {
      // Windows begin at multiples of their size, so that addresses tell alignment too.
      space = (uintptr_t)p;
      return true;
    }
  }
  return false;
}

template <class T> T* zeroed(uint64_t n) { return (T*)std::calloc(n ? n : 1, sizeof(T)); }

// Opens window number window_count for a region; the end of the memory is the end of a page, as nearly as alignment allows.
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
  if (r->data && r->size && (r->space == MTL_INPUT || r->initialised)) std::memcpy((void*)w.start, r->data, r->size);
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

int find_image(dl_phdr_info* info, size_t, void* entry) {
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

mtl_issue describe(int fault, uintptr_t pc) {
  mtl_issue i = {};
  i.fault = fault;
  i.region = -1;
  i.pc = pc;
  if (rt.current) {
    std::memcpy(i.thread, self().position_in_grid, sizeof i.thread);
    std::memcpy(i.group, self().threadgroup_position, sizeof i.group);
  }
  return i;
}

void locate(const void* p, mtl_issue* i) {
  const uintptr_t index = ((uintptr_t)p - space) >> window_shift;
  if (index < window_count) i->region = (int)index, i->offset = (int64_t)((uintptr_t)p - windows[index].start);
}

void access(const volatile void* p, uint64_t size, bool write, mtl_atomicity atomic, uintptr_t pc, int line) {
  if (!rt.running) return;
  if (__builtin_expect(pending.active, 0)) settle();
  const uintptr_t address = (uintptr_t)p;
  const uintptr_t index = (address - space) >> window_shift;
  if (index >= kWindows) {
    on_wild((const void*)p, size, write, pc);
    return;
  }
  Window& w = windows[index];
  const uint64_t offset = address - w.start;
  if (__builtin_expect(index >= window_count || offset >= w.size || size > w.size - offset, 0)) {
    out_of_bounds((unsigned)index, address, size, write, pc, line);
    return;
  }
  if (write) {
    w.region->stored += size;
    if (w.region->space == MTL_INPUT) {
      mtl_issue i = describe(MTL_STORE_TO_INPUT, pc);
      i.region = (int)index, i.offset = (int64_t)offset, i.size = size, i.write = 1, i.line = line;
      add_issue(i);
    }
    set_bits(w.written, offset, size);
  } else {
    w.region->loaded += size;
    set_bits(w.read, offset, size);
  }
  if (w.shadow) tracked(w, (unsigned)index, offset, size, write, atomic, pc, line);
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

bool in_stacks(const void* address, bool* own);

void on_wild(const void* address, size_t size, bool write, uintptr_t pc) {
  const uintptr_t a = (uintptr_t)address;
  bool own = false;
  if (in_stacks(address, &own)) {
    if (own) return;
  } else if ((a >= image && a < image_end) || (a >= (uintptr_t)&rt && a < (uintptr_t)(&rt + 1)) ||
             (a >= (uintptr_t)&mtl_now && a < (uintptr_t)(&mtl_now + 1))) {
    return;
  }
  mtl_issue i = describe(MTL_WILD, pc);
  i.offset = (int64_t)a;
  i.size = size;
  i.write = write;
  add_issue(i);
  abort_run(MTL_ABORTED);
}

void check_threadgroup_begins() {}

void check_threadgroup_barrier(unsigned threads) {
  if (pending.active) settle();
  const Fiber* first = nullptr;
  unsigned flags = 0;
  for (unsigned i = 0; i < threads; i++) {
    Fiber& f = rt.fibers[i];
    if (!(f.simdgroup->blocked >> f.self.lane & 1)) continue;
    flags |= f.flags;
    if (!first) first = &f;
    rt.current = &f;
    if (f.line != first->line) {
      mtl_issue x = describe(MTL_DIVERGENT_BARRIER, 0);
      x.line = f.line;
      x.other_line = first->line;
      std::memcpy(x.other_thread, first->self.position_in_grid, sizeof x.other_thread);
      add_issue(x);
    }
  }
  for (unsigned i = 0; i < threads && first; i++) {
    Fiber& f = rt.fibers[i];
    if (!(f.simdgroup->done >> f.self.lane & 1)) continue;
    rt.current = const_cast<Fiber*>(first);
    mtl_issue x = describe(MTL_DIVERGENT_BARRIER, 0);
    x.line = first->line;
    x.other_line = -1;  // ended
    std::memcpy(x.other_thread, f.self.position_in_grid, sizeof x.other_thread);
    add_issue(x);
    break;
  }
  rt.epoch[0] += flags & 1;
  rt.epoch[1] += flags >> 1 & 1;
}

void check_rendezvous(Simdgroup& g, unsigned lanes, int kind, int line) {
  unsigned missing = g.all & ~lanes;
  if (kind == MTL_QUAD) {
    missing = 0;
    for (unsigned q = 0; q < 32; q += 4) {
      const unsigned quad = 0xfu << q;
      if (lanes & quad) missing |= g.all & ~lanes & quad;
    }
  }
  if (!missing) return;
  rt.current = &g.fibers[__builtin_ctz(lanes)];
  mtl_issue i = describe((missing & ~g.done) == 0 ? MTL_ENDED_LANES : MTL_DIVERGENT_SIMD, 0);
  i.line = line;
  i.lanes = lanes;
  const Fiber& other = g.fibers[__builtin_ctz(missing)];
  i.other_line = g.done >> other.self.lane & 1 ? -1 : other.line;
  std::memcpy(i.other_thread, other.self.position_in_grid, sizeof i.other_thread);
  add_issue(i);
}

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

// Maps the regions (their `mapped` is set) for the launch of `entry`. 0: no address space.
int mtl_check_begin(mtl_region* regions, unsigned count, void* entry) {
  if (!reserve()) return 0;
  issues.clear();
  opened.clear();
  variables.clear();
  threadgroup_regions.clear();
  threadgroup_regions.reserve(kWindows - count);
  window_count = 0;
  pending.active = false;
  dl_iterate_phdr(find_image, entry);
  for (unsigned i = 0; i < count; i++)
    if (!open_window(&regions[i])) return 0;
  return 1;
}

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

// clang fills private variables with that NaN: where it comes out, one of them was read before it was assigned.
void find_private_nans() {
  for (auto& i : issues)
    if (i.fault == MTL_OUT_OF_BOUNDS || i.fault == MTL_UNINITIALISED_READ) return;  // it came from there
  for (unsigned k = 0; k < window_count; k++)
    if (windows[k].region->space != MTL_OUTPUT && windows[k].region->floating && holds_all_ones(windows[k])) return;
  for (unsigned k = 0; k < window_count; k++) {
    Window& w = windows[k];
    const unsigned element = w.region->element;
    if (w.region->space != MTL_OUTPUT || !w.region->floating) continue;
    for (uint64_t at = 0; at + element <= w.size; at += element) {
      const Access& last = w.shadow[at >> w.unit].write;
      if (!bit(w.written, at) || !valid(last.who) || !all_ones((const unsigned char*)w.start + at, element)) continue;
      mtl_issue i = describe(MTL_UNINITIALISED_READ, last.pc ? image + last.pc : 0);
      i.region = (int)k, i.offset = (int64_t)at, i.size = element, i.write = 1;
      position(group_of(last.who), thread_of(last.who), i.thread);
      add_issue(i);
    }
  }
}

}  // namespace

// Ends check mode: fills in the counters, copies outputs out, reports bytes never written. Returns the number of issues.
int mtl_check_end(unsigned count, int complete) {
  if (pending.active) settle();
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
      if (complete && !r.initialised && r.unique_stored < r.size) {
        mtl_issue i = describe(MTL_UNWRITTEN_OUTPUT, 0);
        i.region = (int)k;
        i.size = r.size - r.unique_stored;
        while (bit(w.written, (uint64_t)i.offset)) i.offset++;
        add_issue(i);
      }
    }
    std::free(w.shadow);
    std::free(w.read);
    std::free(w.written);
    std::free(w.multi);
    const uintptr_t page = w.start & ~(uintptr_t)4095, end = (w.start + w.size + 4095) & ~(uintptr_t)4095;
    // The window's last page can lie beyond start + size when size is not a multiple of the alignment.
    const uintptr_t window_end = space + ((uintptr_t)k << window_shift) + ((uint64_t)1 << (window_shift - 1));
    const uintptr_t upto = end > window_end ? end : window_end;
    if (upto > page)
      mmap((void*)page, upto - page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  }
  for (auto& o : opened)
    mmap((void*)o.first, o.second, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
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
