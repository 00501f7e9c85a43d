/* What can go wrong with a model on a GPU: each is named, and nothing is left behind. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device_model.h"

int setenv(const char *name, const char *value, int overwrite); /* POSIX */
int unsetenv(const char *name);

EC_ALIGNAS(64) static uint8_t arena[NORM_ARENA];

static void expect_detail(const ec_desc *desc, const char *detail)
{
    if (strstr(ec_device_error(desc), detail) == NULL) {
        fprintf(stderr, "says '%s', not '%s'\n", ec_device_error(desc), detail);
        check_failures++;
    }
}

static void refused(ec_status expected, const char *detail)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), expected);
    expect_detail(&norm_desc, detail);
    CHECK(model.desc == NULL);
    CHECK_EQ(ec_run(&model), EC_ERR_ARG);
    CHECK_EQ(held(), 0);
    ec_close(&model);
}

static void refused_with(const char *variable, const char *value, ec_status expected, const char *detail)
{
    setenv(variable, value, 1);
    refused(expected, detail);
    unsetenv(variable);
}

static void drivers(void)
{
    setenv("EDGEC_CUDA_DRIVER", "./no_such_driver.so", 1);
    refused(EC_ERR_NO_DEVICE, "no_such_driver.so");
    setenv("EDGEC_CUDA_DRIVER", "./device_kernels.so", 1);
    refused(EC_ERR_DRIVER, "the driver lacks cuInit");
    setenv("EDGEC_CUDA_DRIVER", "./libcuda_emulated.so", 1);
    refused_with("EDGEC_EMULATED_FAIL", "cuInit=100", EC_ERR_NO_DEVICE,
                 "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected");
    refused_with("EDGEC_EMULATED_FAIL", "cuInit=803", EC_ERR_DRIVER, "cuInit: ");
}

static void devices(void)
{
    refused_with("EDGEC_EMULATED_DEVICES", "0", EC_ERR_NO_DEVICE, "the driver knows no GPU");
    refused_with("EDGEC_CUDA_DEVICE", "1", EC_ERR_NO_DEVICE, "EDGEC_CUDA_DEVICE=1");
    refused_with("EDGEC_CUDA_DEVICE", "x", EC_ERR_NO_DEVICE, "EDGEC_CUDA_DEVICE=x");
}

static ec_status open_at(const char *arch, uint32_t first, uint32_t first_kind, uint32_t second, uint32_t second_kind,
                         int second_is_broken)
{
    static const uint8_t broken[64];
    const ec_image before[2] = {images[0], images[1]};
    ec_model model;
    images[0].arch = first;
    images[0].kind = first_kind;
    images[1].arch = second;
    images[1].kind = second_kind;
    images[second_is_broken].data = broken;
    setenv("EDGEC_EMULATED_ARCH", arch, 1);
    const ec_status status = ec_open(&model, &norm_desc, arena, sizeof arena);
    if (status == EC_OK)
        CHECK_EQ(ec_run(&model), EC_OK);
    ec_close(&model);
    unsetenv("EDGEC_EMULATED_ARCH");
    images[0] = before[0];
    images[1] = before[1];
    CHECK_EQ(held(), 0);
    return status;
}

/* The image that is not taken is broken, or the one that is. */
static void architectures(void)
{
    enum { CUBIN = EC_IMAGE_CUBIN, PTX = EC_IMAGE_PTX, EMULATED = EC_IMAGE_EMULATED };
    CHECK_EQ(open_at("87", 87, CUBIN, 80, CUBIN, 1), EC_OK);
    CHECK_EQ(open_at("87", 80, CUBIN, 86, CUBIN, 0), EC_OK); /* the newest */
    CHECK_EQ(open_at("86", 80, CUBIN, 87, CUBIN, 1), EC_OK); /* but no newer one than the device */
    CHECK_EQ(open_at("87", 80, CUBIN, 87, PTX, 1), EC_OK);   /* machine code first */
    CHECK_EQ(open_at("90", 87, CUBIN, 80, PTX, 0), EC_OK);   /* not that of another major version */
    CHECK_EQ(open_at("110", 87, PTX, 100, PTX, 0), EC_OK);
    CHECK_EQ(open_at("87", 87, CUBIN, 80, CUBIN, 0), EC_ERR_DEVICE);
    expect_detail(&norm_desc, "CUDA_ERROR_INVALID_IMAGE (200): device kernel image is invalid; the driver is for CUDA 13.0");
    CHECK_EQ(open_at("75", 80, CUBIN, 80, PTX, 0), EC_ERR_ARCH);
    expect_detail(&norm_desc, "no code for sm_75");
    CHECK_EQ(open_at("120", 110, CUBIN, 0, EMULATED, 0), EC_ERR_ARCH);
    expect_detail(&norm_desc, "no code for sm_120");
    CHECK_EQ(open_at("0", 80, CUBIN, 80, PTX, 0), EC_ERR_ARCH);
}

