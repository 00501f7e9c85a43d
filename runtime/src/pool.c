/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of threads that share the tasks of one step at a time.
 *
 * The caller of a step opens a job: a share for each worker (pool_share.h), its own among them.  The job is over when
 * the tasks that workers report as done add up.  A helper that still sleeps by then has had its share taken away, and
 * nobody waits for it; for one that works, a job costs a cache line each way.
 */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "edgec/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool_share.h"

#define MAX_WORKERS 256u

typedef struct worker {
    ec_share share;
    EC_ALIGNAS(64) uint64_t done; /* number of the job << 32 | tasks that this worker has run of it */
    EC_ALIGNAS(64) uint32_t asleep;
    uint32_t index;
    pthread_t thread;
    pthread_cond_t woken;
    ec_pool *pool;
} worker;

struct ec_pool {
    EC_ALIGNAS(64) uint32_t busy; /* a caller is inside dispatch */
    uint32_t job;                 /* number of the last one */
    EC_ALIGNAS(64) uint32_t stop;
    uint32_t waiting; /* the caller sleeps until a helper reports tasks as done */
    uint32_t size;    /* workers of this pool */
    pthread_mutex_t mutex;
    pthread_cond_t progress;
    worker *workers; /* the caller is the first */
};

/* ---- Inside a job ------------------------------------------------------------------------------------------------ */

/* Takes tasks of one's own share, or when that is empty of the next one's that is not. */
static bool take_any(ec_pool *pool, uint32_t index, ec_work *w)
{
    for (uint32_t i = 0; i < w->workers; i++) {
        const uint32_t other = index + i < w->workers ? index + i : index + i - w->workers;
        if (take(&pool->workers[other].share, w))
            return true;
    }
    return false;
}

static void run_tasks(const ec_work *w, void *const *args)
{
    w->step->kernel(args, (int32_t)w->begin, (int32_t)w->end);
}

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

