// Leaves one stack for another: by our own code on x86-64, which takes some nanoseconds, else by ucontext.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(EC_UCONTEXT)
struct Context {
  void *stack_pointer = nullptr;
};
extern "C" void ec_switch_stack(void **save, void *to);

#ifdef EC_SWITCH_HERE  // one file has the code
// Registers that a function keeps for its caller lie on the stack that is left.
asm(R"(
.text
.hidden ec_switch_stack
.globl ec_switch_stack
.type ec_switch_stack, @function
ec_switch_stack:
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
  ret
.size ec_switch_stack, .-ec_switch_stack
)");
#endif

static inline void ec_switch(Context &from, Context &to) { ec_switch_stack(&from.stack_pointer, to.stack_pointer); }
static inline void ec_prepare(Context &context, uint8_t *stack, size_t bytes, void (*entry)()) {
  void **top = (void **)(stack + bytes - 72);  // where `entry` finds its return address: 8 below a multiple of 16
  *top = nullptr;
  *--top = (void *)entry;
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.stack_pointer = top;
}
#else
#include <ucontext.h>
typedef ucontext_t Context;
static inline void ec_switch(Context &from, Context &to) { swapcontext(&from, &to); }
static inline void ec_prepare(Context &context, uint8_t *stack, size_t bytes, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
#endif
