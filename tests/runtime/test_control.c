/* Branches and loops in a table of steps: y = x doubled `turns` times, at most four, while it is below 100. */
#include "check.h"
#include "edgec/edgec.h"

#include <string.h>

enum { X = 0, TURNS = 8, COUNT = 16, Y = 24, MORE = 32, GO = 33, ROWS = 64, ROW = 128 };

static int doublings;

static void twice(void *const *args, int32_t begin, int32_t end)
{
    double *y = (double *)args[0];
    *y *= 2 * (end - begin);
    *(uint8_t *)args[1] = *y < 100;
    doublings++;
}

EC_ALIGNAS(64) static const int64_t weights[2] = {0, 8}; /* zero and false; bytes of a row */
static const ec_ref zero_count[] = {{EC_ARENA, COUNT}, {EC_WEIGHTS, 0}}, start[] = {{EC_ARENA, Y}, {EC_ARENA, X}},
                    go[] = {{EC_ARENA, GO}, {EC_WEIGHTS, 8}}, rows[] = {{EC_ARENA, ROWS}},
                    test[] = {{EC_ARENA, MORE}, {EC_ARENA, COUNT}, {EC_ARENA, TURNS}, {EC_ARENA, GO}},
                    more[] = {{EC_ARENA, MORE}}, work[] = {{EC_ARENA, Y}, {EC_ARENA, GO}},
                    put[] = {{EC_ARENA, ROWS}, {EC_ARENA, Y}, {EC_ARENA, COUNT}, {EC_WEIGHTS, 8}},
                    count[] = {{EC_ARENA, COUNT}}, always[] = {{EC_WEIGHTS, 0}};
static const ec_step steps[] = {
    {ec_copy, zero_count, 2, 8, 8, 0, 0, "count"}, {ec_copy, start, 2, 8, 8, 0, 0, "state"},
    {ec_copy, go, 2, 1, 1, 0, 0, "condition"},     {ec_clear, rows, 1, 32, 32, 0, 0, "rows"},
    {ec_more, test, 4, 1, 1, 0, 0, "test"},        {NULL, more, 1, 1, 1, 0, 5, "leave"},
    {twice, work, 2, 1, 1, 0, 0, "work"},          {ec_put, put, 4, 8, 8, 0, 0, "put"},
    {ec_next, count, 1, 1, 1, 0, 0, "next"},       {NULL, always, 1, 1, 1, 0, -5, "back"},
};
static const ec_desc desc = {EC_ABI, 0, 128,  64,   1, 0, 0, sizeof steps / sizeof steps[0], NULL, NULL, steps, (const uint8_t *)weights,
                             sizeof weights, 4, "loop", "0.1.0", "any", NULL, NULL, NULL};

EC_ALIGNAS(64) static uint8_t arena[ROW];

static void run(ec_model *model, double x, int64_t turns)
{
    memcpy(arena + X, &x, sizeof x);
    memcpy(arena + TURNS, &turns, sizeof turns);
    doublings = 0;
    CHECK_EQ(ec_run(model), EC_OK);
}

static double number(size_t offset)
{
    double x;
    memcpy(&x, arena + offset, sizeof x);
    return x;
}

int main(void)
{
    ec_model model;
    int64_t turns;
    CHECK_EQ(ec_open(&model, &desc, arena, sizeof arena), EC_OK);
    run(&model, 1, 3);
    CHECK_EQ(number(Y), 8);
    CHECK_EQ(number(ROWS), 2);
    CHECK_EQ(number(ROWS + 16), 8);
    CHECK_EQ(number(ROWS + 24), 0);
    run(&model, 60, 4); /* the condition ends it */
    CHECK_EQ(doublings, 1);
    memcpy(&turns, arena + COUNT, sizeof turns);
    CHECK_EQ(turns, 1);
    CHECK_EQ(number(ROWS + 8), 0);
    run(&model, 7, 0);
    CHECK_EQ(doublings, 0);
    CHECK_EQ(number(Y), 7);
    run(&model, 7, -1);
    CHECK_EQ(doublings, 0);
    CHECK_EQ(model.next, 0);
    return CHECK_RESULT();
}
