// What check mode has found so far: which thread, and where in the kernel's code.
#pragma once
#include "check.h"

#include <vector>

// Where a function that kernels call was called.
#define PC ((uintptr_t)__builtin_return_address(0) - 1)

#pragma GCC visibility push(hidden)

extern std::vector<mtl_issue> issues;
extern uintptr_t image, image_end;  // where the kernel's library is loaded

void find_image(void* entry);
mtl_issue describe(int fault, uintptr_t pc);  // by the running thread
int add_issue(mtl_issue issue);               // merges repeats; returns its index
[[noreturn]] void no_progress(uintptr_t pc, int line);  // the threadgroup has had its time: ends the run
void position(uint64_t group, unsigned thread, uint32_t out[3]);  // in the grid, of a thread of a threadgroup

#pragma GCC visibility pop
