/* SPDX-License-Identifier: Apache-2.0 */
/* Times whole runs and single steps. */
#if !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#endif
#include "edgec/bench.h"

#include <time.h>

uint64_t ec_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

ec_status ec_bench(ec_model *model, uint32_t runs, double *ms_out)
{
    if (model == NULL || model->desc == NULL || (runs > 0 && ms_out == NULL))
        return EC_ERR_ARG;
    ec_restart(model);
    for (uint32_t run = 0; run < runs; run++) {
        const uint64_t start = ec_clock_ns();
        const ec_status status = ec_run(model);
        if (status != EC_OK)
            return status;
        ms_out[run] = (double)(ec_clock_ns() - start) * 1e-6;
    }
    return EC_OK;
}

static void record(void *user, uint32_t step, uint64_t nanoseconds)
{
    double *row = *(double **)user;
    row[step] += (double)nanoseconds * 1e-6; /* a step inside a loop runs several times */
}

ec_status ec_bench_steps(ec_model *model, uint32_t runs, double *ms_out)
{
    if (model == NULL || model->desc == NULL || (runs > 0 && ms_out == NULL))
        return EC_ERR_ARG;
    const ec_model before = *model;
    double *row = ms_out;
    ec_status status = ec_set_profile(model, record, &row, ec_clock_ns);
    ec_restart(model);
    for (uint32_t run = 0; run < runs && status == EC_OK; run++, row += model->desc->n_steps) {
        for (uint32_t step = 0; step < model->desc->n_steps; step++)
            row[step] = 0;
        status = ec_run(model);
    }
    ec_set_profile(model, before.profile, before.profile_user, before.clock);
    return status;
}
