// Every access of the kernel to memory comes here (from hooks.cpp).
#pragma once
#include "check.h"

#pragma GCC visibility push(hidden)

// One access of the running thread; line != 0: known without looking at pc.
void access(const volatile void* p, uint64_t size, bool write, bool atomic, uintptr_t pc, int line = 0);
// A store over another thread's store waits to have happened: settle reports it if it changed anything.
void settle();
void forget_store();

#pragma GCC visibility pop
