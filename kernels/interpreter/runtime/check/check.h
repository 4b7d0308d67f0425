// Check mode: what Python hands in and reads back (launch.py mirrors these layouts).
#pragma once
#include "../runtime.h"

enum mtl_fault {
  MTL_OUT_OF_BOUNDS = 1,
  MTL_STORE_TO_INPUT,
  MTL_UNINITIALIZED_READ,
  MTL_RACE,
  MTL_CROSS_THREADGROUP,
  MTL_DIVERGENT_BARRIER,
  MTL_DIVERGENT_SIMD,
  MTL_ENDED_LANES,  // a simd operation that some lanes never reach, having ended
  MTL_INACTIVE_LANE,
  MTL_UNWRITTEN_OUTPUT,
  MTL_MISALIGNED,
  MTL_PRIVATE_BOUNDS,
  MTL_CRASH,
  MTL_WILD,
  MTL_INTEGER_OVERFLOW,
  MTL_SHIFT,
  MTL_NO_PROGRESS,
};

enum mtl_space { MTL_INPUT = 0, MTL_OUTPUT = 1, MTL_THREADGROUP = 2 };

struct mtl_region {
  const char* name;
  void* data;         // host memory: copied in before the run, outputs copied out after it
  void* mapped;       // set by mtl_check_begin: where the kernel finds it
  uint64_t size;
  uint32_t element;   // bytes
  int32_t space;
  int32_t initialized;  // an output with an init_value
  int32_t floating;     // elements are floating-point numbers
  uint64_t loaded, stored, unique_loaded, unique_stored, multi_writer;  // bytes
};

struct mtl_issue {
  int32_t fault;
  int32_t line;         // as the source counts; 0: look at pc
  int32_t region;       // -1: none
  int32_t write;
  int64_t offset;       // bytes from the start of the region
  uint64_t size;
  uint64_t pc, other_pc;
  int32_t other_line;
  uint32_t lanes;       // of a divergence: those that take part; of other faults, see undefined.cpp and signals.cpp
  uint32_t thread[3];   // position in the grid
  uint32_t group[3];
  uint32_t other_thread[3];
  uint32_t other_group;
  uint64_t count;
};
