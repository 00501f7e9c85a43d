#include "tiny.h"

/* Works in place, as a planner would have it: the input is gone after a run. */
static void scale(void *const *args, int32_t begin, int32_t end)
{
    float *x = (float *)args[0];
    const float *bias = (const float *)args[1];
    for (int32_t i = begin; i < end; i++)
        x[i] = x[i] * 2 + bias[i];
}

static void normalize(void *const *args, int32_t begin, int32_t end)
{
    const float *x = (const float *)args[0];
    float *scores = (float *)args[1];
    const float sum = x[0] + x[1] + x[2] + x[3];
    for (int32_t i = begin; i < end; i++)
        scores[i] = x[i] / sum;
}

EC_ALIGNAS(64) static const float weights[4] = {0, 0, 0, -4};
static const int32_t dims[2] = {1, 4};
static const ec_io inputs[] = {{"x", {EC_ARENA, 0}, 16, EC_F32, 2, -1, dims, 0, 0, {0, 0}}};
static const ec_io outputs[] = {{"scores", {EC_ARENA, 64}, 16, EC_F32, 2, -1, dims, 0, 0, {0, 0}}};
static const ec_ref scale_args[] = {{EC_ARENA, 0}, {EC_WEIGHTS, 0}};
static const ec_ref normalize_args[] = {{EC_ARENA, 0}, {EC_ARENA, 64}};
static const ec_step steps[] = {
    {scale, scale_args, 2, 4, 1, 0, 0, "scale"},
    {normalize, normalize_args, 2, 4, 1, 0, 0, "normalize"},
};

const ec_desc tiny_desc = {EC_ABI, 0,       TINY_ARENA_BYTES, TINY_ARENA_ALIGN,         1,
                           1,      1,       2,                inputs,                   outputs,
                           steps,  (const uint8_t *)weights, sizeof weights, 2, "tiny", "0.1.0", "any", NULL, NULL, NULL};
