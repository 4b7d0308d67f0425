// What the parts of the runtime share. One launch runs at a time (the Python side holds a lock).
#pragma once
#include <cstddef>
#include <cstdint>

#include "../metal_stdlib/abi.h"

constexpr unsigned kLanes = 32, kMaxThreads = 1024, kMaxSimdgroups = kMaxThreads / kLanes;
constexpr size_t kThreadgroupMemory = 32768;

typedef void (*mtl_entry)(void* const* buffers, const mtl_thread* self);

// A launch, filled in by Python (launch.py mirrors the layout).
struct mtl_launch {
  mtl_entry entry;
  void* const* buffers;
  unsigned grid[3];
  unsigned threadgroup[3];
  unsigned seed;
  unsigned check;
  unsigned seconds;  // of CPU time that a threadgroup may take; 0: any
  unsigned flush;    // denormal single-precision numbers, in and out of operations, are zeros
};

enum mtl_status { MTL_OK = 0, MTL_THREADGROUP_MEMORY = 1, MTL_ABORTED = 2, MTL_SIGNAL = 3 };

struct Simdgroup;
struct Fiber {
  void* sp;
  Simdgroup* simdgroup;
  unsigned parity;  // which exchange its last rendezvous used
  int kind, line;   // what it waits at
  unsigned flags;
  mtl_thread self;
};

struct Simdgroup {
  mtl_exchange exchange[2];
  unsigned all;      // lanes that exist
  unsigned ready;    // can run
  unsigned waiting;  // at a rendezvous
  unsigned blocked;  // at a threadgroup barrier
  unsigned done;
  unsigned parity;
  unsigned start;    // the lane that runs first
  int kind, line;    // of the first lane waiting
  bool mixed;        // others wait elsewhere
  Fiber* fibers;
  unsigned epoch[2];  // simdgroup barriers passed: device memory, threadgroup memory
};

struct Runtime {
  const mtl_launch* launch;
  Fiber* current;
  void* scheduler;  // its stack
  bool running, abort;
  volatile bool overdue;  // the threadgroup has had its time (signals.cpp)
  int status;
  uint64_t group;      // number of the threadgroup, from 0
  unsigned epoch[2];   // threadgroup barriers passed: device memory, threadgroup memory
  size_t threadgroup_bytes, threadgroup_peak;
  Fiber fibers[kMaxThreads];
  Simdgroup simdgroups[kMaxSimdgroups];
};
extern Runtime rt;

[[noreturn]] void abort_run(int status);  // from a fiber: back to the scheduler, for good
// Is the address on a thread's stack, and is it the running thread's own?
bool in_stacks(const void* address, bool* own);

// Check mode: barriers.cpp, and check.cpp for a threadgroup variable's memory.
void check_threadgroup_barrier(unsigned threads);
void check_rendezvous(Simdgroup& g, unsigned lanes, int kind, int line);
void* check_allocate(mtl_variable* v);
