/* SPDX-License-Identifier: Apache-2.0 */
/* What all instances of a model on one GPU have in common: the context, the code, the weights. */
#include "cuda_model.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cuda_shared *all;

ec_status cuda_enter(const cuda_shared *shared)
{
    return CUDA(shared->driver, cuCtxPushCurrent, shared->context);
}

void cuda_leave(const cuda_shared *shared)
{
    cu_context own;
    shared->driver->cuCtxPopCurrent(&own);
}

static ec_status choose_device(const cuda_driver *driver, cu_device *device)
{
    const char *wanted = getenv("EDGEC_CUDA_DEVICE");
    char *end = NULL;
    int count = 0;
    const ec_status status = CUDA(driver, cuDeviceGetCount, &count);
    if (status != EC_OK)
        return status;
    if (count == 0)
        return cuda_refuse(EC_ERR_NO_DEVICE, "the driver knows no GPU", "");
    if (wanted == NULL || wanted[0] == '\0')
        return driver->cuCtxGetDevice(device) == CU_SUCCESS ? EC_OK : CUDA(driver, cuDeviceGet, device, 0);
    const long number = strtol(wanted, &end, 10);
    if (*end != '\0' || number < 0 || number >= count)
        return cuda_refuse(EC_ERR_NO_DEVICE, "the driver knows no GPU of EDGEC_CUDA_DEVICE=", wanted);
    return CUDA(driver, cuDeviceGet, device, (int)number);
}

/* ---- Code -------------------------------------------------------------------------------------------------------- */

/* Machine code runs on devices of its major version and no older minor one, the newest being best; what the driver compiles
 * comes after it.  The emulated driver's capability is 0. */
static uint32_t rank(const ec_image *image, uint32_t capability)
{
    if (image->arch > capability)
        return 0;
    switch (image->kind) {
    case EC_IMAGE_CUBIN:
        return image->arch / 10 == capability / 10 && capability != 0 ? 100000 + image->arch : 0;
    case EC_IMAGE_PTX:
        return capability != 0 ? 1 + image->arch : 0;
    default:
        return capability == 0 ? 1 : 0;
    }
}

enum { EARLY_ARCH = 90 }; /* code for older ones, even where the driver compiles it for this one, does not wait */

static ec_status load_module(cuda_shared *shared, uint32_t index, uint32_t capability, cu_module *module)
{
    const ec_device *device = shared->desc->device;
    const ec_image *images = device->images + (size_t)index * device->n_images, *best = NULL;
    for (uint32_t i = 0; i < device->n_images; i++)
        if (rank(&images[i], capability) > (best != NULL ? rank(best, capability) : 0))
            best = &images[i];
    if (best == NULL) {
        const char digits[] = {(char)('0' + capability / 100 % 10), (char)('0' + capability / 10 % 10),
                               (char)('0' + capability % 10), '\0'};
        return cuda_refuse(EC_ERR_ARCH, "no code for sm_", capability < 100 ? digits + 1 : digits);
    }
    shared->early = shared->early && best->arch >= EARLY_ARCH;
    const ec_status status = CUDA(shared->driver, cuModuleLoadData, module, best->data);
    if (status != EC_OK)
        cuda_blame_version(shared->driver);
    return status;
}

static bool same_kernel(const ec_launch *a, const ec_launch *b)
{
    return b->kernel != NULL && a->module == b->module && strcmp(a->kernel, b->kernel) == 0;
}

/* Without being asked, the driver gives a block 48 KiB. */
static ec_status allow_shared(const cuda_shared *shared, const ec_launch *launch, cu_function function)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < shared->desc->n_steps; i++) {
        const ec_launch *other = &shared->desc->device->launches[i];
        if (other->shared > most && same_kernel(launch, other))
            most = other->shared;
    }
    return CUDA(shared->driver, cuFuncSetAttribute, function, CU_SHARED_BYTES, (int)most);
}

static ec_status find_functions(cuda_shared *shared)
{
    for (uint32_t i = 0; i < shared->desc->n_steps; i++) {
        const ec_launch *launch = &shared->desc->device->launches[i];
        cu_function *function = &shared->functions[i];
        if (launch->kernel == NULL)
            continue;
        ec_status status =
            CUDA(shared->driver, cuModuleGetFunction, function, shared->modules[launch->module], launch->kernel);
        if (status == EC_OK && launch->shared > 0)
            status = allow_shared(shared, launch, *function);
        if (status != EC_OK) {
            cuda_blame(shared->desc->steps[i].name);
            return status;
        }
    }
    return EC_OK;
}

static uint32_t number(const char *variable, uint32_t otherwise)
{
    const char *text = getenv(variable);
    uint32_t value = 0;
    if (text == NULL || text[0] == '\0')
        return otherwise;
    for (; *text >= '0' && *text <= '9' && value < 100000000; text++)
        value = 10 * value + (uint32_t)(*text - '0');
    return value;
}

