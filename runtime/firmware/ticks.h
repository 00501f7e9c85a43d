/* SPDX-License-Identifier: Apache-2.0 */
/* A counter of ticks that does not wrap, from the 24 bits of SysTick. */
#ifndef EDGEC_FIRMWARE_TICKS_H
#define EDGEC_FIRMWARE_TICKS_H

#include <stdint.h>

void ticks_start(void);
void ticks_stop(void);
uint64_t ticks(void);

/* How many ticks 1,000,000 instructions take: the emulator counts instructions in time. */
uint64_t ticks_per_million(void);

/* The handler of SysTick's interrupt. */
void ticks_wrapped(void);

#endif
