/* The core: how runs begin, stop and resume, one step or some tasks at a time. */
#include <string.h>

#include "check.h"
#include "edgec/device.h"
#include "tiny.h"

EC_ALIGNAS(64) static uint8_t arena[TINY_ARENA_BYTES + 64];

static void an_output_is_as_long_as_the_run_made_it(void)
{
    const int32_t dims[2] = {3, 5};
    ec_io ios[3] = {tiny_desc.outputs[0], tiny_desc.outputs[0], tiny_desc.outputs[0]};
    ios[0].dims = dims;
    ios[0].count_axis = 1;
    ios[0].count.offset = 128;
    ios[1].dims = dims;
    ios[2].rank = 0;
    ec_desc desc = tiny_desc;
    desc.outputs = ios;
    desc.n_outputs = 3;
    ec_model model;
    CHECK_EQ(ec_open(&model, &desc, arena, sizeof arena), EC_OK);
    const int64_t counts[][2] = {{0, 0}, {2, 2}, {5, 5}, {-1, 0}, {6, 5}, {INT64_MIN, 0}, {INT64_MAX, 5}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        memcpy(arena + 128, &counts[i][0], sizeof(int64_t));
        CHECK_EQ(ec_output_count(&model, 0), counts[i][1]);
    }
    CHECK_EQ(ec_output_count(&model, 1), 3);
    CHECK_EQ(ec_output_count(&model, 2), 1);
    CHECK_EQ(ec_output_count(&model, 3), EC_ERR_ARG);
    CHECK_EQ(ec_output_count(NULL, 0), EC_ERR_ARG);
}

static void write_input(ec_model *model)
{
    const float x[4] = {1, 2, 3, 4}; /* scaled: 2 4 6 4 */
    memcpy(ec_input(model, 0).data, x, sizeof x);
}

static void check_scores(const ec_model *model)
{
    const float *scores = (const float *)ec_output(model, 0).data;
    CHECK(scores[0] == 2.0f / 16 && scores[1] == 4.0f / 16 && scores[2] == 6.0f / 16 && scores[3] == 4.0f / 16);
}

static void run_gives_the_answer_every_time(void)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    for (int run = 0; run < 3; run++) {
        write_input(&model);
        CHECK_EQ(ec_run(&model), EC_OK);
        check_scores(&model);
    }
}

static void steps_can_be_run_one_by_one(void)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    write_input(&model);
    CHECK_EQ(ec_step_next(&model), 1);
    CHECK_EQ(ec_step_next(&model), 0);
    check_scores(&model);

    write_input(&model);
    CHECK_EQ(ec_step_next(&model), 1);
    CHECK_EQ(ec_run(&model), EC_OK); /* the rest */
    check_scores(&model);

    CHECK_EQ(ec_step_next(&model), 1);
    ec_restart(&model);
    write_input(&model);
    CHECK_EQ(ec_run(&model), EC_OK);
    check_scores(&model);
}

static ec_status fail_once(void *backend, const ec_model *model, const ec_step *step)
{
    int *calls = (int *)backend;
    return ++*calls == 2 ? EC_ERR_MEMORY : ec_step_run(model, step);
}

static int counted(void *left)
{
    return --*(int *)left <= 0;
}

static void a_run_stops_between_tasks_and_goes_on(void)
{
    ec_model model;
    int tasks = 3;
    CHECK_EQ(ec_run_until(NULL, counted, &tasks), EC_ERR_ARG);
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    CHECK_EQ(ec_run_until(&model, NULL, &tasks), EC_ERR_ARG);

    write_input(&model);
    CHECK_EQ(ec_run_until(&model, counted, &tasks), 2); /* three of the four tasks of the first step */
    CHECK_EQ(model.task, 3);
    for (int calls = 0; calls < 4; calls++)
        CHECK_EQ(ec_run_until(&model, counted, &tasks), 1); /* one task each: no more are left */
    CHECK_EQ(model.next, 1);
    CHECK_EQ(ec_run_until(&model, counted, &tasks), 0);
    CHECK_EQ(model.task, 0);
    check_scores(&model);

    tasks = 2; /* the scaling works in place: a task that is done twice gives another answer */
    write_input(&model);
    CHECK_EQ(ec_run_until(&model, counted, &tasks), 2);
    CHECK_EQ(ec_run(&model), EC_OK);
    check_scores(&model);

    tasks = 2;
    CHECK_EQ(ec_run_until(&model, counted, &tasks), 2);
    ec_restart(&model);
    write_input(&model);
    CHECK_EQ(ec_run(&model), EC_OK);
    check_scores(&model);
}

