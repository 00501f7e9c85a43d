/* SPDX-License-Identifier: Apache-2.0 */
/* How the tasks of a step are handed out to the workers of a pool, and how a worker waits.  Part of pool.c.
 *
 * A job gives each worker a share, a range of tasks of its own.  `share.next` is the whole protocol: the number of the
 * job and the first task that nobody has taken, NONE when all are.  Whoever moves it on has taken the tasks between:
 * the worker itself, or one that has no more of its own.
 *
 * What a share says beside `next` is read before `next` is moved on, and counts only if that succeeds: an open share
 * keeps its job from ending, so that all that was read belongs to that job.
 *
 * Compiler builtins instead of <stdatomic.h> because this file must compile as C++ as well.
 */
#ifndef EDGEC_POOL_SHARE_H
#define EDGEC_POOL_SHARE_H

#include <sched.h>
#include <stdbool.h>

#include "edgec/edgec.h"

#define NONE UINT32_MAX  /* above every task: ec_step.tasks <= INT32_MAX */
#define SPIN_TURNS 2000u /* 20 to 90 us: about what it costs to send a thread to sleep and to wake it */
#define YIELD_TURNS 400u /* between offers of the core to whoever else may wait for it */

/* A worker's share of the job, written by the caller while no job is open. */
typedef struct ec_share {
    EC_ALIGNAS(64) uint64_t next; /* number of the job << 32 | first task left */
    uint32_t end, grain;
    uint32_t workers; /* of the job */
    const ec_model *model;
    const ec_step *step;
} ec_share;

static uint32_t load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static uint64_t load_pair(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void store(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static uint64_t pair(uint32_t job, uint32_t tasks)
{
    return (uint64_t)job << 32 | tasks;
}

/* What a worker does at the moment. */
typedef struct ec_work {
    uint32_t job, workers, begin, end, count; /* count: tasks done of this job */
    const ec_model *model;
    const ec_step *step;
} ec_work;

/* Takes tasks of a share of the job: half of what is left, so that all workers finish together, or all that is left
 * where half is less than a grain.  A worker without a job yet (0) takes any that is open. */
static bool take(ec_share *from, ec_work *w)
{
    uint64_t next = load_pair(&from->next);
    for (;;) {
        const uint32_t job = (uint32_t)(next >> 32), begin = (uint32_t)next;
        if (begin == NONE || (w->job != 0 && w->job != job))
            return false;
        const uint32_t end = __atomic_load_n(&from->end, __ATOMIC_RELAXED);
        const uint32_t workers = __atomic_load_n(&from->workers, __ATOMIC_RELAXED);
        const ec_model *model = __atomic_load_n(&from->model, __ATOMIC_RELAXED);
        const ec_step *step = __atomic_load_n(&from->step, __ATOMIC_RELAXED);
        const uint32_t grain = __atomic_load_n(&from->grain, __ATOMIC_RELAXED);
        const uint32_t left = end - begin, half = left - left / 2;
        const uint32_t size = half >= grain ? half : left;
        const uint64_t after = pair(job, size < left ? begin + size : NONE);
        if (__atomic_compare_exchange_n(&from->next, &next, after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            w->job = job;
            w->workers = workers;
            w->begin = begin;
            w->end = begin + size;
            w->model = model;
            w->step = step;
            return true;
        }
    }
}

/* One turn of a waiting loop; false when it is time to sleep.  Where cores are fewer than threads, those who wait must
 * let the others work. */
static bool spin(uint32_t *turns)
{
    if (++*turns > SPIN_TURNS)
        return false;
    if (*turns % YIELD_TURNS == 0) {
        sched_yield();
        return true;
    }
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` returns at once on most cores */
#endif
    return true;
}

#endif