static ec_status load_code(cuda_shared *shared)
{
    int major = 0, minor = 0, multiprocessors = 0;
    ec_status status = CUDA(shared->driver, cuDeviceGetAttribute, &major, CU_MAJOR, shared->device);
    if (status == EC_OK)
        status = CUDA(shared->driver, cuDeviceGetAttribute, &minor, CU_MINOR, shared->device);
    if (status == EC_OK)
        status = CUDA(shared->driver, cuDeviceGetAttribute, &multiprocessors, CU_MULTIPROCESSORS, shared->device);
    shared->most_blocks = number("EDGEC_CUDA_EARLY", (uint32_t)multiprocessors / 2); /* as an H100 was seen to like it */
    shared->early = shared->driver->early;
    for (uint32_t i = 0; i < shared->desc->device->n_modules && status == EC_OK; i++)
        status = load_module(shared, i, (uint32_t)(10 * major + minor), &shared->modules[i]);
    return status == EC_OK ? find_functions(shared) : status;
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

static ec_status load_weights(cuda_shared *shared)
{
    const cuda_driver *driver = shared->driver;
    const uint32_t bytes = shared->desc->weights_bytes;
    if (bytes == 0)
        return EC_OK;
    ec_status status = CUDA(driver, cuMemAlloc, &shared->weights, bytes);
    if (status == EC_OK)
        status = CUDA(driver, cuMemcpyHtoDAsync, shared->weights, shared->desc->weights, bytes, NULL);
    return status == EC_OK ? CUDA(driver, cuStreamSynchronize, NULL) : status;
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

static void destroy(cuda_shared *shared)
{
    const cuda_driver *driver = shared->driver;
    if (shared->context != NULL && cuda_enter(shared) == EC_OK) {
        for (uint32_t i = 0; shared->modules != NULL && i < shared->desc->device->n_modules; i++)
            if (shared->modules[i] != NULL)
                driver->cuModuleUnload(shared->modules[i]);
        if (shared->weights != 0)
            driver->cuMemFree(shared->weights);
        cuda_leave(shared);
    }
    if (shared->context != NULL)
        driver->cuDevicePrimaryCtxRelease(shared->device);
    free(shared->modules);
    free(shared->functions);
    free(shared);
}

static ec_status load(cuda_shared *shared)
{
    const ec_desc *desc = shared->desc;
    shared->modules = (cu_module *)calloc(desc->device->n_modules + 1u, sizeof(cu_module));
    shared->functions = (cu_function *)calloc(desc->n_steps + 1u, sizeof(cu_function));
    if (shared->modules == NULL || shared->functions == NULL)
        return EC_ERR_MEMORY;
    ec_status status = CUDA(shared->driver, cuDevicePrimaryCtxRetain, &shared->context, shared->device);
    if (status != EC_OK) {
        shared->context = NULL;
        return status;
    }
    status = cuda_enter(shared);
    if (status != EC_OK)
        return status;
    status = load_code(shared);
    if (status == EC_OK)
        status = load_weights(shared);
    cuda_leave(shared);
    return status;
}

static ec_status make(const ec_desc *desc, const cuda_driver *driver, cu_device device)
{
    cuda_shared *made = (cuda_shared *)calloc(1, sizeof *made);
    if (made == NULL)
        return EC_ERR_MEMORY;
    made->desc = desc;
    made->driver = driver;
    made->device = device;
    const ec_status status = load(made);
    if (status != EC_OK) {
        destroy(made);
        return status;
    }
    made->next = all;
    all = made;
    return EC_OK;
}

static ec_status share(const ec_desc *desc, cuda_shared **shared)
{
    const cuda_driver *driver;
    cu_device device;
    ec_status status = cuda_driver_load(&driver);
    if (status == EC_OK)
        status = choose_device(driver, &device);
    if (status != EC_OK)
        return status;
    cuda_shared *found = all;
    while (found != NULL && (found->desc != desc || found->driver != driver || found->device != device))
        found = found->next;
    if (found == NULL) {
        status = make(desc, driver, device);
        if (status != EC_OK)
            return status;
        found = all;
    }
    found->users++;
    *shared = found;
    return EC_OK;
}

ec_status cuda_share(const ec_desc *desc, cuda_shared **shared)
{
    pthread_mutex_lock(&lock);
    const ec_status status = share(desc, shared);
    pthread_mutex_unlock(&lock);
    return status;
}

void cuda_unshare(cuda_shared *shared)
{
    pthread_mutex_lock(&lock);
    if (--shared->users == 0) {
        cuda_shared **at = &all;
        while (*at != shared)
            at = &(*at)->next;
        *at = shared->next;
        destroy(shared);
    }
    pthread_mutex_unlock(&lock);
}
