// Shadow memory: what check mode remembers of each unit of memory, and bits for each byte.
#pragma once
#include "../runtime.h"

// What access checking remembers of one access to one unit of memory.
struct Access {
  uint64_t who;  // valid 1 | atomic 1 | thread 10 | threadgroup 28 | barriers 14 | simdgroup barriers 10
  uint32_t pc;   // from the start of the kernel's image
} __attribute__((packed));
struct Shadow {
  Access write, read, read2;
};

inline uint64_t who_am_i(int domain, bool atomic) {
  return 1ull << 63 | (uint64_t)atomic << 62 | (uint64_t)rt.current->self.index_in_threadgroup << 52 |
         (rt.group & 0xfffffff) << 24 | (uint64_t)(rt.epoch[domain] & 0x3fff) << 10 |
         (rt.current->simdgroup->epoch[domain] & 0x3ff);
}
inline uint64_t plain(uint64_t w) { return w & ~(1ull << 62); }
inline bool valid(uint64_t w) { return w >> 63; }
inline unsigned thread_of(uint64_t w) { return w >> 52 & 0x3ff; }
inline uint64_t group_of(uint64_t w) { return w >> 24 & 0xfffffff; }
// May a and b happen at the same time?
inline bool concurrent(uint64_t a, uint64_t b) {
  if (a >> 62 & b >> 62 & 1) return false;  // both atomic
  if (group_of(a) != group_of(b)) return true;
  if (thread_of(a) == thread_of(b)) return false;
  if ((a ^ b) >> 10 & 0x3fff) return false;  // a threadgroup barrier lies between
  return thread_of(a) / kLanes != thread_of(b) / kLanes || (a & 0x3ff) == (b & 0x3ff);
}

inline bool bit(const uint8_t* bits, uint64_t i) { return bits[i >> 3] >> (i & 7) & 1; }
inline void set_bits(uint8_t* bits, uint64_t from, uint64_t count) {
  if ((from & 7) + count <= 8) {
    bits[from >> 3] |= (uint8_t)(((1u << count) - 1) << (from & 7));
    return;
  }
  for (uint64_t i = from; i < from + count;) {
    if ((i & 7) == 0 && from + count - i >= 8) {
      bits[i >> 3] = 0xff;
      i += 8;
    } else {
      bits[i >> 3] |= (uint8_t)(1u << (i & 7));
      i++;
    }
  }
}
uint64_t count_bits(const uint8_t* bits, uint64_t n) {
  uint64_t c = 0;
  for (uint64_t i = 0; i < n / 8; i++) c += (uint64_t)__builtin_popcount(bits[i]);
  for (uint64_t i = n / 8 * 8; i < n; i++) c += bit(bits, i);
  return c;
}
