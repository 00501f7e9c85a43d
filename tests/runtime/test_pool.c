/* The pool: every task exactly once, scratch of one's own, the same answer for any number of workers. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* nanosleep */
#endif
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "edgec/pool.h"
#include "machine.h"
#include "tiny.h"

enum { TASKS = 1000, WORKERS = CORES, ARENA = TASKS * 4 + WORKERS * 64 };

/* Counts each task in its own cell.  scratch[0] is 1 while a worker uses it. */
static void count_tasks(void *const *args, int32_t begin, int32_t end)
{
    uint32_t *counts = (uint32_t *)args[0];
    uint32_t *scratch = (uint32_t *)args[1];
    CHECK_EQ(scratch[0], 0);
    scratch[0] = 1;
    for (int32_t i = begin; i < end; i++)
        counts[i]++;
    scratch[0] = 0;
}

/* Each worker reads what all the others have written in the steps before. */
static void compare_counts(void *const *args, int32_t begin, int32_t end)
{
    const uint32_t *counts = (const uint32_t *)args[0];
    uint32_t different = 0;
    (void)begin;
    (void)end;
    for (uint32_t i = 3; i < TASKS; i++)
        different += counts[i] != counts[3];
    CHECK_EQ(different, 0);
}

static const ec_ref counter_args[] = {{EC_ARENA, 0}, {EC_SCRATCH, TASKS * 4}};
static const ec_step counter_steps[] = {
    {count_tasks, counter_args, 2, TASKS, 1, 64, 0, "count"},
    {count_tasks, counter_args, 2, 1, 1, 64, 0, "count one"},
    {count_tasks, counter_args, 2, 0, 1, 64, 0, "count none"},
    {count_tasks, counter_args, 2, 3, 1, 64, 0, "count three"},
    {compare_counts, counter_args, 2, 16, 1, 64, 0, "compare"},
    {count_tasks, counter_args, 2, TASKS, 1, 64, 0, "count again"},
};
static const ec_desc counter_desc = {EC_ABI, 0,    ARENA,         64,   WORKERS, 0, 0, 6,
                                     NULL,   NULL, counter_steps, NULL, 0,       2, "counter", "0", "any", NULL, NULL, NULL};

static uint32_t expected_count(uint32_t task)
{
    return task == 0 ? 4 : task < 3 ? 3 : 2;
}

static void *new_arena(size_t bytes)
{
    void *arena = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (arena == NULL)
        abort();
    memset(arena, 0, bytes);
    return arena;
}

static void check_counts(const ec_model *model, uint32_t runs)
{
    const uint32_t *counts = (const uint32_t *)(const void *)model->arena;
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < TASKS; i++)
        wrong += counts[i] != runs * expected_count(i);
    CHECK_EQ(wrong, 0);
}

static void every_task_runs_exactly_once(uint32_t workers)
{
    ec_pool *pool;
    ec_model model;
    void *arena = new_arena(ARENA);
    CHECK_EQ(ec_pool_open(&pool, workers), EC_OK);
    CHECK_EQ(ec_pool_workers(pool), workers);
    CHECK_EQ(ec_open(&model, &counter_desc, arena, ARENA), EC_OK);
    CHECK_EQ(ec_use_pool(&model, pool), EC_OK);
    for (uint32_t runs = 1; runs <= 300; runs++)
        CHECK_EQ(ec_run(&model), EC_OK);
    check_counts(&model, 300);
    CHECK_EQ(ec_use_pool(&model, NULL), EC_OK);
    ec_pool_close(pool);
    CHECK_EQ(ec_run(&model), EC_OK);
    check_counts(&model, 301);
    free(arena);
}

/* Returns only when all workers are inside it: so they do work at the same time, each in scratch of its own. */
static void meet(void *const *args, int32_t begin, int32_t end)
{
    uint32_t *arrived = (uint32_t *)args[0], *scratch = (uint32_t *)args[1];
    CHECK_EQ(end - begin, 1);
    CHECK_EQ(*scratch, 0);
    *scratch = 1;
    __atomic_add_fetch(arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(arrived, __ATOMIC_SEQ_CST) < WORKERS)
        sched_yield();
}

static void all_workers_take_part(void)
{
    const ec_step step = {meet, counter_args, 2, WORKERS, 1, 64, 0, "meet"};
    ec_desc desc = counter_desc;
    ec_pool *pool;
    ec_model model;
    desc.steps = &step;
    desc.n_steps = 1;
    CHECK_EQ(ec_pool_open(&pool, WORKERS), EC_OK);
    for (int run = 0; run < 20; run++) {
        void *arena = new_arena(ARENA);
        CHECK_EQ(ec_open(&model, &desc, arena, ARENA), EC_OK);
        CHECK_EQ(ec_use_pool(&model, pool), EC_OK);
        CHECK_EQ(ec_run(&model), EC_OK);
        for (uint32_t worker = 0; worker < WORKERS; worker++)
            CHECK_EQ(((const uint8_t *)arena)[TASKS * 4 + worker * 64], 1);
        free(arena);
    }
    ec_pool_close(pool);
}

