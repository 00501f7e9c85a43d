/* A pool of threads that share the tasks of one step at a time.
 *
 * `state` is the whole protocol: bit 0 says that a job is open, bits 1-15 count the helpers inside it, bits 16-31
 * number the jobs.  A helper enters by adding itself to an open job and leaves by subtracting itself.  The caller works
 * too, and closes the job when no task is left to take: a helper that is still asleep by then has missed the job, and
 * nobody waits for it.
 *
 * Compiler builtins instead of <stdatomic.h> because this file must compile as C++ as well.
 */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "edgec/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WORKERS 256u
#define SPIN_TURNS 2000u /* 20 to 90 us: about what it costs to send a thread to sleep and to wake it */

#define OPEN 1u
#define HELPER 2u
#define HELPERS 0xfffeu
#define JOB 0x10000u

struct ec_pool {
    /* The job: written by the caller while `state` is closed and empty, read by those inside. */
    const ec_model *model;
    const ec_step *step;
    uint32_t workers; /* that may take part in it */

    /* Each alone on its cache line: helpers watch `state` and `stop`, everybody writes the others. */
    EC_ALIGNAS(64) uint32_t state;
    EC_ALIGNAS(64) uint32_t taken;  /* tasks handed out */
    EC_ALIGNAS(64) uint32_t joined; /* numbers the workers of a job: the caller is 0, helpers follow as they come */
    EC_ALIGNAS(64) uint32_t busy;   /* a caller is inside dispatch */
    EC_ALIGNAS(64) uint32_t stop;
    uint32_t sleeping; /* helpers that wait for job_opened */
    uint32_t waiting;  /* the caller waits for job_empty */
    uint32_t size;     /* workers of this pool */
    pthread_mutex_t mutex;
    pthread_cond_t job_opened, job_empty;
    pthread_t threads[MAX_WORKERS]; /* from 1 on; worker 0 is the caller */
};

