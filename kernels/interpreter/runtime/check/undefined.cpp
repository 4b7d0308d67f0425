// Undefined behavior that compilers see, from -fsanitize=bounds,alignment,shift-exponent,signed-integer-overflow and
// integer-divide-by-zero. Kernels are linked without the sanitizer's library: these are its functions (LLVM's
// ubsan_handlers.h).
#include "issues.h"
#include "windows.h"

namespace {

struct Type {
  uint16_t kind, info;  // of an integer: 0, and its signedness below the logarithm of its bits
  unsigned bits() const { return 1u << (info >> 1); }
};
struct Location {
  const char* file;
  unsigned line, column;
};
struct Operands {  // what every report on arithmetic begins with
  Location at;
  const Type *left, *right;  // right: of shifts only
};
struct Mismatch {
  Location at;
  const Type* type;
  uint8_t log_alignment, access;
};

// A value as the compiler passes it, in as many of the 64 bits as its type has.
int64_t value(const Type* type, uintptr_t bits) {
  const unsigned unused = type->bits() < 64 ? 64 - type->bits() : 0;
  const uint64_t top = (uint64_t)bits << unused;
  return type->info & 1 ? (int64_t)top >> unused : (int64_t)(top >> unused);
}

// offset, size: the operands; lanes: the operator.
void overflow(const void* data, uintptr_t left, uintptr_t right, char sign, uintptr_t pc) {
  if (!rt.running) return;
  const Operands* d = (const Operands*)data;
  mtl_issue i = describe(MTL_INTEGER_OVERFLOW, pc);
  i.offset = value(d->left, left);
  i.size = (uint64_t)value(d->left, right);
  i.lanes = (unsigned char)sign;
  add_issue(i);
}

// A division or remainder: of the least number by -1, or by zero. That one ends the run in either case, as it does by a
// signal where processors raise one; lanes: the operator.
void division(const void* data, uintptr_t left, uintptr_t right, uintptr_t pc) {
  if (!rt.running) return;
  if (value(((const Operands*)data)->left, right) != 0) return overflow(data, left, right, '/', pc);
  mtl_issue i = describe(MTL_CRASH, pc);
  i.lanes = '/';
  add_issue(i);
  abort_run(MTL_ABORTED);
}

// size: what the address should be a multiple of.
void misaligned(const void* data, const void* address, uintptr_t pc) {
  if (!rt.running) return;
  const Mismatch* d = (const Mismatch*)data;
  mtl_issue i = describe(MTL_MISALIGNED, pc);
  locate(address, &i);
  i.size = (uint64_t)1 << d->log_alignment;
  i.write = d->access == 1;
  add_issue(i);
}

// offset: by how much; lanes: of how many bits.
void shift(const void* data, uintptr_t amount, uintptr_t pc) {
  if (!rt.running) return;
  const Operands* d = (const Operands*)data;
  mtl_issue i = describe(MTL_SHIFT, pc);
  i.offset = value(d->right, amount);
  i.lanes = d->left->bits();
  add_issue(i);
}

// An index beyond an array of known size, which includes private arrays, or beyond a vector's components.
void beyond(int64_t index, int line, uintptr_t pc) {
  if (!rt.running) return;
  mtl_issue i = describe(MTL_PRIVATE_BOUNDS, pc);
  i.line = line;
  i.offset = index;
  add_issue(i);
}

}  // namespace

extern "C" {

// Each handler comes twice: the one ends the run, so that compilers know that nothing follows; the other goes on.
#define MTL_HANDLER(name, parameters, report) \
  void __ubsan_handle_##name parameters { report; } \
  void __ubsan_handle_##name##_abort parameters { report; abort_run(MTL_ABORTED); }
MTL_HANDLER(out_of_bounds, (void* d, void* index), beyond((int64_t)index, (int)((Location*)d)->line, PC))
MTL_HANDLER(type_mismatch_v1, (void* d, void* address), misaligned(d, address, PC))
MTL_HANDLER(shift_out_of_bounds, (void* d, uintptr_t, uintptr_t amount), shift(d, amount, PC))
MTL_HANDLER(add_overflow, (void* d, uintptr_t a, uintptr_t b), overflow(d, a, b, '+', PC))
MTL_HANDLER(sub_overflow, (void* d, uintptr_t a, uintptr_t b), overflow(d, a, b, '-', PC))
MTL_HANDLER(mul_overflow, (void* d, uintptr_t a, uintptr_t b), overflow(d, a, b, '*', PC))
MTL_HANDLER(divrem_overflow, (void* d, uintptr_t a, uintptr_t b), division(d, a, b, PC))
MTL_HANDLER(negate_overflow, (void* d, uintptr_t a), overflow(d, 0, a, '-', PC))
#undef MTL_HANDLER

int mtl_component(int index) {
  beyond(index, 0, PC);
  return 0;
}

}  // extern "C"
