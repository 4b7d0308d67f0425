// The interface between compiled kernels and the runtime (runtime/*.cpp). Plain data and C functions only, so that a
// kernel built by one compiler runs on a runtime built by the other. No standard header may be included here: kernels
// must not see `std::`.
#pragma once

struct mtl_thread {
  unsigned position_in_grid[3];
  unsigned position_in_threadgroup[3];
  unsigned threadgroup_position[3];
  unsigned threads_per_threadgroup[3];      // of this threadgroup: smaller at the edge of the grid
  unsigned dispatch_threads_per_threadgroup[3];  // as asked for
  unsigned threadgroups_per_grid[3];
  unsigned threads_per_grid[3];
  unsigned index_in_threadgroup;
  unsigned simdgroup;
  unsigned lane;
  unsigned simdgroups_per_threadgroup;
  unsigned dispatch_simdgroups_per_threadgroup;
};

// What the lanes of a simdgroup show each other at a rendezvous.
struct mtl_exchange {
  alignas(64) unsigned char slot[32][64];
  alignas(64) unsigned char result[64];  // a reduction, computed by the first lane to go on
  unsigned active;                       // bit i: lane i takes part
  unsigned done;                         // result holds the reduction
};

struct mtl_now_t {
  mtl_thread* self;
  mtl_exchange* exchange;  // where the running simdgroup writes its next values
  unsigned generation;     // counts threadgroups run: threadgroup variables are allocated anew for each
};

// One threadgroup variable: a static object at its declaration.
struct mtl_variable {
  const char* name;
  unsigned size, align;
  int line;
  unsigned generation;
  void* memory;
};

constexpr int MTL_LINE_BITS = 21;  // of the `line` that the functions below take; the column is above

enum mtl_kind { MTL_SIMD = 0, MTL_QUAD = 1, MTL_SIMD_BARRIER = 2, MTL_MATRIX = 3 };

extern "C" {
extern mtl_now_t mtl_now;
mtl_exchange* mtl_rendezvous(int kind, int line);             // lanes of a simdgroup meet; returns the exchanged values
void mtl_simdgroup_barrier(unsigned flags, int line);
void mtl_threadgroup_barrier(unsigned flags, int line);
void mtl_allocate(mtl_variable*);                             // sets memory and generation
void mtl_atomic(const volatile void* address, unsigned size, int write, int line);  // check mode only
int mtl_component(int index);                                 // check mode: a vector has no such component; returns 0
void mtl_report_lane(unsigned lane, int line);                // check mode: a shuffle asked for a lane that takes no part
}
