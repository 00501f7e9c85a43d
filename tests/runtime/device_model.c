#include "device_model.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int setenv(const char *name, const char *value, int overwrite); /* POSIX */

ec_image images[2] = {{0, EC_IMAGE_EMULATED, NULL, 0}, {10, EC_IMAGE_PTX, NULL, 0}};

/* ---- Two steps, a count, and a step that uses the zeros ---------------------------------------------------------- */

enum { D_X = 0, D_M = 256, D_SCORES = 512, D_COUNT = 768, D_TALLY = 776, D_NORM = 1024 };

static const int32_t dims[1] = {4}, one[1] = {1};
EC_ALIGNAS(64) static const float bias[4] = {0, 0, 0, -4};
static const ec_io norm_inputs[] = {{"x", {EC_ARENA, X}, 16, EC_F32, 1, -1, dims, 0, 0, {0, 0}}};
static const ec_io norm_outputs[] = {
    {"scores", {EC_ARENA, SCORES}, 16, EC_F32, 1, 0, dims, 0, 0, {EC_ARENA, COUNT}},
    {"tally", {EC_ARENA, TALLY}, 4, EC_I32, 1, -1, one, 0, 0, {0, 0}},
};
static const ec_ref norm_in[] = {{EC_ARENA, D_X}}, norm_out[] = {{EC_ARENA, D_SCORES}, {EC_ARENA, D_TALLY}},
                    norm_count[] = {{EC_ARENA, D_COUNT}, {0, 0}};
static const ec_ref scale[] = {{EC_ARENA, D_X}, {EC_WEIGHTS, 0}, {EC_ARENA, D_M}},
                    normalize[] = {{EC_ARENA, D_M}, {EC_ARENA, D_SCORES}, {EC_ARENA, D_COUNT}},
                    tally[] = {{EC_ZEROS, 0}, {EC_ARENA, D_TALLY}};
static const ec_step norm_steps[] = {
    {NULL, scale, 3, 4, 4, 0, 0, "scale"},
    {NULL, normalize, 3, 4, 4, 0, 0, "normalize"},
    {NULL, tally, 2, 1, 1, 0, 0, "tally"},
    {NULL, tally, 2, 0, 1, 0, 0, "nothing"},
};
static const ec_launch norm_launches[] = {
    {"scale", 0, {4, 1, 1}, 32, 64 << 10},
    {"normalize", 0, {4, 1, 1}, 32, 0},
    {"tally", 0, {1, 1, 1}, 1, 0},
    {"tally", 0, {0, 1, 1}, 1, 0},
};
ec_device norm_device = {&ec_cuda_ops, images, 1, 2, norm_launches, D_NORM, 16, norm_in, norm_out, norm_count};
ec_desc norm_desc = {EC_ABI, 0, NORM_ARENA, 64, 1, 1, 2, 4, norm_inputs, norm_outputs, norm_steps, (const uint8_t *)bias,
                     sizeof bias, 3, "norm", "0.1.0", "any", NULL, &norm_device, NULL};

/* ---- A loop -------------------------------------------------------------------------------------------------------- */

enum { D_START = 0, D_TURNS = 8, D_N = 16, D_Y = 24, D_MORE = 32, D_GO = 33, D_ROWS = 64, D_LOOP = 128 };

EC_ALIGNAS(64) static const int64_t constants[2] = {0, 8}; /* zero and false; bytes of a row */
static const ec_io loop_inputs[] = {{"start", {EC_ARENA, START}, 8, EC_F64, 0, -1, NULL, 0, 0, {0, 0}},
                                    {"turns", {EC_ARENA, TURNS}, 8, EC_I64, 0, -1, NULL, 0, 0, {0, 0}}};
static const ec_io loop_outputs[] = {{"y", {EC_ARENA, Y}, 8, EC_F64, 0, -1, NULL, 0, 0, {0, 0}},
                                     {"rows", {EC_ARENA, ROWS}, 32, EC_F64, 1, -1, dims, 0, 0, {0, 0}}};
static const ec_ref loop_in[] = {{EC_ARENA, D_START}, {EC_ARENA, D_TURNS}},
                    loop_out[] = {{EC_ARENA, D_Y}, {EC_ARENA, D_ROWS}}, loop_count[] = {{0, 0}, {0, 0}};
