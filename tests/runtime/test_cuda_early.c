/* Kernels of a graph that begin before the one before them has ended: which may, and what the driver refuses. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device_model.h"
#include "edgec/bench.h"

int setenv(const char *name, const char *value, int overwrite); /* POSIX */
int unsetenv(const char *name);

EC_ALIGNAS(64) static uint8_t arena[NORM_ARENA];

/* Launches of two runs that began early; or the first failure. */
static int early_of(const ec_desc *desc, ec_profile hook)
{
    const float x[4] = {1, 2, 3, 4};
    const int before = emulated.early();
    ec_model model;
    ec_status status = ec_open(&model, desc, arena, sizeof arena);
    if (status == EC_OK)
        status = ec_set_profile(&model, hook, NULL, hook != NULL ? ec_clock_ns : NULL);
    for (int run = 0; run < 2 && status == EC_OK; run++) {
        memcpy(arena + X, x, sizeof x);
        status = ec_run(&model);
    }
    ec_close(&model);
    CHECK_EQ(held(), 0);
    return status == EC_OK ? emulated.early() - before : (int)status;
}

static int early_with(const char *variable, const char *value)
{
    setenv(variable, value, 1);
    const int found = early_of(&norm_desc, NULL);
    unsetenv(variable);
    return found;
}

static void note(void *user, uint32_t step, uint64_t nanoseconds)
{
    (void)user, (void)step, (void)nanoseconds;
}

/* The first kernel waits for copies. */
static void all_but_the_first(void)
{
    float scores[4];
    CHECK_EQ(early_of(&norm_desc, NULL), 2);
    memcpy(scores, arena + SCORES, sizeof scores);
    CHECK(scores[0] == 0.125f && scores[3] == 0.25f);
    CHECK_EQ(early_with("EDGEC_EMULATED_FAIL", "cuMemHostRegister_v2=1"), 2);
    CHECK_EQ(early_of(&norm_desc, note), 0);
    CHECK_EQ(early_with("EDGEC_CUDA_EARLY", "0"), 0);
    CHECK_EQ(early_with("EDGEC_CUDA_EARLY", "1000"), 2);
}

static void none_of_older_code(void)
{
    images[0].kind = EC_IMAGE_PTX;
    CHECK_EQ(early_of(&norm_desc, NULL), 2);
    images[0].arch = 89;
    CHECK_EQ(early_of(&norm_desc, NULL), 0);
    images[0].kind = EC_IMAGE_CUBIN;
    setenv("EDGEC_EMULATED_ARCH", "89", 1);
    CHECK_EQ(early_of(&norm_desc, NULL), 0);
    setenv("EDGEC_EMULATED_ARCH", "90", 1);
    images[0].arch = 90;
}

static void none_with_an_older_driver(void)
{
    setenv("EDGEC_CUDA_DRIVER", "././libcuda_emulated.so", 1); /* another one for the runtime, which asks each once */
    CHECK_EQ(early_with("EDGEC_EMULATED_VERSION", "12020"), 0);
    CHECK_EQ(early_of(&norm_desc, NULL), 0);
    setenv("EDGEC_CUDA_DRIVER", "./libcuda_emulated.so", 1);
}

/* The model with another second step. */
static int early_behind(ec_step second, ec_launch launch)
{
    ec_step steps[4];
    ec_launch launches[4];
    ec_device device = norm_device;
    ec_desc desc = norm_desc;
    memcpy(steps, desc.steps, sizeof steps);
    memcpy(launches, device.launches, sizeof launches);
    steps[1] = second;
    launches[1] = launch;
    desc.steps = steps;
    desc.device = &device;
    device.launches = launches;
    return early_of(&desc, NULL);
}

static void what_is_between_them(void)
{
    static const ec_ref to[] = {{EC_ARENA, 512}, {EC_ARENA, 256}};
    const ec_launch nothing = {NULL, 0, {0, 0, 0}, 0, 0};
    const ec_launch no_blocks = {"normalize", 0, {1, 0, 1}, 32, 0};
    const ec_step copy = {ec_copy, to, 2, 16, 16, 0, 0, "copy"}, clear = {ec_clear, to, 1, 16, 16, 0, 0, "clear"};
    CHECK_EQ(early_behind(copy, nothing), 0);
    CHECK_EQ(early_behind(clear, nothing), 0);
    CHECK_EQ(early_behind(norm_desc.steps[1], no_blocks), 1);
}

static void a_kernel_that_does_not_wait(void)
{
    const ec_launch twice = {"twice", 0, {1, 1, 1}, 32, 0};
    CHECK_EQ(early_behind(norm_desc.steps[1], twice), EC_ERR_DEVICE);
    CHECK(strstr(ec_device_error(&norm_desc), "step normalize: cuLaunchKernelEx: CUDA_ERROR_INVALID_VALUE") != NULL);
}

int main(void)
{
    prepare_device();
    setenv("EDGEC_EMULATED_ARCH", "90", 1);
    images[0].arch = 90;
    images[0].kind = EC_IMAGE_CUBIN;
    all_but_the_first();
    none_of_older_code();
    none_with_an_older_driver();
    what_is_between_them();
    a_kernel_that_does_not_wait();
    return CHECK_RESULT();
}