static uint32_t load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void store(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static bool exchange_if(uint32_t *word, uint32_t *expected, uint32_t desired)
{
    return __atomic_compare_exchange_n(word, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* One turn of a waiting loop; false when it is time to sleep. */
static bool spin(uint32_t *turns)
{
    if (++*turns > SPIN_TURNS)
        return false;
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` returns at once on most cores */
#endif
    return true;
}

/* ---- Inside a job ------------------------------------------------------------------------------------------------ */

/* Takes the next tasks: large pieces first, single tasks at the end, so that all workers finish together. */
static bool take(ec_pool *pool, uint32_t *begin, uint32_t *end)
{
    const uint32_t tasks = pool->step->tasks;
    *begin = load(&pool->taken);
    do {
        if (*begin >= tasks)
            return false;
        const uint32_t share = (tasks - *begin) / (2 * pool->workers);
        *end = *begin + (share > 0 ? share : 1);
    } while (!exchange_if(&pool->taken, begin, *end));
    return true;
}

static void work(ec_pool *pool, uint32_t worker)
{
    void *args[EC_MAX_ARGS];
    uint32_t begin, end;
    if (worker >= pool->workers || !take(pool, &begin, &end))
        return;
    ec_step_args(pool->model, pool->step, worker, args);
    do
        pool->step->kernel(args, (int32_t)begin, (int32_t)end);
    while (take(pool, &begin, &end));
}

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

static bool is_new(uint32_t state, uint32_t last_job)
{
    return (state & OPEN) != 0 && state / JOB != last_job;
}

static bool enter(ec_pool *pool, uint32_t *last_job)
{
    uint32_t state = load(&pool->state);
    while (is_new(state, *last_job)) {
        if (exchange_if(&pool->state, &state, state + HELPER)) {
            *last_job = state / JOB;
            return true;
        }
    }
    return false;
}

static void leave(ec_pool *pool)
{
    const uint32_t state = __atomic_sub_fetch(&pool->state, HELPER, __ATOMIC_SEQ_CST);
    if ((state & (OPEN | HELPERS)) == 0 && load(&pool->waiting) != 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->job_empty);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* Announces the sleep before it looks at `state` a last time, as open_job looks at `sleeping` after it set `state`:
 * one of the two sees the other. */
static void sleep_until_job(ec_pool *pool, uint32_t last_job)
{
    pthread_mutex_lock(&pool->mutex);
    store(&pool->sleeping, pool->sleeping + 1);
    while (!is_new(load(&pool->state), last_job) && load(&pool->stop) == 0)
        pthread_cond_wait(&pool->job_opened, &pool->mutex);
    store(&pool->sleeping, pool->sleeping - 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void *run_helper(void *argument)
{
    ec_pool *pool = (ec_pool *)argument;
    uint32_t last_job = 0;
    uint32_t turns = 0;
    while (load(&pool->stop) == 0) {
        if (enter(pool, &last_job)) {
            work(pool, __atomic_fetch_add(&pool->joined, 1, __ATOMIC_SEQ_CST));
            leave(pool);
            turns = 0;
        } else if (!spin(&turns)) {
            sleep_until_job(pool, last_job);
        }
    }
    return NULL;
}

/* ---- The caller -------------------------------------------------------------------------------------------------- */

static void open_job(ec_pool *pool)
{
    store(&pool->taken, 0);
    store(&pool->joined, 1);
    store(&pool->state, (load(&pool->state) + JOB) | OPEN);
    uint32_t workers = pool->size - load(&pool->sleeping);
    if (workers >= pool->workers)
        return;
    pthread_mutex_lock(&pool->mutex);
    for (; workers < pool->workers; workers++)
        pthread_cond_signal(&pool->job_opened);
    pthread_mutex_unlock(&pool->mutex);
}

static void close_job(ec_pool *pool)
{
    uint32_t turns = 0;
    __atomic_and_fetch(&pool->state, ~OPEN, __ATOMIC_SEQ_CST);
    while ((load(&pool->state) & HELPERS) != 0) {
        if (spin(&turns))
            continue;
        pthread_mutex_lock(&pool->mutex);
        store(&pool->waiting, 1);
        while ((load(&pool->state) & HELPERS) != 0)
            pthread_cond_wait(&pool->job_empty, &pool->mutex);
        store(&pool->waiting, 0);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static ec_status dispatch(void *backend, const ec_model *model, const ec_step *step)
{
    ec_pool *pool = (ec_pool *)backend;
    const uint32_t workers = pool->size < model->desc->threads ? pool->size : model->desc->threads;
    uint32_t idle = 0;
    if (workers <= 1 || step->tasks <= 1 || !exchange_if(&pool->busy, &idle, 1))
        return ec_step_run(model, step);
    pool->model = model;
    pool->step = step;
    pool->workers = workers;
    open_job(pool);
    work(pool, 0);
    close_job(pool);
    store(&pool->busy, 0);
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
    ec_pool *p = (ec_pool *)aligned_alloc(64, sizeof(ec_pool));
    if (p == NULL)
        return EC_ERR_MEMORY;
    memset(p, 0, sizeof *p);
    p->size = 1;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->job_opened, NULL);
    pthread_cond_init(&p->job_empty, NULL);
    for (; p->size < workers; p->size++) {
        if (pthread_create(&p->threads[p->size], NULL, run_helper, p) != 0) {
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
    pthread_cond_broadcast(&pool->job_opened);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 1; i < pool->size; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->job_empty);
    pthread_cond_destroy(&pool->job_opened);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

uint32_t ec_pool_workers(const ec_pool *pool)
{
    return pool == NULL ? 1 : pool->size;
}

ec_status ec_use_pool(ec_model *model, ec_pool *pool)
{
    return ec_set_dispatch(model, pool == NULL ? NULL : dispatch, pool);
}