static const ec_ref zero_count[] = {{EC_ARENA, D_N}, {EC_WEIGHTS, 0}}, start[] = {{EC_ARENA, D_Y}, {EC_ARENA, D_START}},
                    go[] = {{EC_ARENA, D_GO}, {EC_WEIGHTS, 8}}, rows[] = {{EC_ARENA, D_ROWS}},
                    test[] = {{EC_ARENA, D_MORE}, {EC_ARENA, D_N}, {EC_ARENA, D_TURNS}, {EC_ARENA, D_GO}},
                    more[] = {{EC_ARENA, D_MORE}}, work[] = {{EC_ARENA, D_Y}, {EC_ARENA, D_GO}},
                    put[] = {{EC_ARENA, D_ROWS}, {EC_ARENA, D_Y}, {EC_ARENA, D_N}, {EC_WEIGHTS, 8}},
                    count[] = {{EC_ARENA, D_N}}, always[] = {{EC_WEIGHTS, 0}};
static const ec_step loop_steps[] = {
    {ec_copy, zero_count, 2, 8, 8, 0, 0, "count"}, {ec_copy, start, 2, 8, 8, 0, 0, "state"},
    {ec_copy, go, 2, 1, 1, 0, 0, "condition"},     {ec_clear, rows, 1, 32, 32, 0, 0, "rows"},
    {ec_more, test, 4, 1, 1, 0, 0, "test"},        {NULL, more, 1, 1, 1, 0, 5, "leave"},
    {NULL, work, 2, 1, 1, 0, 0, "work"},           {ec_put, put, 4, 8, 8, 0, 0, "put"},
    {ec_next, count, 1, 1, 1, 0, 0, "next"},       {NULL, always, 1, 1, 1, 0, -5, "back"},
};
static const ec_launch loop_launches[10] = {[6] = {"twice", 0, {1, 1, 1}, 32, 0}};
ec_device loop_device = {&ec_cuda_ops, images, 1, 2, loop_launches, D_LOOP, 0, loop_in, loop_out, loop_count};
ec_desc loop_desc = {EC_ABI, 0, LOOP_ARENA, 64, 1, 2, 2, 10, loop_inputs, loop_outputs, loop_steps,
                     (const uint8_t *)constants, sizeof constants, 4, "loop", "0.1.0", "any", NULL, &loop_device, NULL};

/* ---- Where they run ------------------------------------------------------------------------------------------------ */

static unsigned char kernels[1 << 20];
struct emulated emulated;

static void find(void *driver, const char *name, void *function)
{
    void *symbol = driver != NULL ? dlsym(driver, name) : NULL;
    if (symbol == NULL) {
        fprintf(stderr, "no driver, or one without %s\n", name);
        exit(2);
    }
    memcpy(function, &symbol, sizeof symbol);
}

void prepare_device(void)
{
    void *driver = dlopen("./libcuda_emulated.so", RTLD_NOW | RTLD_LOCAL);
    find(driver, "edgec_emulated_held", &emulated.held);
    find(driver, "edgec_emulated_early", &emulated.early);
    find(driver, "cuCtxPushCurrent_v2", &emulated.push);
    find(driver, "cuCtxPopCurrent_v2", &emulated.pop);
    find(driver, "cuStreamCreate", &emulated.stream_create);
    find(driver, "cuStreamDestroy_v2", &emulated.stream_destroy);
    find(driver, "cuMemcpyHtoDAsync_v2", &emulated.to_device);
    find(driver, "cuMemcpyDtoHAsync_v2", &emulated.from_device);
    FILE *file = fopen("./device_kernels.so", "rb");
    if (file == NULL) {
        fputs("no kernels\n", stderr);
        exit(2);
    }
    images[0].data = images[1].data = kernels;
    images[0].bytes = images[1].bytes = fread(kernels, 1, sizeof kernels - 1, file);
    fclose(file);
    setenv("EDGEC_CUDA_DRIVER", "./libcuda_emulated.so", 1);
}

int held(void)
{
    return emulated.held();
}
