// Every access of the kernel to memory comes here (from hooks.cpp).
#pragma once
#include "check.h"

#pragma GCC visibility push(hidden)

// An atomic store does not look at what it replaces: beside another thread's store, the order decides which one stays.
enum mtl_atomicity { MTL_PLAIN, MTL_ATOMIC, MTL_ATOMIC_STORE };

// One access of the running thread; line != 0: known without looking at pc.
void access(const volatile void* p, uint64_t size, bool write, mtl_atomicity atomic, uintptr_t pc, int line = 0);
// A store over another thread's store waits to have happened: settle reports it if it changed anything.
void settle();
void forget_store();

#pragma GCC visibility pop
