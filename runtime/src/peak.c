/* SPDX-License-Identifier: Apache-2.0 */
/* What one core can do at best: multiply-adds on registers alone, and reading from memory. */
#include "edgec/bench.h"

#define TURNS 16384u /* 12 multiply-adds each: some ten microseconds */
#define ROUNDS 5      /* odd: the median counts, as it does where runs of a model are compared with it */

/* Twelve chains, more than any core needs to hide the latency of a multiply-add, and few enough for 16 registers. */
#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define START(i) vector a##i = SET(seed + (float)i);
#define STEP(i) a##i = FMA(a##i, factor, term);
#define SUM(i) sum = ADD(sum, a##i);

/* Defines `name`, which runs the chains and returns something that depends on all of them. */
#define CHAINS(name, attributes, type)                                                                                 \
    attributes static float name(float seed)                                                                           \
    {                                                                                                                  \
        typedef type vector;                                                                                           \
        const vector factor = SET(0.5f), term = SET(seed);                                                             \
        TWELVE(START)                                                                                                  \
        for (uint32_t turn = 0; turn < TURNS; turn++) {                                                                \
            TWELVE(STEP)                                                                                               \
        }                                                                                                              \
        vector sum = SET(0);                                                                                           \
        TWELVE(SUM)                                                                                                    \
        float out[sizeof(vector) / sizeof(float)];                                                                     \
        STORE(out, sum);                                                                                               \
        return out[0];                                                                                                 \
    }

typedef float (*chains)(float seed);
typedef struct width {
    uint32_t isa, lanes; /* needed; elements of a vector */
    chains run;
} width;

#if defined(__x86_64__)
#include <immintrin.h>
#define SET(x) _mm512_set1_ps(x)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define ADD(a, b) _mm512_add_ps(a, b)
#define STORE(to, v) _mm512_storeu_ps(to, v)
CHAINS(chains_avx512, __attribute__((target("avx512f"))), __m512)
#undef SET
#undef FMA
#undef ADD
#undef STORE
#define SET(x) _mm256_set1_ps(x)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define ADD(a, b) _mm256_add_ps(a, b)
#define STORE(to, v) _mm256_storeu_ps(to, v)
CHAINS(chains_avx2, __attribute__((target("avx2,fma"))), __m256)
#undef SET
#undef FMA
#undef ADD
#undef STORE
#define SET(x) _mm_set1_ps(x)
#define FMA(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
#define ADD(a, b) _mm_add_ps(a, b)
#define STORE(to, v) _mm_storeu_ps(to, v)
CHAINS(chains_sse, , __m128)

static const width widths[] = {
    {EC_ISA_AVX512F, 16, chains_avx512},
    {EC_ISA_AVX2 | EC_ISA_FMA, 8, chains_avx2},
    {0, 4, chains_sse},
};
#elif defined(__aarch64__)
#include <arm_neon.h>
#define SET(x) vdupq_n_f32(x)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define ADD(a, b) vaddq_f32(a, b)
#define STORE(to, v) vst1q_f32(to, v)
CHAINS(chains_neon, , float32x4_t)

static const width widths[] = {{0, 4, chains_neon}};
#else
#define SET(x) (x)
#define FMA(a, b, c) ((a) * (b) + (c))
#define ADD(a, b) ((a) + (b))
#define STORE(to, v) (*(to) = (v))
CHAINS(chains_scalar, , float)

static const width widths[] = {{0, 1, chains_scalar}};
#endif

/* Of ROUNDS times, in nanoseconds; at least 1. */
static double median(const uint64_t *times)
{
    for (int i = 0; i < ROUNDS; i++) {
        int below = 0, equal = 0;
        for (int k = 0; k < ROUNDS; k++) {
            below += times[k] < times[i];
            equal += times[k] == times[i];
        }
        if (below <= ROUNDS / 2 && below + equal > ROUNDS / 2)
            return times[i] > 0 ? (double)times[i] : 1.0;
    }
    return 1.0;
}

double ec_bench_peak(void)
{
    const width *widest = widths;
    volatile float sink = 0.25f; /* neither the seed nor the result is known to the compiler */
    uint64_t times[ROUNDS];
    while ((widest->isa & ~ec_cpu_isa()) != 0)
        widest++;
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t start = ec_clock_ns();
        sink = widest->run(sink);
        times[round] = ec_clock_ns() - start;
    }
    return 2.0 * 12.0 * TURNS * widest->lanes / median(times);
}

double ec_bench_read(const void *memory, size_t bytes)
{
    const uint64_t *words = (const uint64_t *)memory;
    const size_t count = bytes / (8 * sizeof *words);
    volatile uint64_t sink;
    uint64_t times[ROUNDS];
    if (memory == NULL)
        return 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t sums[4] = {0, 0, 0, 0};
        const uint64_t start = ec_clock_ns();
        for (size_t i = 0; i < count; i++)
            for (size_t k = 0; k < 4; k++)
                sums[k] += words[8 * i + k] ^ words[8 * i + 4 + k];
        sink = sums[0] + sums[1] + sums[2] + sums[3];
        times[round] = ec_clock_ns() - start;
    }
    (void)sink;
    return (double)(count * 8 * sizeof *words) / median(times);
}