/* The arena ends after the scratch of the two workers it was planned for. */
static void no_more_workers_than_the_arena_has_scratch_for(void)
{
    enum { SMALL = TASKS * 4 + 2 * 64 };
    ec_desc desc = counter_desc;
    ec_pool *pool;
    ec_model model;
    uint8_t *arena = (uint8_t *)new_arena(SMALL + 64 * 6);
    desc.threads = 2;
    desc.arena_bytes = SMALL;
    CHECK_EQ(ec_pool_open(&pool, WORKERS), EC_OK);
    CHECK_EQ(ec_open(&model, &desc, arena, SMALL), EC_OK);
    CHECK_EQ(ec_use_pool(&model, pool), EC_OK);
    for (int run = 0; run < 100; run++)
        CHECK_EQ(ec_run(&model), EC_OK);
    check_counts(&model, 100);
    for (size_t i = SMALL; i < SMALL + 64 * 6; i++)
        CHECK_EQ(arena[i], 0);
    ec_pool_close(pool);
    free(arena);
}

/* Counts each task, and how many calls were of fewer tasks than `shortest`. */
static uint32_t shortest, short_calls, foreign_calls;
static pthread_t caller;

static void note_calls(void *const *args, int32_t begin, int32_t end)
{
    uint32_t *counts = (uint32_t *)args[0];
    for (int32_t i = begin; i < end; i++)
        counts[i]++;
    if ((uint32_t)(end - begin) < shortest)
        __atomic_add_fetch(&short_calls, 1, __ATOMIC_SEQ_CST);
    if (!pthread_equal(pthread_self(), caller))
        __atomic_add_fetch(&foreign_calls, 1, __ATOMIC_SEQ_CST);
}

/* A model of one step on a pool of `workers`; `desc` and `step` are the caller's. */
static ec_pool *open_on_pool(ec_model *model, ec_desc *desc, const ec_step *step, void *arena, uint32_t workers)
{
    ec_pool *pool;
    *desc = counter_desc;
    desc->steps = step;
    desc->n_steps = 1;
    caller = pthread_self();
    CHECK_EQ(ec_pool_open(&pool, workers), EC_OK);
    CHECK_EQ(ec_open(model, desc, arena, ARENA), EC_OK);
    CHECK_EQ(ec_use_pool(model, pool), EC_OK);
    return pool;
}

static void run_with_grain(uint32_t grain, uint32_t runs)
{
    const ec_step step = {note_calls, counter_args, 2, TASKS, grain, 64, 0, "note"};
    ec_desc desc;
    ec_model model;
    uint32_t wrong = 0;
    void *arena = new_arena(ARENA);
    ec_pool *pool = open_on_pool(&model, &desc, &step, arena, WORKERS);
    shortest = grain < TASKS ? grain : TASKS;
    short_calls = foreign_calls = 0;
    for (uint32_t run = 0; run < runs; run++)
        CHECK_EQ(ec_run(&model), EC_OK);
    ec_pool_close(pool);
    for (uint32_t i = 0; i < TASKS; i++)
        wrong += ((const uint32_t *)arena)[i] != runs;
    CHECK_EQ(wrong, 0);
    CHECK_EQ(short_calls, 0);
    free(arena);
}

static void no_worker_takes_less_than_a_grain(void)
{
    for (uint32_t grain = 1; grain < TASKS; grain += 37)
        run_with_grain(grain, 50);
    for (uint32_t grain = TASKS / 2 + 1; grain <= 2 * TASKS; grain += TASKS / 2) {
        run_with_grain(grain, 50);
        CHECK_EQ(foreign_calls, 0);
    }
    run_with_grain(UINT32_MAX, 5);
    CHECK_EQ(foreign_calls, 0);
}

/* Helpers that sleep are woken; a caller that waits long for a helper sleeps, and is woken too. */
static void doze(void *const *args, int32_t begin, int32_t end)
{
    const struct timespec nap = {0, 3000000};
    count_tasks(args, begin, end);
    if (!pthread_equal(pthread_self(), caller))
        nanosleep(&nap, NULL);
}

