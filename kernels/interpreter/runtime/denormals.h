// Denormal single-precision numbers as zeros, for the running OS thread, as long as the object lives. Fibers share the mode:
// switching stacks leaves it alone. Halves keep theirs: they are computed with as floats, of which they are normal.
#pragma once
#include <cstdint>

class Denormals {
 public:
  explicit Denormals(bool flush) : before(mode()) {
    if (flush) set(before | kFlush);
  }
  ~Denormals() { set(before); }
  Denormals(const Denormals&) = delete;
  Denormals& operator=(const Denormals&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr uint64_t kFlush = 0x8040;  // of MXCSR: results are flushed, operands taken as zeros
  static uint64_t mode() { return __builtin_ia32_stmxcsr(); }
  static void set(uint64_t m) { __builtin_ia32_ldmxcsr((unsigned)m); }
#else
  static constexpr uint64_t kFlush = 1 << 24;  // of FPCR: both
  static uint64_t mode() {
    uint64_t m;
    asm volatile("mrs %0, fpcr" : "=r"(m));
    return m;
  }
  static void set(uint64_t m) { asm volatile("msr fpcr, %0" : : "r"(m)); }
#endif
  uint64_t before;
};