static void steps_are_whole_where_others_run_them(void)
{
    int calls = 2, tasks = 1;
    ec_model model;
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    CHECK_EQ(ec_set_dispatch(&model, fail_once, &calls), EC_OK);
    write_input(&model);
    CHECK_EQ(ec_run_until(&model, counted, &tasks), 1);
    CHECK_EQ(ec_run_until(&model, counted, &tasks), 0);
    CHECK_EQ(calls, 4);
    check_scores(&model);
}

static void banks_are_the_descriptors_or_the_callers(void)
{
    static const float own[4] = {0, 0, 0, -4};
    static uint8_t here[16], there[16];
    static const uint8_t *const list[] = {here, (const uint8_t *)own}, *const other[] = {there, (const uint8_t *)own};
    const ec_ref refs[] = {{EC_ARENA, 0}, {EC_BANK + 1, 0}};
    ec_step steps[2] = {tiny_desc.steps[0], tiny_desc.steps[1]};
    const ec_ref last[] = {{EC_ARENA, 0}, {EC_BANK + 0, 0}};
    ec_io output = tiny_desc.outputs[0];
    ec_desc desc = tiny_desc;
    ec_model model;
    steps[0].args = refs;
    steps[1].args = last;
    output.data = last[1];
    desc.steps = steps;
    desc.outputs = &output;
    desc.banks = list;
    CHECK_EQ(ec_open(&model, &desc, arena, sizeof arena), EC_OK);
    write_input(&model);
    CHECK_EQ(ec_run(&model), EC_OK);
    CHECK(ec_output(&model, 0).data == here);
    check_scores(&model);
    model.banks = other;
    write_input(&model);
    CHECK_EQ(ec_run(&model), EC_OK);
    CHECK(ec_output(&model, 0).data == there);
    check_scores(&model);
}

static void a_model_without_work_runs(void)
{
    const ec_step no_tasks = {NULL, NULL, 0, 0, 0, 0, 0, "nothing"};
    ec_desc desc = tiny_desc;
    ec_model model;
    desc.n_steps = 0;
    CHECK_EQ(ec_open(&model, &desc, arena, sizeof arena), EC_OK);
    CHECK_EQ(ec_run(&model), EC_OK);
    desc.n_steps = 1;
    desc.steps = &no_tasks;
    CHECK_EQ(ec_run(&model), EC_OK);
}

static void a_failed_step_is_tried_again(void)
{
    int calls = 0;
    ec_model model;
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    CHECK_EQ(ec_set_dispatch(&model, fail_once, &calls), EC_OK);
    write_input(&model);
    CHECK_EQ(ec_run(&model), EC_ERR_MEMORY);
    CHECK_EQ(model.next, 1);
    CHECK_EQ(ec_run(&model), EC_OK);
    check_scores(&model);
    CHECK_EQ(calls, 3);
}

static void closing_and_waiting_cost_a_cpu_nothing(void)
{
    ec_model model;
    float bias[4];
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    write_input(&model);
    CHECK_EQ(ec_run_async(&model), EC_OK);
    CHECK_EQ(ec_wait(&model), EC_OK);
    check_scores(&model);
    CHECK_EQ(ec_read(&model, (ec_ref){EC_WEIGHTS, 0}, bias, sizeof bias), EC_OK);
    CHECK(bias[0] == 0 && bias[3] == -4);
    CHECK_EQ(ec_read(&model, (ec_ref){EC_ARENA, 64}, bias, sizeof bias), EC_OK);
    CHECK(bias[0] == 0.125f);
    CHECK(strcmp(ec_device_error(&tiny_desc), "") == 0);
    ec_close(&model);
    ec_close(&model);
    CHECK_EQ(ec_run(&model), EC_ERR_ARG);
    CHECK_EQ(ec_wait(&model), EC_ERR_ARG);
    CHECK_EQ(ec_read(&model, (ec_ref){EC_ARENA, 0}, bias, sizeof bias), EC_ERR_ARG);
}

int main(void)
{
    an_output_is_as_long_as_the_run_made_it();
    run_gives_the_answer_every_time();
    steps_can_be_run_one_by_one();
    a_run_stops_between_tasks_and_goes_on();
    steps_are_whole_where_others_run_them();
    banks_are_the_descriptors_or_the_callers();
    a_model_without_work_runs();
    a_failed_step_is_tried_again();
    closing_and_waiting_cost_a_cpu_nothing();
    return CHECK_RESULT();
}
