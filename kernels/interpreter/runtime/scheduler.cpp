// Threads of a threadgroup are fibers on one OS thread. A simdgroup's lanes hand over to each other at every simd
// operation and run on until all have reached a threadgroup barrier or their end; then the next simdgroup runs.
#include "runtime.h"

#include <cstring>
#include <sys/mman.h>

#include "context.h"
#include "denormals.h"
#include "check/issues.h"
#include "signals.h"

Runtime rt;
extern "C" {
mtl_now_t mtl_now;
}

namespace {

constexpr size_t kStack = 256 << 10, kGuard = 64 << 10, kArena = 1 << 20;
char* stacks;
alignas(4096) char arena[kArena];  // threadgroup memory of plain runs

char* stack_top(unsigned i) {
  // Staggered, so that the hot ends of 1024 stacks don't share cache sets.
  return stacks + (size_t)(i + 1) * (kStack + kGuard) - kGuard - (i * 320) % 4096;
}

bool make_stacks() {
  if (stacks) return true;
  const size_t bytes = (size_t)kMaxThreads * (kStack + kGuard) + kGuard;
  void* p = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  for (unsigned i = 0; i < kMaxThreads; i++)
    mprotect((char*)p + kGuard + (size_t)i * (kStack + kGuard), kStack, PROT_READ | PROT_WRITE);
  stacks = (char*)p + kGuard;
  return true;
}

inline void enter(Fiber* f, void** save) {
  rt.current = f;
  mtl_now.self = &f->self;
  mtl_switch(save, f->sp);
}

inline unsigned next_lane(unsigned ready, unsigned after) {
  const unsigned above = after >= 31 ? 0 : ready & (0xfffffffeu << after);
  return (unsigned)__builtin_ctz(above ? above : ready);
}

// No lane can run: let those meet that wait at one place. Usually that is all of them.
void resolve(Simdgroup& g) {
  unsigned meet = g.waiting;
  mtl_exchange* e = &g.exchange[g.parity];
  if (g.mixed || g.waiting != g.all) {
    // Lanes have ended, are at a barrier, or wait elsewhere: the lowest waiting lane's place goes first.
    const Fiber& first = g.fibers[__builtin_ctz(g.waiting)];
    meet = 0;
    for (unsigned w = g.waiting; w; w &= w - 1) {
      const unsigned i = (unsigned)__builtin_ctz(w);
      Fiber& f = g.fibers[i];
      if (f.kind != first.kind || f.line != first.line) continue;
      meet |= 1u << i;
      if (f.parity != g.parity) {
        std::memcpy(e->slot[i], g.exchange[f.parity].slot[i], sizeof e->slot[i]);
        f.parity = g.parity;
      }
    }
    if (rt.launch->check) check_rendezvous(g, meet, first.kind, first.line);
    g.waiting &= ~meet;
    if (g.waiting) {
      const Fiber& rest = g.fibers[__builtin_ctz(g.waiting)];
      g.kind = rest.kind, g.line = rest.line, g.mixed = true;
    }
  } else {
    g.waiting = 0;
  }
  e->active = meet;
  e->done = 0;
  g.ready = meet;
  g.parity ^= 1;
  mtl_now.exchange = &g.exchange[g.parity];
}

// The running lane cannot go on: run another of its simdgroup, or go back to the scheduler. Returns when it can.
inline void yield(Fiber* f, Simdgroup& g) {
  if (!g.ready && g.waiting) resolve(g);
  if (!g.ready) {
    mtl_switch(&f->sp, rt.scheduler);
    return;
  }
  Fiber* n = &g.fibers[next_lane(g.ready, f->self.lane)];
  if (n != f) enter(n, &f->sp);
}

void fiber_main() {
  Fiber* f = rt.current;
  rt.launch->entry(rt.launch->buffers, &f->self);
  Simdgroup& g = *f->simdgroup;
  const unsigned bit = 1u << f->self.lane;
  g.ready &= ~bit;
  g.done |= bit;
  yield(f, g);
  __builtin_trap();  // nobody resumes an ended lane
}

void prepare(unsigned simdgroups, const mtl_thread& common) {
  const unsigned* t = common.threads_per_threadgroup;
  const unsigned threads = t[0] * t[1] * t[2];
  for (unsigned s = 0; s < simdgroups; s++) {
    Simdgroup& g = rt.simdgroups[s];
    const unsigned lanes = threads - s * kLanes < kLanes ? threads - s * kLanes : kLanes;
    g.all = lanes == kLanes ? 0xffffffffu : (1u << lanes) - 1;
    g.ready = g.all;
    g.waiting = g.blocked = g.done = g.parity = 0;
    g.start = (rt.launch->seed * 7 + s) % kLanes % lanes;
    g.fibers = &rt.fibers[s * kLanes];
    g.epoch[0] = g.epoch[1] = 0;
    for (unsigned l = 0; l < lanes; l++) {
      const unsigned i = s * kLanes + l;
      Fiber& f = rt.fibers[i];
      f.simdgroup = &g;
      f.parity = 0;
      mtl_thread& self = f.self;
      self = common;
      const unsigned p[3] = {i % t[0], i / t[0] % t[1], i / (t[0] * t[1])};
      for (int d = 0; d < 3; d++) {
        self.position_in_threadgroup[d] = p[d];
        self.position_in_grid[d] = common.threadgroup_position[d] * common.dispatch_threads_per_threadgroup[d] + p[d];
      }
      self.index_in_threadgroup = i;
      self.simdgroup = s;
      self.lane = l;
      f.sp = fresh_stack(stack_top(i), fiber_main);
    }
  }
}

// Runs one threadgroup to its end, from barrier to barrier.
void run_threadgroup(unsigned simdgroups, unsigned threads) {
  const unsigned start = rt.launch->seed % simdgroups;
  for (;;) {
    for (unsigned k = 0; k < simdgroups; k++) {
      Simdgroup& g = rt.simdgroups[(start + k) % simdgroups];
      if (!g.ready) continue;
      mtl_now.exchange = &g.exchange[g.parity];
      const unsigned first = g.ready >> g.start & 1 ? g.start : next_lane(g.ready, g.start);
      enter(&g.fibers[first], &rt.scheduler);
      if (rt.abort) return;
    }
    unsigned blocked = 0;
    for (unsigned s = 0; s < simdgroups; s++) blocked += (unsigned)__builtin_popcount(rt.simdgroups[s].blocked);
    if (!blocked) return;
    if (rt.launch->check) check_threadgroup_barrier(threads);
    for (unsigned s = 0; s < simdgroups; s++) {
      rt.simdgroups[s].ready = rt.simdgroups[s].blocked;
      rt.simdgroups[s].blocked = 0;
    }
  }
}

}  // namespace

