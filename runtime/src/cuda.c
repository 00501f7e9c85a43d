/* SPDX-License-Identifier: Apache-2.0 */
/* Opens and closes models on a GPU; what an instance has of its own there. */
#include "cuda_model.h"

#include <stdlib.h>

static cuda_instance *instance_of(const ec_model *model)
{
    return (cuda_instance *)model->instance;
}

cu_address cuda_place(const ec_model *model, ec_ref ref)
{
    const cuda_instance *in = instance_of(model);
    const cu_address start = ref.region == EC_WEIGHTS ? in->shared->weights
                             : ref.region == EC_ZEROS ? in->zeros
                                                      : in->arena;
    return start + ref.offset;
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

/* Memory of the device, all zeros. */
static ec_status take(const cuda_instance *in, size_t bytes, cu_address *address)
{
    const cuda_driver *driver = in->shared->driver;
    if (bytes == 0)
        return EC_OK;
    const ec_status status = CUDA(driver, cuMemAlloc, address, bytes);
    return status == EC_OK ? CUDA(driver, cuMemsetD8Async, *address, 0, bytes, in->own) : status;
}

/* Arguments of all steps, as the driver wants them. */
static ec_status resolve_args(const ec_model *model, cuda_instance *in)
{
    const ec_desc *desc = model->desc;
    size_t total = 0, at = 0;
    for (uint32_t i = 0; i < desc->n_steps; i++)
        total += desc->steps[i].n_args + 1u;
    in->args = (cu_address *)calloc(total + 1, sizeof(cu_address));
    in->params = (void **)calloc(total + 1, sizeof(void *));
    in->first = (uint32_t *)calloc(desc->n_steps + 1u, sizeof(uint32_t));
    if (in->args == NULL || in->params == NULL || in->first == NULL)
        return EC_ERR_MEMORY;
    for (uint32_t i = 0; i < desc->n_steps; i++) {
        const ec_step *step = &desc->steps[i];
        in->first[i] = (uint32_t)at;
        for (uint32_t k = 0; k < step->n_args; k++, at++) {
            in->args[at] = cuda_place(model, step->args[k]);
            in->params[at] = &in->args[at];
        }
        at++;
    }
    return EC_OK;
}

static bool is_straight(const ec_desc *desc)
{
    for (uint32_t i = 0; i < desc->n_steps; i++) {
        const ec_kernel kernel = desc->steps[i].kernel;
        if (desc->steps[i].jump != 0 || kernel == ec_put || kernel == ec_next || kernel == ec_more)
            return false;
    }
    return true;
}

static ec_status set_up(const ec_model *model, cuda_instance *in)
{
    const ec_desc *desc = model->desc;
    const cuda_driver *driver = in->shared->driver;
    ec_status status = CUDA(driver, cuStreamCreate, &in->own, CU_NON_BLOCKING);
    in->stream = in->own;
    in->copies = EC_CUDA_COPY;
    in->straight = is_straight(desc);
    if (status == EC_OK)
        status = take(in, desc->device->arena_bytes, &in->arena);
    if (status == EC_OK)
        status = take(in, desc->device->zeros_bytes, &in->zeros);
    if (status == EC_OK)
        status = resolve_args(model, in);
    if (status == EC_OK)
        status = CUDA(driver, cuStreamSynchronize, in->own);
    if (status == EC_OK && desc->arena_bytes > 0)
        in->pinned = driver->cuMemHostRegister(model->arena, desc->arena_bytes, CU_PORTABLE) == CU_SUCCESS;
    return status;
}

static void tear_down(const ec_model *model, cuda_instance *in)
{
    const cuda_driver *driver = in->shared->driver;
    if (in->stream != NULL)
        driver->cuStreamSynchronize(in->stream);
    if (in->run != NULL)
        driver->cuGraphExecDestroy(in->run);
    for (uint32_t i = 0; in->events != NULL && i <= model->desc->n_steps; i++)
        if (in->events[i] != NULL)
            driver->cuEventDestroy(in->events[i]);
    if (in->pinned)
        driver->cuMemHostUnregister(model->arena);
    if (in->arena != 0)
        driver->cuMemFree(in->arena);
    if (in->zeros != 0)
        driver->cuMemFree(in->zeros);
    if (in->own != NULL)
        driver->cuStreamDestroy(in->own);
}

static void close_model(ec_model *model)
{
    cuda_instance *in = instance_of(model);
    if (in == NULL)
        return;
    if (in->shared != NULL) {
        if (cuda_enter(in->shared) == EC_OK) {
            tear_down(model, in);
            cuda_leave(in->shared);
        }
        cuda_unshare(in->shared);
    }
    free(in->args);
    free(in->params);
    free(in->first);
    free(in->events);
    free(in);
    model->instance = NULL;
}

static ec_status open_model(ec_model *model)
{
    cuda_instance *in = (cuda_instance *)calloc(1, sizeof *in);
    if (in == NULL)
        return cuda_refuse(EC_ERR_MEMORY, "", "");
    model->instance = in;
    ec_status status = cuda_share(model->desc, &in->shared);
    if (status == EC_OK && (status = cuda_enter(in->shared)) == EC_OK) {
        status = set_up(model, in);
        cuda_leave(in->shared);
    }
    if (status != EC_OK)
        close_model(model);
    return status;
}

/* ---- Using ------------------------------------------------------------------------------------------------------- */

static ec_status in_context(ec_model *model, ec_status (*action)(ec_model *model))
{
    const cuda_shared *shared = instance_of(model)->shared;
    ec_status status = cuda_enter(shared);
    if (status == EC_OK) {
        status = action(model);
        cuda_leave(shared);
    }
    return status;
}

static ec_status run(ec_model *model)
{
    return in_context(model, cuda_run);
}

static ec_status step(ec_model *model)
{
    return in_context(model, cuda_step);
}

static ec_status synchronize(ec_model *model)
{
    return cuda_synchronize(model);
}

static ec_status wait(ec_model *model)
{
    return in_context(model, synchronize);
}

static ec_status read_memory(const ec_model *model, ec_ref from, void *to, size_t bytes)
{
    const cuda_instance *in = instance_of(model);
    const cuda_driver *driver = in->shared->driver;
    if (bytes == 0)
        return EC_OK;
    ec_status status = cuda_enter(in->shared);
    if (status != EC_OK)
        return status;
    status = CUDA(driver, cuMemcpyDtoHAsync, to, cuda_place(model, from), bytes, in->stream);
    if (status == EC_OK)
        status = CUDA(driver, cuStreamSynchronize, in->stream);
    cuda_leave(in->shared);
    return status;
}

static ec_status use(ec_model *model, void *stream, uint32_t copies)
{
    cuda_instance *in = instance_of(model);
    const cuda_driver *driver = in->shared->driver;
    ec_status status = cuda_enter(in->shared);
    if (status != EC_OK)
        return status;
    status = CUDA(driver, cuStreamSynchronize, in->stream);
    if (status == EC_OK && copies != in->copies && in->run != NULL) {
        status = CUDA(driver, cuGraphExecDestroy, in->run);
        in->run = NULL;
    }
    if (status == EC_OK) {
        in->stream = stream != NULL ? stream : in->own;
        in->copies = copies;
    }
    cuda_leave(in->shared);
    return status;
}

static uint64_t address(const ec_model *model, uint32_t kind, uint32_t index)
{
    const ec_device *device = model->desc->device;
    const ec_ref *refs = kind == EC_AT_INPUT ? device->inputs : kind == EC_AT_OUTPUT ? device->outputs : device->counts;
    return cuda_place(model, refs[index]);
}

const ec_device_ops ec_cuda_ops = {
    open_model, close_model, run, step, wait, read_memory, use, address, cuda_error,
};