/* Reports before it looks whether the caller sleeps, as wait_for_helpers announces that before it looks at reports. */
static void report(worker *self, ec_work *w)
{
    ec_pool *pool = self->pool;
    w->count += w->end - w->begin;
    __atomic_store_n(&self->done, pair(w->job, w->count), __ATOMIC_SEQ_CST);
    if (load(&pool->waiting) != 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->progress);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static bool help(worker *self)
{
    void *args[EC_MAX_ARGS];
    ec_work w;
    memset(&w, 0, sizeof w);
    if (!take(&self->share, &w))
        return false;
    ec_step_args(w.model, w.step, self->index, args);
    do {
        run_tasks(&w, args);
        report(self, &w);
    } while (take_any(self->pool, self->index, &w));
    return true;
}

/* Until the caller ends it.  A share that opens while `asleep` is being set may be missed: others take its tasks. */
static void sleep_until_woken(worker *self)
{
    ec_pool *pool = self->pool;
    pthread_mutex_lock(&pool->mutex);
    store(&self->asleep, (uint32_t)load_pair(&self->share.next) == NONE);
    while (load(&self->asleep) != 0 && load(&pool->stop) == 0)
        pthread_cond_wait(&self->woken, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

static void *run_helper(void *argument)
{
    worker *self = (worker *)argument;
    uint32_t turns = 0;
    while (load(&self->pool->stop) == 0) {
        if (help(self)) {
            turns = 0;
        } else if (!spin(&turns)) {
            sleep_until_woken(self);
            turns = 0;
        }
    }
    return NULL;
}

/* ---- The caller -------------------------------------------------------------------------------------------------- */

static uint32_t border(const ec_step *step, uint32_t index, uint32_t workers)
{
    return (uint32_t)(((uint64_t)step->tasks * index + workers - 1) / workers);
}

static void open_share(worker *w, const ec_model *model, const ec_step *step, uint32_t job, uint32_t workers)
{
    const uint32_t begin = border(step, w->index, workers), end = border(step, w->index + 1, workers);
    __atomic_store_n(&w->share.end, end, __ATOMIC_RELAXED);
    __atomic_store_n(&w->share.grain, step->grain, __ATOMIC_RELAXED);
    __atomic_store_n(&w->share.workers, workers, __ATOMIC_RELAXED);
    __atomic_store_n(&w->share.model, model, __ATOMIC_RELAXED);
    __atomic_store_n(&w->share.step, step, __ATOMIC_RELAXED);
    __atomic_store_n(&w->share.next, pair(job, begin < end ? begin : NONE), __ATOMIC_RELEASE);
}

static void wake(worker *w)
{
    pthread_mutex_lock(&w->pool->mutex);
    store(&w->asleep, 0);
    pthread_cond_signal(&w->woken);
    pthread_mutex_unlock(&w->pool->mutex);
}

static bool all_done(const ec_pool *pool, const ec_work *own)
{
    uint32_t count = own->count;
    for (uint32_t i = 1; i < own->workers; i++) {
        const uint64_t done = load_pair(&pool->workers[i].done);
        count += (uint32_t)(done >> 32) == own->job ? (uint32_t)done : 0;
    }
    return count == own->step->tasks;
}

static void wait_for_helpers(ec_pool *pool, const ec_work *own)
{
    uint32_t turns = 0;
    while (!all_done(pool, own)) {
        if (spin(&turns))
            continue;
        pthread_mutex_lock(&pool->mutex);
        store(&pool->waiting, 1);
        while (!all_done(pool, own))
            pthread_cond_wait(&pool->progress, &pool->mutex);
        store(&pool->waiting, 0);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* How many may work on a step: no more than it has whole grains. */
static uint32_t useful_workers(const ec_pool *pool, const ec_model *model, const ec_step *step)
{
    const uint32_t grains = step->grain > 1 ? step->tasks / step->grain : step->tasks;
    const uint32_t workers = pool->size < model->desc->threads ? pool->size : model->desc->threads;
    return grains < workers ? grains : workers;
}

static ec_status dispatch(void *backend, const ec_model *model, const ec_step *step)
{
    ec_pool *pool = (ec_pool *)backend;
    void *args[EC_MAX_ARGS];
    uint32_t idle = 0;
    ec_work own = {0, useful_workers(pool, model, step), 0, 0, 0, model, step};
    if (own.workers <= 1)
        return ec_step_run(model, step);
    if (!__atomic_compare_exchange_n(&pool->busy, &idle, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return ec_step_run(model, step);
    pool->job += pool->job == UINT32_MAX ? 2 : 1; /* never 0 */
    own.job = pool->job;
    for (uint32_t i = own.workers; i-- > 0;)
        open_share(&pool->workers[i], model, step, own.job, own.workers);
    for (uint32_t i = 1; i < own.workers; i++)
        if (load(&pool->workers[i].asleep) != 0)
            wake(&pool->workers[i]);
    ec_step_args(model, step, 0, args);
    while (take_any(pool, 0, &own)) {
        run_tasks(&own, args);
        own.count += own.end - own.begin;
    }
    wait_for_helpers(pool, &own);
    __atomic_store_n(&pool->busy, 0, __ATOMIC_RELEASE);
    return EC_OK;
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

static uint32_t count_cores(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (uint32_t)CPU_COUNT(&set);
#endif
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 ? (uint32_t)cores : 1;
}

static ec_pool *new_pool(uint32_t workers)
{
    const size_t bytes = sizeof(ec_pool) + workers * sizeof(worker);
    ec_pool *pool = (ec_pool *)aligned_alloc(64, bytes);
    if (pool == NULL)
        return NULL;
    memset(pool, 0, bytes);
    pool->size = 1;
    pool->workers = (worker *)(void *)(pool + 1);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->progress, NULL);
    for (uint32_t i = 0; i < workers; i++) {
        worker *w = &pool->workers[i];
        w->index = i;
        w->pool = pool;
        w->share.next = NONE;
    }
    return pool;
}

ec_status ec_pool_open(ec_pool **pool, uint32_t workers)
{
    if (pool == NULL)
        return EC_ERR_ARG;
    *pool = NULL;
    const uint32_t cores = count_cores();
    if (workers > MAX_WORKERS)
        return EC_ERR_ARG;
    if (workers == 0 || workers > cores)
        workers = cores < MAX_WORKERS ? cores : MAX_WORKERS;
    ec_pool *p = new_pool(workers);
    if (p == NULL)
        return EC_ERR_MEMORY;
    for (; p->size < workers; p->size++) {
        worker *w = &p->workers[p->size];
        pthread_cond_init(&w->woken, NULL);
        if (pthread_create(&w->thread, NULL, run_helper, w) != 0) {
            pthread_cond_destroy(&w->woken);
            ec_pool_close(p);
            return EC_ERR_THREAD;
        }
    }
    *pool = p;
    return EC_OK;
}

void ec_pool_close(ec_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    store(&pool->stop, 1);
    for (uint32_t i = 1; i < pool->size; i++)
        pthread_cond_signal(&pool->workers[i].woken);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 1; i < pool->size; i++) {
        pthread_join(pool->workers[i].thread, NULL);
        pthread_cond_destroy(&pool->workers[i].woken);
    }
    pthread_cond_destroy(&pool->progress);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

uint32_t ec_pool_workers(const ec_pool *pool)
{
    return pool == NULL ? 1 : pool->size;
}

ec_status ec_use_pool(ec_model *model, ec_pool *pool)
{
    const bool alone = pool == NULL || pool->size == 1 || model == NULL || model->desc == NULL || model->desc->threads <= 1;
    return ec_set_dispatch(model, alone ? NULL : dispatch, alone ? NULL : pool);
}
