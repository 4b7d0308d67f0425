// Each buffer and each threadgroup variable lies in a window of a large reserved range, so an address tells its buffer, and
// an access that misses is reported with the buffer it meant.
#pragma once
#include "check.h"
#include "shadow.h"

// Hidden: every access of the kernel passes here, and other libraries' symbols shall not stand in for these.
#pragma GCC visibility push(hidden)

constexpr unsigned kWindows = 128;
#ifndef MTL_LARGEST_WINDOW  // log2 of its bytes. An emulator, which keeps a note of each page, wants less than 2^32
#define MTL_LARGEST_WINDOW 32
#endif

struct Window {
  mtl_region* region;
  uintptr_t start;
  uint64_t size;
  Shadow* shadow;        // outputs and threadgroup memory
  uint64_t shadow_count;
  unsigned unit;         // log2 of the bytes per shadow
  uint8_t *read, *written, *multi;  // a bit per byte
};

extern Window windows[kWindows];
extern unsigned window_count, window_shift;
extern uintptr_t space;  // the reserved range

bool reserve_windows();           // false: no address space. Forgets the windows of the launch before
bool open_window(mtl_region* r);  // as number window_count
void open_pages(const Window& w, uintptr_t address, uint64_t size);  // beyond the window, for one wrong access to happen
void locate(const void* address, mtl_issue* issue);  // fills in region and offset
void close_windows();

#pragma GCC visibility pop
