/* SPDX-License-Identifier: Apache-2.0 */
/* From reset to main on a Cortex-M: vector table, data, floating point. */
#include "semihost.h"
#include "ticks.h"

int main(void);
void reset(void);

extern uint32_t firmware_stack_end[], firmware_data[], firmware_data_end[], firmware_bss[], firmware_bss_end[];
extern const uint32_t firmware_data_stored[];

/* Where the core was when it could not go on: r0 to r3, r12, lr, pc, psr lie on the stack. */
__attribute__((used)) _Noreturn static void report_fault(const uint32_t *frame)
{
    print("fault at ");
    print_hex(frame[6]);
    print(", called from ");
    print_hex(frame[5]);
    print("\n");
    stop(3);
}

__attribute__((naked)) static void fault(void)
{
    __asm__ volatile("mov r0, sp\n bl report_fault");
}

void reset(void)
{
#if defined(__ARM_FP) || defined(__ARM_PCS_VFP)
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: coprocessors 10 and 11 */
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
#if defined(__ARM_ARCH_8_1M_MAIN__)
    *(volatile uint32_t *)0xE000ED14 |= 1u << 19; /* CCR: loops without branches */
#endif
    const uint32_t *from = firmware_data_stored;
    for (uint32_t *to = firmware_data; to < firmware_data_end; to++)
        *to = *from++;
    for (uint32_t *to = firmware_bss; to < firmware_bss_end; to++)
        *to = 0;
    stop(main());
}

/* Compilers' own libraries refer to this, and with it to kilobytes of code that unwinds the stack, which nothing does. */
void __aeabi_unwind_cpp_pr0(void);
void __aeabi_unwind_cpp_pr0(void)
{
}

typedef void (*handler)(void);

/* Stack, reset, NMI, hard fault, four more faults, reserved, SVC, debug, reserved, PendSV, SysTick. */
__attribute__((section(".vectors"), used)) static const struct vectors {
    const uint32_t *stack;
    handler handlers[15];
} vectors = {
    firmware_stack_end,
    {reset, fault, fault, fault, fault, fault, fault, 0, 0, 0, fault, fault, 0, fault, ticks_wrapped},
};
