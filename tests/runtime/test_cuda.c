/* Models on a GPU, through the emulated driver: answers, streams, times, what is shared and given back. */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "device_model.h"
#include "edgec/bench.h"

EC_ALIGNAS(64) static uint8_t arena[NORM_ARENA], other[NORM_ARENA];

static void fill(uint8_t *in, float factor)
{
    const float x[4] = {factor, 2 * factor, 3 * factor, 4 * factor};
    memcpy(in + X, x, sizeof x);
}

static int right(const uint8_t *in, float factor)
{
    float scores[4];
    memcpy(scores, in + SCORES, sizeof scores);
    const float sum = 20 * factor - 4;
    return scores[0] == 2 * factor / sum && scores[3] == (8 * factor - 4) / sum;
}

static int32_t tally_of(const uint8_t *in)
{
    int32_t runs;
    memcpy(&runs, in + TALLY, sizeof runs);
    return runs;
}

static void a_model_runs(void)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
    for (int run = 1; run < 4; run++) {
        fill(arena, (float)run);
        CHECK_EQ(ec_run(&model), EC_OK);
        CHECK(right(arena, (float)run));
        CHECK_EQ(ec_output_count(&model, 0), 4);
        CHECK_EQ(tally_of(arena), run);
        CHECK_EQ(model.next, 0);
    }
    ec_close(&model);
    CHECK_EQ(ec_run(&model), EC_ERR_ARG);
    CHECK_EQ(held(), 0);
}


static void steps_and_runs_agree(void)
{
    ec_model model;
    ec_status left;
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
    fill(arena, 3);
    CHECK_EQ(ec_run(&model), EC_OK);
    uint8_t whole[NORM_ARENA];
    memcpy(whole, arena, sizeof whole);
    memset(arena + SCORES, 0, NORM_ARENA - SCORES);
    CHECK_EQ(ec_step_next(&model), 3);
    fill(arena, 7); /* inputs have been copied */
    float m[4];
    CHECK_EQ(ec_read(&model, (ec_ref){EC_ARENA, 256}, m, sizeof m), EC_OK);
    CHECK(m[0] == 6 && m[3] == 20);
    CHECK_EQ(ec_step_next(&model), 2);
    ec_restart(&model);
    CHECK_EQ(ec_step_next(&model), 3); /* and are again */
    fill(arena, 3);
    ec_restart(&model);
    do
        left = ec_step_next(&model);
    while (left > 0);
    CHECK_EQ(left, 0);
    CHECK_EQ(tally_of(arena), 2);
    CHECK(memcmp(whole, arena, TALLY) == 0);
    CHECK_EQ(ec_step_next(&model), 3);
    CHECK_EQ(ec_run(&model), EC_OK); /* the rest of a run */
    CHECK_EQ(tally_of(arena), 3);
    ec_close(&model);
    CHECK_EQ(held(), 0);
}

static void runs_need_not_be_waited_for(void)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
    fill(arena, 2);
    CHECK_EQ(ec_run_async(&model), EC_OK);
    CHECK_EQ(ec_run_async(&model), EC_OK);
    CHECK_EQ(ec_wait(&model), EC_OK);
    CHECK(right(arena, 2));
    CHECK_EQ(tally_of(arena), 2);
    ec_close(&model);
    CHECK_EQ(ec_wait(&model), EC_ERR_ARG);
    CHECK_EQ(ec_run_async(NULL), EC_ERR_ARG);
}

static void instances_share_weights_and_code(void)
{
    ec_model a, b;
    CHECK_EQ(ec_open(&a, &norm_desc, arena, sizeof arena), EC_OK);
    const int one = held();
    CHECK_EQ(ec_open(&b, &norm_desc, other, sizeof other), EC_OK);
    const int two = held();
    CHECK_EQ(two - one, 3); /* a stream, the arena, the zeros; not context, module and weights */
    fill(arena, 2);
    fill(other, 5);
    CHECK_EQ(ec_run(&a), EC_OK);
    CHECK_EQ(ec_run(&b), EC_OK);
    CHECK(right(arena, 2) && right(other, 5));
    CHECK(tally_of(arena) == 1 && tally_of(other) == 1);
    ec_close(&a);
    CHECK_EQ(ec_run(&b), EC_OK);
    CHECK_EQ(tally_of(other), 2);
    ec_close(&b);
    CHECK_EQ(held(), 0);
}

/* As a program does that has its data on the device: `stream`, memory and copies of its own. */
static void a_model_runs_on_the_callers_stream(void)
{
    const float x[4] = {1, 2, 3, 4};
    float scores[4];
    void *stream = NULL;
    ec_model model;
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
    CHECK_EQ(ec_run(&model), EC_OK); /* captured with copies */
    CHECK_EQ(emulated.push((void *)1), 0);
    CHECK_EQ(emulated.stream_create(&stream, 0), 0);
    CHECK_EQ(ec_cuda_use(&model, stream, 4), EC_ERR_ARG);
    CHECK_EQ(ec_cuda_use(&model, stream, 0), EC_OK);
    memset(arena, 0, sizeof arena);
    CHECK_EQ(emulated.to_device(ec_cuda_input(&model, 0), x, sizeof x, stream), 0);
    CHECK_EQ(ec_run_async(&model), EC_OK);
    CHECK_EQ(emulated.from_device(scores, ec_cuda_output(&model, 0), sizeof scores, stream), 0);
    CHECK_EQ(ec_wait(&model), EC_OK);
    CHECK(scores[0] == 0.125f && scores[3] == 0.25f);
    CHECK_EQ(tally_of(arena), 0);            /* outputs stay on the device, */
    CHECK_EQ(ec_output_count(&model, 0), 4); /* but counts do not */
    CHECK(ec_cuda_count(&model, 0) != 0 && ec_cuda_count(&model, 1) == 0);
    CHECK(ec_cuda_input(&model, 1) == 0 && ec_cuda_output(&model, 2) == 0);
    CHECK_EQ(ec_cuda_use(&model, NULL, EC_CUDA_COPY), EC_OK);
    CHECK_EQ(emulated.stream_destroy(stream), 0);
    fill(arena, 3);
    CHECK_EQ(ec_run(&model), EC_OK);
    CHECK(right(arena, 3));
    CHECK_EQ(tally_of(arena), 3);
    ec_close(&model);
    CHECK_EQ(emulated.pop(&stream), 0);
    CHECK_EQ(held(), 0);
}

