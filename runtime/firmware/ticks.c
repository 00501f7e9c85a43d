/* SPDX-License-Identifier: Apache-2.0 */
#include "ticks.h"

#define CONTROL (*(volatile uint32_t *)0xE000E010)
#define RELOAD (*(volatile uint32_t *)0xE000E014)
#define CURRENT (*(volatile uint32_t *)0xE000E018)

static const uint32_t most = 0xffffff;
static volatile uint32_t wraps;

void ticks_start(void)
{
    const uint32_t enable = 1, interrupt = 2, of_core = 4;
    RELOAD = most;
    CURRENT = 0;
    wraps = 0;
    CONTROL = enable | interrupt | of_core;
}

void ticks_stop(void)
{
    CONTROL = 0;
}

void ticks_wrapped(void)
{
    wraps++;
}

uint64_t ticks(void)
{
    uint32_t before, left;
    do {
        before = wraps;
        left = CURRENT;
    } while (before != wraps); /* the interrupt came between the two */
    return (uint64_t)before * (most + 1u) + (most - left);
}

/* 2 * `turns` instructions, and a few around them. */
__attribute__((noinline)) static uint64_t loop(uint32_t turns)
{
    const uint64_t start = ticks();
    __asm__ volatile(".syntax unified\n1: subs %0, #1\n bne 1b" : "+l"(turns) : : "cc");
    return ticks() - start;
}

uint64_t ticks_per_million(void)
{
    const uint64_t few = loop(1000);
    return loop(501000) - few;
}
