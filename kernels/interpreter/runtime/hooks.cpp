// What instrumented kernels call at each access. They are compiled with -fsanitize=thread, but linked without the
// sanitizer's library: these are its functions.
#include "check/accesses.h"
#include "check/issues.h"

#include <cstring>

extern "C" {

void mtl_atomic(const volatile void* address, unsigned size, int write, int line) {
  if (write != 1) access(address, size, false, MTL_ATOMIC, PC, line);
  if (write) access(address, size, true, write == 1 ? MTL_ATOMIC_STORE : MTL_ATOMIC, PC, line);
}

void mtl_report_lane(unsigned lane, int line) {
  mtl_issue i = describe(MTL_INACTIVE_LANE, 0);
  i.line = line;
  i.offset = lane;
  add_issue(i);
}

// The instrumentation's interface (LLVM's tsan_interface.h).
#define MTL_HOOKS(n)                                                                             \
  void __tsan_read##n(void* p) { access(p, n, false, MTL_PLAIN, PC); }                               \
  void __tsan_write##n(void* p) { access(p, n, true, MTL_PLAIN, PC); }                               \
  void __tsan_volatile_read##n(void* p) { access(p, n, false, MTL_PLAIN, PC); }                      \
  void __tsan_volatile_write##n(void* p) { access(p, n, true, MTL_PLAIN, PC); }                      \
  void __tsan_read_write##n(void* p) { access(p, n, false, MTL_PLAIN, PC), access(p, n, true, MTL_PLAIN, PC); } \
  void __tsan_unaligned_read##n(void* p) { access(p, n, false, MTL_PLAIN, PC); }                     \
  void __tsan_unaligned_write##n(void* p) { access(p, n, true, MTL_PLAIN, PC); }                     \
  void __tsan_unaligned_volatile_read##n(void* p) { access(p, n, false, MTL_PLAIN, PC); }            \
  void __tsan_unaligned_volatile_write##n(void* p) { access(p, n, true, MTL_PLAIN, PC); }            \
  void __tsan_unaligned_read_write##n(void* p) { access(p, n, false, MTL_PLAIN, PC), access(p, n, true, MTL_PLAIN, PC); }
MTL_HOOKS(1)
MTL_HOOKS(2)
MTL_HOOKS(4)
MTL_HOOKS(8)
MTL_HOOKS(16)
void __tsan_read_range(void* p, unsigned long n) { if (n) access(p, n, false, MTL_PLAIN, PC); }
void __tsan_write_range(void* p, unsigned long n) { if (n) access(p, n, true, MTL_PLAIN, PC); }
void* __tsan_memcpy(void* d, const void* s, unsigned long n) {
  if (n) access(s, n, false, MTL_PLAIN, PC), access(d, n, true, MTL_PLAIN, PC);
  return std::memcpy(d, s, n);
}
void* __tsan_memmove(void* d, const void* s, unsigned long n) {
  if (n) access(s, n, false, MTL_PLAIN, PC), access(d, n, true, MTL_PLAIN, PC);
  return std::memmove(d, s, n);
}
void* __tsan_memset(void* d, int v, unsigned long n) {
  if (n) access(d, n, true, MTL_PLAIN, PC);
  return std::memset(d, v, n);
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void __tsan_ignore_thread_begin() {}
void __tsan_ignore_thread_end() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

}  // extern "C"
