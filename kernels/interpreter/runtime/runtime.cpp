// The runtime in one translation unit: one compiler call makes it.
#include "check.cpp"
#include "hooks.cpp"
#include "scheduler.cpp"
#include "signals.cpp"
#include "undefined.cpp"
