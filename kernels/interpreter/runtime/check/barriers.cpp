// Barriers and simd operations that not all of their threads reach.
#include "accesses.h"
#include "issues.h"

#include <cstring>

void check_threadgroup_barrier(unsigned threads) {
  settle();
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
