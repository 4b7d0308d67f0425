#pragma once
#include <csetjmp>
extern sigjmp_buf crash_trap;
void catch_signals();
void release_signals();