extern "C" {

mtl_exchange* mtl_rendezvous(int kind, int line) {
  Fiber* f = rt.current;
  Simdgroup& g = *f->simdgroup;
  const unsigned bit = 1u << f->self.lane;
  f->kind = kind, f->line = line, f->parity = g.parity;
  if (!g.waiting) {
    g.kind = kind, g.line = line, g.mixed = false;
  } else if (g.line != line || g.kind != kind) {
    g.mixed = true;
  }
  g.ready &= ~bit;
  g.waiting |= bit;
  yield(f, g);
  return &g.exchange[f->parity];
}

void mtl_threadgroup_barrier(unsigned flags, int line) {
  Fiber* f = rt.current;
  Simdgroup& g = *f->simdgroup;
  const unsigned bit = 1u << f->self.lane;
  f->kind = -1, f->line = line, f->flags = flags;
  g.ready &= ~bit;
  g.blocked |= bit;
  yield(f, g);
}

void mtl_simdgroup_barrier(unsigned flags, int line) {
  rt.current->flags = flags;
  mtl_exchange* e = mtl_rendezvous(MTL_SIMD_BARRIER, line);
  if (!e->done) {
    e->done = 1;
    Simdgroup& g = *rt.current->simdgroup;
    g.epoch[0] += flags & 1;
    g.epoch[1] += flags >> 1 & 1;
  }
}

void mtl_allocate(mtl_variable* v) {
  const size_t at = (rt.threadgroup_bytes + 15) & ~(size_t)15;
  rt.threadgroup_bytes = at + v->size;
  if (rt.threadgroup_bytes > rt.threadgroup_peak) rt.threadgroup_peak = rt.threadgroup_bytes;
  if (rt.launch->check) {
    v->memory = check_allocate(v);
  } else {
    if (rt.threadgroup_bytes > kArena) abort_run(MTL_THREADGROUP_MEMORY);
    v->memory = arena + at;
  }
  // A read before a write finds NaN, not the zeros of a fresh page.
  std::memset(v->memory, 0xff, v->size);
  v->generation = mtl_now.generation;
}

// Runs every threadgroup of the grid; returns an mtl_status.
int mtl_run(const mtl_launch* launch, uint64_t* threadgroup_bytes) {
  if (!make_stacks()) return MTL_ABORTED;
  rt.launch = launch;
  rt.abort = false;
  rt.status = MTL_OK;
  rt.threadgroup_peak = 0;
  rt.epoch[0] = rt.epoch[1] = 0;
  mtl_thread common = {};
  uint64_t groups = 1;
  unsigned nominal = 1;
  for (int d = 0; d < 3; d++) {
    common.dispatch_threads_per_threadgroup[d] = launch->threadgroup[d];
    common.threads_per_grid[d] = launch->grid[d];
    common.threadgroups_per_grid[d] = (launch->grid[d] + launch->threadgroup[d] - 1) / launch->threadgroup[d];
    groups *= common.threadgroups_per_grid[d];
    nominal *= launch->threadgroup[d];
  }
  common.dispatch_simdgroups_per_threadgroup = (nominal + kLanes - 1) / kLanes;

  find_image((void*)launch->entry);
  catch_signals();
  rt.running = true;
  const Denormals denormals(launch->flush);

  if (sigsetjmp(crash_trap, 0) == 0) {
    for (uint64_t k = 0; k < groups && !rt.abort; k++) {
      const uint64_t n = (k + launch->seed) % groups;
      rt.group = n;
      uint64_t rest = n;
      for (int d = 0; d < 3; d++) {
        const unsigned count = common.threadgroups_per_grid[d];
        const unsigned at = (unsigned)(rest % count);
        rest /= count;
        common.threadgroup_position[d] = at;
        const unsigned left = launch->grid[d] - at * launch->threadgroup[d];
        common.threads_per_threadgroup[d] = left < launch->threadgroup[d] ? left : launch->threadgroup[d];
      }
      const unsigned* t = common.threads_per_threadgroup;
      const unsigned threads = t[0] * t[1] * t[2], simdgroups = (threads + kLanes - 1) / kLanes;
      common.simdgroups_per_threadgroup = simdgroups;
      mtl_now.generation++;
      rt.threadgroup_bytes = 0;
      prepare(simdgroups, common);
      run_threadgroup(simdgroups, threads);
    }
  }

  rt.running = false;
  release_signals();
  *threadgroup_bytes = rt.threadgroup_peak;
  if (rt.status == MTL_OK && rt.threadgroup_peak > kThreadgroupMemory) return MTL_THREADGROUP_MEMORY;
  return rt.status;
}

}  // extern "C"

bool in_stacks(const void* address, bool* own) {
  const size_t at = (size_t)((const char*)address - stacks);
  if ((const char*)address < stacks || at >= (size_t)kMaxThreads * (kStack + kGuard)) return false;
  *own = at / (kStack + kGuard) == (size_t)(rt.current - rt.fibers);
  return true;
}

void abort_run(int status) {
  rt.abort = true;
  rt.status = status;
  void* gone;
  mtl_switch(&gone, rt.scheduler);
  __builtin_unreachable();
}