static void whoever_sleeps_is_woken(void)
{
    const ec_step step = {doze, counter_args, 2, TASKS, 1, 64, 0, "doze"};
    const struct timespec nap = {0, 3000000};
    ec_desc desc;
    ec_model model;
    uint32_t wrong = 0;
    void *arena = new_arena(ARENA);
    ec_pool *pool = open_on_pool(&model, &desc, &step, arena, 3);
    for (int run = 0; run < 10; run++) {
        CHECK_EQ(ec_run(&model), EC_OK);
        nanosleep(&nap, NULL);
    }
    ec_pool_close(pool);
    for (uint32_t i = 0; i < TASKS; i++)
        wrong += ((const uint32_t *)arena)[i] != 10;
    CHECK_EQ(wrong, 0);
    free(arena);
}

/* Neither a thread nor a detour per step where there is nothing to share. */
static void one_worker_is_no_pool(void)
{
    ec_desc desc = counter_desc;
    ec_pool *pool;
    ec_model model;
    void *arena = new_arena(ARENA);
    threads_left = 0;
    CHECK_EQ(ec_pool_open(&pool, 1), EC_OK);
    threads_left = -1;
    CHECK_EQ(ec_open(&model, &desc, arena, ARENA), EC_OK);
    CHECK_EQ(ec_use_pool(&model, pool), EC_OK);
    CHECK(model.dispatch == NULL);
    ec_pool_close(pool);
    CHECK_EQ(ec_pool_open(&pool, 2), EC_OK);
    CHECK_EQ(ec_use_pool(&model, pool), EC_OK);
    CHECK(model.dispatch != NULL);
    desc.threads = 1;
    CHECK_EQ(ec_use_pool(&model, pool), EC_OK);
    CHECK(model.dispatch == NULL);
    ec_pool_close(pool);
    free(arena);
}

typedef struct instance {
    ec_pool *pool;
    const ec_desc *desc;
    uint32_t runs;
} instance;

static void *run_instance(void *argument)
{
    const instance *self = (const instance *)argument;
    ec_model model;
    void *arena = new_arena(self->desc->arena_bytes);
    CHECK_EQ(ec_open(&model, self->desc, arena, self->desc->arena_bytes), EC_OK);
    CHECK_EQ(ec_use_pool(&model, self->pool), EC_OK);
    for (uint32_t run = 0; run < self->runs; run++)
        CHECK_EQ(ec_run(&model), EC_OK);
    check_counts(&model, self->runs);
    free(arena);
    return NULL;
}

/* Two instances of one descriptor on two threads: each alone, each with a pool, both on one pool. */
static void instances_do_not_disturb_each_other(ec_pool *first, ec_pool *second)
{
    instance a = {first, &counter_desc, 200}, b = {second, &counter_desc, 200};
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, run_instance, &a), 0);
    run_instance(&b);
    pthread_join(thread, NULL);
}

static void models_share_a_pool_in_turn(void)
{
    EC_ALIGNAS(64) static uint8_t tiny_arena[TINY_ARENA_BYTES];
    const float x[4] = {1, 2, 3, 4};
    ec_desc tiny = tiny_desc;
    ec_pool *pool;
    ec_model a, b;
    void *arena = new_arena(ARENA);
    tiny.threads = 4;
    CHECK_EQ(ec_pool_open(&pool, 3), EC_OK);
    CHECK_EQ(ec_open(&a, &counter_desc, arena, ARENA), EC_OK);
    CHECK_EQ(ec_open(&b, &tiny, tiny_arena, sizeof tiny_arena), EC_OK);
    CHECK_EQ(ec_use_pool(&a, pool), EC_OK);
    CHECK_EQ(ec_use_pool(&b, pool), EC_OK);
    for (int run = 0; run < 100; run++) {
        CHECK_EQ(ec_run(&a), EC_OK);
        memcpy(ec_input(&b, 0).data, x, sizeof x);
        CHECK_EQ(ec_run(&b), EC_OK);
        CHECK(((const float *)ec_output(&b, 0).data)[2] == 0.375f);
    }
    check_counts(&a, 100);
    ec_pool_close(pool);
    free(arena);
}

int main(void)
{
    ec_pool *first, *second;
    for (uint32_t workers = 1; workers <= WORKERS; workers++)
        every_task_runs_exactly_once(workers);
    all_workers_take_part();
    no_more_workers_than_the_arena_has_scratch_for();
    no_worker_takes_less_than_a_grain();
    whoever_sleeps_is_woken();
    one_worker_is_no_pool();
    CHECK_EQ(ec_pool_open(&first, 2), EC_OK);
    CHECK_EQ(ec_pool_open(&second, 4), EC_OK);
    instances_do_not_disturb_each_other(NULL, NULL);
    instances_do_not_disturb_each_other(first, second);
    instances_do_not_disturb_each_other(first, first);
    ec_pool_close(first);
    ec_pool_close(second);
    models_share_a_pool_in_turn();
    return CHECK_RESULT();
}
