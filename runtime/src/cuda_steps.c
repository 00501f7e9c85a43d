/* SPDX-License-Identifier: Apache-2.0 */
/* Queues on a stream what a run is made of: copies of inputs and outputs, launches, and what the runtime's own kernels do. */
#include "cuda_model.h"

static cuda_instance *instance_of(const ec_model *model)
{
    return (cuda_instance *)model->instance;
}

static const cuda_driver *driver_of(const ec_model *model)
{
    return instance_of(model)->shared->driver;
}

ec_status cuda_synchronize(const ec_model *model)
{
    return CUDA(driver_of(model), cuStreamSynchronize, instance_of(model)->stream);
}

/* ---- Inputs and outputs ------------------------------------------------------------------------------------------ */

ec_status cuda_copy_inputs(const ec_model *model, cu_stream stream)
{
    const ec_desc *desc = model->desc;
    ec_status status = EC_OK;
    if ((instance_of(model)->copies & EC_CUDA_COPY_INPUTS) == 0)
        return EC_OK;
    for (uint32_t i = 0; i < desc->n_inputs && status == EC_OK; i++) {
        const ec_io *io = &desc->inputs[i];
        if (io->bytes > 0)
            status = CUDA(driver_of(model), cuMemcpyHtoDAsync, cuda_place(model, desc->device->inputs[i]),
                          model->arena + io->data.offset, io->bytes, stream);
    }
    return status;
}

static ec_status copy_out(const ec_model *model, ec_ref to, ec_ref from, size_t bytes, cu_stream stream)
{
    if (bytes == 0)
        return EC_OK;
    return CUDA(driver_of(model), cuMemcpyDtoHAsync, model->arena + to.offset, cuda_place(model, from), bytes, stream);
}

ec_status cuda_copy_outputs(const ec_model *model, cu_stream stream)
{
    const ec_desc *desc = model->desc;
    const bool all = (instance_of(model)->copies & EC_CUDA_COPY_OUTPUTS) != 0;
    ec_status status = EC_OK;
    for (uint32_t i = 0; i < desc->n_outputs && status == EC_OK; i++) {
        const ec_io *io = &desc->outputs[i];
        if (all)
            status = copy_out(model, io->data, desc->device->outputs[i], io->bytes, stream);
        if (status == EC_OK && io->count_axis >= 0)
            status = copy_out(model, io->count, desc->device->counts[i], sizeof(int64_t), stream);
    }
    return status;
}

/* ---- The runtime's own kernels ----------------------------------------------------------------------------------- */

/* A few bytes that a step needs here; those among the weights are here already. */
ec_status cuda_fetch(const ec_model *model, ec_ref from, void *to, size_t bytes)
{
    if (from.region == EC_WEIGHTS) {
        for (size_t i = 0; i < bytes; i++)
            ((uint8_t *)to)[i] = model->desc->weights[from.offset + i];
        return EC_OK;
    }
    const ec_status status = CUDA(driver_of(model), cuMemcpyDtoHAsync, to, cuda_place(model, from), bytes,
                                  instance_of(model)->stream);
    return status == EC_OK ? cuda_synchronize(model) : status;
}

static ec_status put_back(const ec_model *model, ec_ref to, const void *from, size_t bytes)
{
    const ec_status status = CUDA(driver_of(model), cuMemcpyHtoDAsync, cuda_place(model, to), from, bytes,
                                  instance_of(model)->stream);
    return status == EC_OK ? cuda_synchronize(model) : status;
}

static ec_status run_put(const ec_model *model, const ec_step *step, cu_stream stream)
{
    int64_t row = 0, bytes = 0;
    ec_status status = cuda_fetch(model, step->args[2], &row, sizeof row);
    if (status == EC_OK)
        status = cuda_fetch(model, step->args[3], &bytes, sizeof bytes);
    if (status != EC_OK)
        return status;
    const cu_address to = cuda_place(model, step->args[0]) + (cu_address)(row * bytes);
    return CUDA(driver_of(model), cuMemcpyDtoDAsync, to, cuda_place(model, step->args[1]), step->tasks, stream);
}

