/* What a board's start-up files and C library do: vectors, memory, the FPU, and text through the debugger. */
#include <stddef.h>
#include <stdint.h>

int main(void);
void print(const char *text);
void reset(void);
void fault(void);
extern uint32_t stack_top, data_source, data_start, data_end, bss_start, bss_end; /* the linker script's */

/* Asks the debugger, or an emulator in its place, for a service. */
static void semihosting(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void print(const char *text)
{
    semihosting(0x04, text);
}

static _Noreturn void leave(int status)
{
    const uint32_t block[2] = {0x20026, (uint32_t)status}; /* an ordinary end, with an exit status */
    semihosting(0x20, block);
    for (;;) {
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)to)[i] = (uint8_t)value;
    return to;
}

void fault(void)
{
    print("fault\n");
    leave(2);
}

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFU << 20; /* the FPU, and Helium where there is, are off after reset */
    __asm__ volatile("dsb\n\tisb");
    uint32_t *from = &data_source;
    for (uint32_t *to = &data_start; to < &data_end; to++)
        *to = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end; to++)
        *to = 0;
    leave(main());
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    &stack_top, (const void *)reset, (const void *)fault, (const void *)fault,
    (const void *)fault, (const void *)fault, (const void *)fault};
