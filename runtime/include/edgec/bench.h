/* SPDX-License-Identifier: Apache-2.0 */
/* edgec/bench.h - how long a model takes, as a whole and step by step.  Needs clock_gettime.
 *
 * Every run starts from what the memory holds: inputs are not written again, though an earlier run may have overwritten
 * them.  Write realistic inputs first; values that decay into subnormal numbers would make some CPUs slow.
 */
#ifndef EDGEC_BENCH_H
#define EDGEC_BENCH_H

#include "edgec/edgec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Nanoseconds of the monotonic clock: the `clock` of ec_set_profile. */
uint64_t ec_clock_ns(void);

/* Times `runs` runs; ms_out[runs], in milliseconds, in the order they happened.  Warm up with a run of your own. */
ec_status ec_bench(ec_model *model, uint32_t runs, double *ms_out);

/* Times every step of `runs` runs, all turns of it together; ms_out[runs][desc->n_steps], in milliseconds, 0 for branches
 * and for what they leave out.  A profile hook that is set stays set,
 * but is not called meanwhile. */
ec_status ec_bench_steps(ec_model *model, uint32_t runs, double *ms_out);

/* What one core of this machine reaches on registers alone: 1e9 fp32 operations per second, a multiply-add counting two,
 * in the widest vectors it has.  Takes less than a millisecond: measure it between runs, for clock rates drift. */
double ec_bench_peak(void);

/* 1e9 bytes per second that one core reads from `memory`: written before, and larger than the caches.  0 for NULL. */
double ec_bench_read(const void *memory, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