static ec_status run_next(const ec_model *model, const ec_step *step)
{
    int64_t count = 0;
    const ec_status status = cuda_fetch(model, step->args[0], &count, sizeof count);
    count += step->tasks;
    return status == EC_OK ? put_back(model, step->args[0], &count, sizeof count) : status;
}

static ec_status run_more(const ec_model *model, const ec_step *step)
{
    int64_t count = 0, limit = 0;
    uint8_t go = 0;
    ec_status status = cuda_fetch(model, step->args[1], &count, sizeof count);
    if (status == EC_OK)
        status = cuda_fetch(model, step->args[2], &limit, sizeof limit);
    if (status == EC_OK)
        status = cuda_fetch(model, step->args[3], &go, sizeof go);
    if (status != EC_OK)
        return status;
    go = count < limit && go != 0;
    return put_back(model, step->args[0], &go, sizeof go);
}

static ec_status run_own(const ec_model *model, const ec_step *step, cu_stream stream)
{
    const cu_address to = cuda_place(model, step->args[0]);
    if (step->kernel == ec_copy)
        return CUDA(driver_of(model), cuMemcpyDtoDAsync, to, cuda_place(model, step->args[1]), step->tasks, stream);
    if (step->kernel == ec_clear)
        return CUDA(driver_of(model), cuMemsetD8Async, to, 0, step->tasks, stream);
    if (step->kernel == ec_put)
        return run_put(model, step, stream);
    if (step->kernel == ec_next)
        return run_next(model, step);
    if (step->kernel == ec_more)
        return run_more(model, step);
    return cuda_refuse(EC_ERR_DEVICE, "a kernel that only a CPU can run", "");
}

/* ---- Any step ---------------------------------------------------------------------------------------------------- */

static ec_status launch_kernel(const ec_model *model, uint32_t index, cu_stream stream, bool early)
{
    const cuda_instance *in = instance_of(model);
    const ec_launch *launch = &model->desc->device->launches[index];
    const cu_function function = in->shared->functions[index];
    void **params = in->params + in->first[index];
    const uint32_t *grid = launch->grid;
    if (!early)
        return CUDA(driver_of(model), cuLaunchKernel, function, grid[0], grid[1], grid[2], launch->block, 1, 1, launch->shared,
                    stream, params, NULL);
    const cu_attribute attribute = {CU_EARLY, 0, 1, 0, {0}};
    const cu_launch how = {{grid[0], grid[1], grid[2]}, {launch->block, 1, 1}, launch->shared, stream, &attribute, 1};
    return CUDA(driver_of(model), cuLaunchKernelEx, &how, function, params, NULL);
}

static bool is_small(const cuda_shared *shared, const uint32_t *grid)
{
    return (uint64_t)grid[0] * grid[1] * grid[2] <= shared->most_blocks;
}

/* A kernel begins early only behind a kernel: that one says when, and waits itself for all before it. */
ec_status cuda_queue_step(const ec_model *model, uint32_t index, cu_stream stream, bool *may_begin)
{
    const cuda_shared *shared = instance_of(model)->shared;
    const ec_step *step = &model->desc->steps[index];
    const ec_launch *launch = &model->desc->device->launches[index];
    const bool is_kernel = launch->kernel != NULL;
    ec_status status;
    if (step->tasks == 0 || (is_kernel && (launch->grid[0] == 0 || launch->grid[1] == 0 || launch->grid[2] == 0)))
        return EC_OK;
    if (is_kernel)
        status = launch_kernel(model, index, stream, may_begin != NULL && *may_begin && shared->early);
    else
        status = run_own(model, step, stream);
    if (may_begin != NULL)
        *may_begin = is_kernel && is_small(shared, launch->grid);
    if (status != EC_OK)
        cuda_blame(step->name);
    return status;
}
