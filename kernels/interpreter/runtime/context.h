// Switching stacks: saves the callee-saved registers on the old stack, its pointer in *save, and goes on where `load` was
// left. A new stack (see fresh_stack) begins in `entry`, aligned as at a function call.
#pragma once
#include <cstdint>
#include <cstring>

extern "C" void mtl_switch(void** save, void* load);

#if defined(__APPLE__)
#define MTL_SYMBOL(name) "_" name
#define MTL_PUSH_TEXT ".text\n"
#define MTL_POP_TEXT ""
#else
#define MTL_SYMBOL(name) name
#define MTL_PUSH_TEXT ".pushsection .text\n.type mtl_switch,%function\n.hidden mtl_switch\n"
#define MTL_POP_TEXT ".size mtl_switch,.-mtl_switch\n.popsection\n"
#endif

#if defined(__x86_64__)
asm(MTL_PUSH_TEXT ".p2align 4\n.globl " MTL_SYMBOL("mtl_switch") "\n" MTL_SYMBOL("mtl_switch") ":\n"
    R"(
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
)" MTL_POP_TEXT);

inline void* fresh_stack(char* top, void (*entry)()) {
  // The ABI wants rsp % 16 == 8 at a function's first instruction: a (null) return address above the aligned top.
  char* sp = (char*)((uintptr_t)top & ~(uintptr_t)15) - 8;
  std::memset(sp - 56, 0, 64);
  std::memcpy(sp - 8, &entry, sizeof entry);
  return sp - 56;
}

#elif defined(__aarch64__)
asm(MTL_PUSH_TEXT ".p2align 4\n.globl " MTL_SYMBOL("mtl_switch") "\n" MTL_SYMBOL("mtl_switch") ":\n"
    R"(
  stp x29, x30, [sp, #-160]!
  stp x19, x20, [sp, #16]
  stp x21, x22, [sp, #32]
  stp x23, x24, [sp, #48]
  stp x25, x26, [sp, #64]
  stp x27, x28, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #16]
  ldp x21, x22, [sp, #32]
  ldp x23, x24, [sp, #48]
  ldp x25, x26, [sp, #64]
  ldp x27, x28, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  ldp x29, x30, [sp], #160
  ret
)" MTL_POP_TEXT);

inline void* fresh_stack(char* top, void (*entry)()) {
  char* sp = (char*)((uintptr_t)top & ~(uintptr_t)15) - 160;
  std::memset(sp, 0, 160);
  std::memcpy(sp + 8, &entry, sizeof entry);  // x30: where ret goes
  return sp;
}

#else
#error "the interpreter switches stacks on x86-64 and aarch64 only"
#endif
