// Threads run one after another; what would be a race on a GPU is found by remembering who touched each unit of memory
// since which barrier (shadow.h).
#include "accesses.h"
#include "issues.h"
#include "windows.h"

#include <cstring>

namespace {

// A store over another thread's store: harmless if it stores the same bytes, which is known once it has happened.
struct {
  bool active;
  uintptr_t address;
  unsigned size;
  unsigned char before[64];
  mtl_issue issue;
} pending;

mtl_issue conflict(unsigned index, uint64_t mine, const Access& other, uint64_t offset, uint64_t size, bool write, uintptr_t pc) {
  const bool across = group_of(mine) != group_of(other.who);
  mtl_issue i = describe(across ? MTL_CROSS_THREADGROUP : MTL_RACE, pc);
  i.region = (int)index;
  i.write = write;
  i.offset = (int64_t)offset;
  i.size = size;
  i.other_pc = other.pc ? image + other.pc : 0;
  i.other_group = (uint32_t)group_of(other.who);
  position(group_of(other.who), thread_of(other.who), i.other_thread);
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
  open_pages(w, address, size);
}

// The heart: an access to memory that threads share.
__attribute__((noinline)) void tracked(Window& w, unsigned index, uint64_t offset, uint64_t size, bool write, mtl_atomicity atomic,
                                       uintptr_t pc, int line) {
  const bool shared = w.region->space == MTL_THREADGROUP;
  const uint64_t me = who_am_i(shared ? 1 : 0, atomic != MTL_PLAIN);
  const uint64_t as_writer = atomic == MTL_ATOMIC_STORE ? plain(me) : me;
  const uint32_t here = pc >= image && pc < image_end ? (uint32_t)(pc - image) : 0;
  bool uninitialized = false, over = false;
  const Access* clash = nullptr;
  const uint64_t last = (offset + size - 1) >> w.unit;
  for (uint64_t u = offset >> w.unit; u <= last; u++) {
    Shadow& s = w.shadow[u];
    const bool stale = shared && group_of(s.write.who) != group_of(me);
    const bool stale_read = shared && group_of(s.read.who) != group_of(me);
    const bool stale_read2 = shared && group_of(s.read2.who) != group_of(me);
    if (!write) {
      if (!valid(s.write.who) || stale) {
        uninitialized |= !w.region->initialized;
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
      mtl_issue i = conflict(index, me, other, offset, size, write, pc);
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
    mtl_issue i = conflict(index, me, *clash, offset, size, write, pc);
    i.line = line;
    add_issue(i);
  }
  if (uninitialized) {
    mtl_issue i = describe(MTL_UNINITIALIZED_READ, pc);
    i.region = (int)index, i.offset = (int64_t)offset, i.size = size, i.line = line;
    add_issue(i);
  }
}

void on_wild(const void* address, size_t size, bool write, uintptr_t pc, int line) {
  const uintptr_t a = (uintptr_t)address;
  bool own = false;
  if (in_stacks(address, &own)) {
    if (own) return;
  } else if ((a >= image && a < image_end) || (a >= (uintptr_t)&rt && a < (uintptr_t)(&rt + 1)) ||
             (a >= (uintptr_t)&mtl_now && a < (uintptr_t)(&mtl_now + 1))) {
    return;
  }
  mtl_issue i = describe(MTL_WILD, pc);
  i.line = line;
  i.offset = (int64_t)a;
  i.size = size;
  i.write = write;
  add_issue(i);
  abort_run(MTL_ABORTED);
}

}  // namespace

void access(const volatile void* p, uint64_t size, bool write, mtl_atomicity atomic, uintptr_t pc, int line) {
  if (!rt.running) return;
  if (__builtin_expect(rt.overdue, 0)) no_progress(pc, line);
  if (__builtin_expect(pending.active, 0)) settle();
  const uintptr_t address = (uintptr_t)p;
  const uintptr_t index = (address - space) >> window_shift;
  if (index >= kWindows) {
    on_wild((const void*)p, size, write, pc, line);
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

void settle() {
  if (!pending.active) return;
  pending.active = false;
  if (std::memcmp((void*)pending.address, pending.before, pending.size) == 0) return;
  add_issue(pending.issue);
}

void forget_store() { pending.active = false; }
