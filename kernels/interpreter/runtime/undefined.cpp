// Undefined behaviour that compilers see, from -fsanitize=bounds,alignment,shift-exponent,signed-integer-overflow. Kernels
// are linked without the sanitizer's library: these are its functions (LLVM's ubsan_handlers.h).
#include "check.h"

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

void __ubsan_handle_out_of_bounds(void* data, void* index) { beyond((int64_t)index, (int)((Location*)data)->line, PC); }
int mtl_component(int index) {
  beyond(index, 0, PC);
  return 0;
}

void __ubsan_handle_add_overflow(void* d, uintptr_t a, uintptr_t b) { overflow(d, a, b, '+', PC); }
void __ubsan_handle_sub_overflow(void* d, uintptr_t a, uintptr_t b) { overflow(d, a, b, '-', PC); }
void __ubsan_handle_mul_overflow(void* d, uintptr_t a, uintptr_t b) { overflow(d, a, b, '*', PC); }
void __ubsan_handle_divrem_overflow(void* d, uintptr_t a, uintptr_t b) { overflow(d, a, b, '/', PC); }
void __ubsan_handle_negate_overflow(void* d, uintptr_t a) { overflow(d, 0, a, '-', PC); }

// offset: by how much; lanes: of how many bits.
void __ubsan_handle_shift_out_of_bounds(void* data, uintptr_t, uintptr_t amount) {
  if (!rt.running) return;
  const Operands* d = (const Operands*)data;
  mtl_issue i = describe(MTL_SHIFT, PC);
  i.offset = value(d->right, amount);
  i.lanes = d->left->bits();
  add_issue(i);
}

// size: what the address should be a multiple of.
void __ubsan_handle_type_mismatch_v1(void* data, void* address) {
  if (!rt.running) return;
  const Mismatch* d = (const Mismatch*)data;
  mtl_issue i = describe(MTL_MISALIGNED, PC);
  locate(address, &i);
  i.size = (uint64_t)1 << d->log_alignment;
  i.write = d->access == 1;
  add_issue(i);
}

}  // extern "C"