static uint32_t steps_seen, order[64];

static void note(void *user, uint32_t step, uint64_t nanoseconds)
{
    (void)user;
    CHECK(nanoseconds < 1000000000u);
    order[steps_seen++ % 64] = step;
}

static void steps_are_timed(void)
{
    double ms[2][4] = {{-1, -1, -1, -1}, {-1, -1, -1, -1}}, whole[2];
    ec_model model;
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
    fill(arena, 1);
    CHECK_EQ(ec_set_profile(&model, note, NULL, ec_clock_ns), EC_OK);
    CHECK_EQ(ec_run(&model), EC_OK);
    CHECK_EQ(steps_seen, 4);
    CHECK(order[0] == 0 && order[1] == 1 && order[2] == 2);
    CHECK(right(arena, 1));
    CHECK_EQ(ec_step_next(&model), 3);
    CHECK_EQ(steps_seen, 5);
    CHECK_EQ(order[4], 0);
    CHECK_EQ(ec_bench_steps(&model, 2, ms[0]), EC_OK);
    CHECK(ms[0][0] >= 0 && ms[1][2] >= 0);
    CHECK_EQ(steps_seen, 5);
    CHECK_EQ(ec_set_profile(&model, NULL, NULL, NULL), EC_OK);
    CHECK_EQ(ec_bench(&model, 2, whole), EC_OK);
    CHECK(whole[0] > 0 && whole[1] > 0);
    ec_close(&model);
    CHECK_EQ(held(), 0);
}

/* ---- Branches ---------------------------------------------------------------------------------------------------- */

static double number(size_t offset)
{
    double x;
    memcpy(&x, arena + offset, sizeof x);
    return x;
}

static void prepare_loop(double start, int64_t turns)
{
    memcpy(arena + START, &start, sizeof start);
    memcpy(arena + TURNS, &turns, sizeof turns);
    memset(arena + Y, 0x77, LOOP_ARENA - Y);
}

static void loops_run(void)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, &loop_desc, arena, sizeof arena), EC_OK);
    prepare_loop(1, 3);
    CHECK_EQ(ec_run(&model), EC_OK);
    CHECK(number(Y) == 8 && number(ROWS) == 2 && number(ROWS + 16) == 8 && number(ROWS + 24) == 0);
    prepare_loop(60, 4); /* the condition ends it */
    CHECK_EQ(ec_run_async(&model), EC_OK);
    CHECK_EQ(ec_wait(&model), EC_OK);
    CHECK(number(Y) == 120 && number(ROWS) == 120 && number(ROWS + 8) == 0);
    prepare_loop(7, 0);
    CHECK_EQ(ec_run(&model), EC_OK);
    CHECK(number(Y) == 7 && number(ROWS) == 0);
    prepare_loop(1, 2);
    ec_status left, calls = 0;
    do
        left = ec_step_next(&model);
    while (left > 0 && ++calls < 64);
    CHECK_EQ(left, 0);
    CHECK_EQ(calls, 4 + 2 * 6 + 2 - 1);
    CHECK(number(Y) == 4 && number(ROWS + 8) == 4);
    steps_seen = 0;
    prepare_loop(1, 2);
    CHECK_EQ(ec_set_profile(&model, note, NULL, ec_clock_ns), EC_OK);
    CHECK_EQ(ec_run(&model), EC_OK);
    CHECK_EQ(steps_seen, 4 + 2 * 4 + 1); /* without branches */
    CHECK(number(Y) == 4);
    ec_close(&model);
    CHECK_EQ(held(), 0);
}

/* ---- Several threads --------------------------------------------------------------------------------------------- */

static void *work(void *argument)
{
    const float factor = *(float *)argument;
    EC_ALIGNAS(64) uint8_t own[NORM_ARENA];
    for (int turn = 0; turn < 20; turn++) {
        ec_model model;
        ec_status status = ec_open(&model, &norm_desc, own, sizeof own);
        for (int run = 0; run < 10 && status == EC_OK; run++) {
            fill(own, factor);
            status = ec_run(&model);
            if (!right(own, factor) || tally_of(own) != run + 1)
                status = EC_ERR_ARG;
        }
        ec_close(&model);
        if (status != EC_OK)
            return argument;
    }
    return NULL;
}

static void threads_do_not_meet(void)
{
    static float factors[4] = {1, 2, 3, 4};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, work, &factors[i]), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    CHECK_EQ(held(), 0);
}

int main(void)
{
    prepare_device();
    a_model_runs();
    steps_and_runs_agree();
    runs_need_not_be_waited_for();
    instances_share_weights_and_code();
    a_model_runs_on_the_callers_stream();
    steps_are_timed();
    loops_run();
    threads_do_not_meet();
    return CHECK_RESULT();
}
