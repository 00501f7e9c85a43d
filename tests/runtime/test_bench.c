/* The profile hook, and the timing helpers built on it. */
#include <string.h>

#include "check.h"
#include "edgec/bench.h"
#include "tiny.h"

EC_ALIGNAS(64) static uint8_t arena[TINY_ARENA_BYTES];
static uint64_t fake_now;

static uint64_t fake_clock(void)
{
    return fake_now += 10;
}

typedef struct journal {
    uint32_t count, steps[8];
    uint64_t ns[8];
} journal;

static void write_down(void *user, uint32_t step, uint64_t nanoseconds)
{
    journal *j = (journal *)user;
    j->steps[j->count % 8] = step;
    j->ns[j->count % 8] = nanoseconds;
    j->count++;
}

static void the_hook_sees_every_step_once(ec_model *model)
{
    journal j;
    memset(&j, 0, sizeof j);
    CHECK_EQ(ec_set_profile(model, write_down, &j, NULL), EC_ERR_ARG);
    CHECK_EQ(ec_set_profile(model, write_down, &j, fake_clock), EC_OK);
    CHECK_EQ(ec_run(model), EC_OK);
    CHECK_EQ(ec_step_next(model), 1);
    CHECK_EQ(ec_step_next(model), 0);
    CHECK_EQ(j.count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(j.steps[i], i % 2);
        CHECK_EQ(j.ns[i], 10);
    }
    CHECK_EQ(ec_set_profile(model, NULL, NULL, NULL), EC_OK);
    CHECK_EQ(ec_run(model), EC_OK);
    CHECK_EQ(j.count, 4);
}

static void bench_times_whole_runs(ec_model *model)
{
    double ms[5] = {-1, -1, -1, -1, -1};
    CHECK_EQ(ec_bench(NULL, 1, ms), EC_ERR_ARG);
    CHECK_EQ(ec_bench(model, 1, NULL), EC_ERR_ARG);
    CHECK_EQ(ec_bench(model, 0, NULL), EC_OK);
    CHECK_EQ(ec_step_next(model), 1); /* a run begun is not part of the first measurement */
    CHECK_EQ(ec_bench(model, 4, ms), EC_OK);
    for (int i = 0; i < 4; i++)
        CHECK(ms[i] >= 0 && ms[i] < 1000);
    CHECK(ms[4] < 0);
    CHECK_EQ(model->next, 0);
}

static void bench_steps_times_each_and_restores_the_hook(ec_model *model)
{
    double ms[7] = {-1, -1, -1, -1, -1, -1, -1};
    journal j;
    memset(&j, 0, sizeof j);
    CHECK_EQ(ec_bench_steps(NULL, 1, ms), EC_ERR_ARG);
    CHECK_EQ(ec_bench_steps(model, 1, NULL), EC_ERR_ARG);
    CHECK_EQ(ec_set_profile(model, write_down, &j, fake_clock), EC_OK);
    CHECK_EQ(ec_bench_steps(model, 3, ms), EC_OK);
    for (int i = 0; i < 6; i++)
        CHECK(ms[i] >= 0 && ms[i] < 1000);
    CHECK(ms[6] < 0);
    CHECK_EQ(j.count, 0);
    CHECK_EQ(ec_run(model), EC_OK);
    CHECK_EQ(j.count, 2);
}

static ec_status fail(void *backend, const ec_model *model, const ec_step *step)
{
    (void)backend;
    (void)model;
    (void)step;
    return EC_ERR_MEMORY;
}

static void failures_come_through(ec_model *model)
{
    double ms[4];
    CHECK_EQ(ec_set_dispatch(model, fail, NULL), EC_OK);
    CHECK_EQ(ec_bench(model, 2, ms), EC_ERR_MEMORY);
    CHECK_EQ(ec_bench_steps(model, 2, ms), EC_ERR_MEMORY);
}

static void the_machine_has_limits(void)
{
    static uint64_t memory[1 << 16];
    memset(memory, 1, sizeof memory);
    const double peak = ec_bench_peak(), read = ec_bench_read(memory, sizeof memory);
    CHECK(peak > 0.1 && peak < 10000);
    CHECK(read > 0.01 && read < 100000);
    CHECK(ec_bench_read(NULL, 8) == 0);
}

int main(void)
{
    const float x[4] = {1, 2, 3, 4};
    ec_model model;
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    memcpy(ec_input(&model, 0).data, x, sizeof x);
    the_hook_sees_every_step_once(&model);
    bench_times_whole_runs(&model);
    bench_steps_times_each_and_restores_the_hook(&model);
    failures_come_through(&model);
    the_machine_has_limits();
    const uint64_t now = ec_clock_ns();
    CHECK(now > 0 && ec_clock_ns() >= now);
    return CHECK_RESULT();
}