static void calls(void)
{
    const char *const functions[] = {"cuDeviceGetCount", "cuDevicePrimaryCtxRetain", "cuModuleLoadData", "cuModuleGetFunction",
                                     "cuFuncSetAttribute", "cuStreamCreate", "cuMemcpyHtoDAsync_v2", "cuMemsetD8Async",
                                     "cuStreamSynchronize", "cuCtxPushCurrent_v2"};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        char fault[64], name[64];
        snprintf(fault, sizeof fault, "%s=719", functions[i]);
        snprintf(name, sizeof name, "%.*s: CUDA_ERROR_LAUNCH_FAILED (719): unspecified launch failure",
                 (int)strcspn(functions[i], "_"), functions[i]);
        refused_with("EDGEC_EMULATED_FAIL", fault, EC_ERR_DEVICE, name);
    }
    refused_with("EDGEC_EMULATED_FAIL", "cuMemAlloc_v2=2", EC_ERR_MEMORY, "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory");
    refused_with("EDGEC_EMULATED_FAIL", "cuModuleLoadData=222", EC_ERR_DRIVER, "cuModuleLoadData: an error that the driver does");
    refused_with("EDGEC_EMULATED_FAIL", "cuModuleLoadData=209", EC_ERR_ARCH, "cuModuleLoadData: ");
    refused_with("EDGEC_EMULATED_FAIL", "cuModuleGetFunction=500", EC_ERR_DEVICE, "step scale: cuModuleGetFunction: ");
}

static void pinning_is_not_needed(void)
{
    const float x[4] = {1, 2, 3, 4};
    float scores[4];
    ec_model model;
    setenv("EDGEC_EMULATED_FAIL", "cuMemHostRegister_v2=1", 1);
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
    unsetenv("EDGEC_EMULATED_FAIL");
    for (int run = 0; run < 2; run++) {
        memcpy(arena + X, x, sizeof x);
        CHECK_EQ(ec_run(&model), EC_OK);
        memcpy(scores, arena + SCORES, sizeof scores);
        CHECK(scores[0] == 0.125f && scores[3] == 0.25f);
    }
    ec_close(&model);
    CHECK_EQ(held(), 0);
}

static void runs(void)
{
    const char *const functions[] = {"cuLaunchKernel",     "cuStreamBeginCapture_v2", "cuStreamEndCapture",
                                     "cuGraphLaunch",      "cuStreamSynchronize",     "cuGraphInstantiateWithFlags",
                                     "cuCtxPushCurrent_v2"};
    ec_model model;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        char fault[64];
        snprintf(fault, sizeof fault, "%s=719", functions[i]);
        CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
        setenv("EDGEC_EMULATED_FAIL", fault, 1);
        CHECK_EQ(ec_run(&model), EC_ERR_DEVICE);
        unsetenv("EDGEC_EMULATED_FAIL");
        if (i == 0)
            expect_detail(&norm_desc, "step scale: cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED (719): unspecified launch failure");
        CHECK_EQ(ec_run(&model), EC_OK);
        ec_close(&model);
        CHECK_EQ(held(), 0);
    }
}

static void a_step_is_tried_again(void)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
    CHECK_EQ(ec_step_next(&model), 3);
    setenv("EDGEC_EMULATED_FAIL", "cuLaunchKernel=719", 1);
    CHECK_EQ(ec_step_next(&model), EC_ERR_DEVICE);
    unsetenv("EDGEC_EMULATED_FAIL");
    CHECK_EQ(model.next, 1);
    CHECK_EQ(ec_step_next(&model), 2);
    ec_close(&model);
    CHECK_EQ(ec_open(&model, &loop_desc, arena, sizeof arena), EC_OK);
    setenv("EDGEC_EMULATED_FAIL", "cuMemcpyDtoHAsync_v2=719", 1);
    CHECK_EQ(ec_run(&model), EC_ERR_DEVICE);
    unsetenv("EDGEC_EMULATED_FAIL");
    CHECK_EQ(model.next, 0);
    ec_close(&model);
    CHECK_EQ(held(), 0);
}

static void what_only_cpus_can(void)
{
    void *args[EC_MAX_ARGS];
    ec_model model;
    (void)args;
    CHECK_EQ(ec_open(&model, &norm_desc, arena, sizeof arena), EC_OK);
    CHECK_EQ(ec_step_run(&model, &norm_desc.steps[0]), EC_ERR_ARG);
    CHECK_EQ(ec_set_dispatch(&model, NULL, NULL), EC_OK);
    ec_close(&model);
    ec_close(&model);
    ec_close(NULL);
    CHECK_EQ(ec_cuda_use(&model, NULL, 0), EC_ERR_ARG);
    CHECK(ec_cuda_input(&model, 0) == 0 && ec_cuda_output(&model, 0) == 0 && ec_cuda_count(&model, 0) == 0);
    CHECK(strcmp(ec_device_error(NULL), "") == 0);
}

int main(void)
{
    prepare_device();
    drivers();
    devices();
    architectures();
    calls();
    pinning_is_not_needed();
    a_step_is_tried_again();
    what_only_cpus_can();
    runs();
    return CHECK_RESULT();
}
