/* SPDX-License-Identifier: Apache-2.0 */
/* Finds out which instruction sets this CPU and operating system offer: asked at run time where there is somebody to
 * ask, else what the compiler was told to assume. */
#include "edgec/edgec.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Registers that the operating system saves (XCR0): bit 1 SSE, 2 AVX, 5-7 AVX-512, 17-18 AMX. */
static uint32_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static uint32_t pick(uint32_t word, unsigned bit, int isa)
{
    return (word >> bit & 1u) != 0 ? (uint32_t)isa : 0u;
}

uint32_t ec_cpu_isa(void)
{
    const uint32_t avx = 0x06, avx512 = 0xe6, amx = 0x60000;
    uint32_t a, b, c, d, isa = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c >> 27 & 1u) == 0) /* OSXSAVE: xgetbv may be used */
        return 0;
    const uint32_t state = saved_state();
    if ((state & avx) != avx)
        return 0;
    isa |= pick(c, 12, EC_ISA_FMA) | pick(c, 29, EC_ISA_F16C);
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0)
        return isa;
    const uint32_t subleaves = a;
    isa |= pick(b, 5, EC_ISA_AVX2);
    if ((state & avx512) == avx512) {
        isa |= pick(b, 16, EC_ISA_AVX512F) | pick(b, 17, EC_ISA_AVX512DQ) | pick(b, 30, EC_ISA_AVX512BW);
        isa |= pick(b, 31, EC_ISA_AVX512VL) | pick(c, 11, EC_ISA_AVX512VNNI) | pick(c, 1, EC_ISA_AVX512VBMI);
    }
    if ((state & amx) == amx)
        isa |= pick(d, 24, EC_ISA_AMXTILE) | pick(d, 25, EC_ISA_AMXINT8);
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0)
        isa |= pick(a, 4, EC_ISA_AVX_VNNI);
    return isa;
}

#if defined(__linux__) && defined(__x86_64__)
/* Linux gives a process room for tiles when it asks for state component 18 (arch_prctl ARCH_REQ_XCOMP_PERM); asking
 * again does no harm. */
static int tiles_granted(void)
{
    const long arch_prctl = 158, request = 0x1023, tile_data = 18;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(arch_prctl), "D"(request), "S"(tile_data)
                     : "rcx", "r11", "memory");
    return result == 0;
}
#else
static int tiles_granted(void)
{
    return 1;
}
#endif

uint32_t ec_claim_isa(uint32_t isa)
{
    const uint32_t tiles = EC_ISA_AMXTILE | EC_ISA_AMXINT8;
    isa &= ec_cpu_isa();
    return (isa & tiles) == 0 || tiles_granted() ? isa : isa & ~tiles;
}

#elif defined(__linux__) && __STDC_HOSTED__ && (defined(__aarch64__) || defined(__arm__))
#include <sys/auxv.h>

/* Bits of the kernel's AT_HWCAP words; written out because older system headers lack the newer ones. */
typedef struct hwcap_row {
    unsigned long word;
    unsigned bit;
    int isa;
} hwcap_row;

static const hwcap_row hwcaps[] = {
#if defined(__aarch64__)
    {AT_HWCAP, 1, EC_ISA_NEON | EC_ISA_FMA}, /* asimd */
    {AT_HWCAP, 10, EC_ISA_FP16},             /* asimdhp */
    {AT_HWCAP, 20, EC_ISA_DOTPROD},          /* asimddp */
    {AT_HWCAP, 22, EC_ISA_SVE},
    {AT_HWCAP2, 13, EC_ISA_I8MM},
#else
    {AT_HWCAP, 12, EC_ISA_NEON},
    {AT_HWCAP, 16, EC_ISA_FMA},  /* vfpv4 */
    {AT_HWCAP, 23, EC_ISA_FP16}, /* asimdhp */
    {AT_HWCAP, 24, EC_ISA_DOTPROD},
    {AT_HWCAP, 27, EC_ISA_I8MM},
#endif
};

uint32_t ec_cpu_isa(void)
{
    uint32_t isa = 0;
    for (size_t i = 0; i < sizeof hwcaps / sizeof hwcaps[0]; i++)
        if ((getauxval(hwcaps[i].word) >> hwcaps[i].bit & 1ul) != 0)
            isa |= (uint32_t)hwcaps[i].isa;
    return isa;
}

#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && __ARM_ARCH_ISA_THUMB >= 2

/* Registers of Armv7-M and Armv8-M that say what there is, as words from CPUID on, in fields of four bits. */
enum { CPUID = 0, ID_ISAR3 = 0x6c / 4, CPACR = 0x88 / 4, MVFR0 = 0x240 / 4, MVFR1 = 0x244 / 4, MVFR2 = 0x248 / 4 };

static uint32_t field(int word, unsigned shift)
{
    return ((const volatile uint32_t *)0xE000ED00)[word] >> shift & 15u;
}

/* Every Cortex-M4 (part 0xC24) has the DSP extension; emulators do not all say so. */
static int has_dsp(void)
{
    return field(ID_ISAR3, 4) >= 2 || (field(CPUID, 12) == 0xC && field(CPUID, 8) == 2 && field(CPUID, 4) == 4);
}

uint32_t ec_cpu_isa(void)
{
    const uint32_t all = EC_ISA_DSP | EC_ISA_MVE | EC_ISA_FPU | EC_ISA_FPV5 | EC_ISA_FP64;
    uint32_t control, exception, isa = 0;
    __asm__ volatile("mrs %0, control" : "=r"(control));
    __asm__ volatile("mrs %0, ipsr" : "=r"(exception));
    if ((control & 1u) != 0 && exception == 0) /* unprivileged, and not allowed to look */
        return all;
    if (has_dsp())
        isa |= EC_ISA_DSP;
    if (field(CPACR, 20) != 15) /* the program has not switched floating point and vectors on */
        return isa;
    if (field(MVFR0, 4) >= 2)
        isa |= EC_ISA_FPU;
    if (field(MVFR0, 8) >= 2)
        isa |= EC_ISA_FP64;
    if (field(MVFR2, 4) >= 4)
        isa |= EC_ISA_FPV5;
    if (field(MVFR1, 8) >= 2)
        isa |= EC_ISA_MVE;
    return isa;
}

#else

uint32_t ec_cpu_isa(void)
{
    uint32_t isa = 0;
#if defined(__ARM_NEON)
    isa |= EC_ISA_NEON;
#endif
#if defined(__ARM_FEATURE_FMA)
    isa |= EC_ISA_FMA;
#endif
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
    isa |= EC_ISA_FP16;
#endif
#if defined(__ARM_FEATURE_DOTPROD)
    isa |= EC_ISA_DOTPROD;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    isa |= EC_ISA_I8MM;
#endif
#if defined(__ARM_FEATURE_SVE)
    isa |= EC_ISA_SVE;
#endif
    return isa;
}

#endif

#if !defined(__x86_64__) && !defined(__i386__)
uint32_t ec_claim_isa(uint32_t isa)
{
    return isa & ec_cpu_isa();
}
#endif
