/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a model on an arena and walks its table of steps.  Needs no operating system and no C library. */
#include "edgec/device.h"

static void *resolve(const ec_model *model, ec_ref ref, size_t scratch)
{
    if (ref.region == EC_WEIGHTS)
        return (void *)(uintptr_t)(model->desc->weights + ref.offset); /* kernels only read weights */
    if (ref.region >= EC_BANK)
        return (void *)(uintptr_t)(model->banks[ref.region - EC_BANK] + ref.offset);
    return model->arena + ref.offset + (ref.region == EC_SCRATCH ? scratch : 0);
}

void ec_step_args(const ec_model *model, const ec_step *step, uint32_t worker, void *args[EC_MAX_ARGS])
{
    const size_t scratch = (size_t)worker * step->scratch_stride;
    for (uint32_t i = 0; i < step->n_args; i++)
        args[i] = resolve(model, step->args[i], scratch);
}

ec_status ec_step_run(const ec_model *model, const ec_step *step)
{
    void *args[EC_MAX_ARGS];
    if (model->desc->device != NULL)
        return EC_ERR_ARG;
    if (step->tasks == 0)
        return EC_OK;
    ec_step_args(model, step, 0, args);
    step->kernel(args, (int32_t)model->task, (int32_t)step->tasks);
    return EC_OK;
}

/* The first of desc and its fallbacks that the CPU can run and the operating system lets it run. */
static const ec_desc *claim(const ec_desc *desc)
{
    uint32_t isa = ec_cpu_isa(), granted;
    while ((desc = ec_select(desc, isa)) != NULL && (granted = ec_claim_isa(desc->isa)) != desc->isa)
        isa &= ~(desc->isa & ~granted);
    return desc;
}

ec_status ec_open(ec_model *model, const ec_desc *desc, void *arena, size_t bytes)
{
    if (model == NULL)
        return EC_ERR_ARG;
    model->desc = NULL;
    model->arena = (uint8_t *)arena;
    model->next = 0;
    model->begun = 0;
    model->task = 0;
    model->dispatch = NULL;
    model->backend = NULL;
    model->profile = NULL;
    model->profile_user = NULL;
    model->clock = NULL;
    model->instance = NULL;
    model->banks = NULL;
    if (desc == NULL || arena == NULL)
        return EC_ERR_ARG;
    if (desc->abi != EC_ABI || desc->max_args > EC_MAX_ARGS)
        return EC_ERR_ABI;
    desc = claim(desc);
    if (desc == NULL)
        return EC_ERR_ISA;
    if (bytes < desc->arena_bytes)
        return EC_ERR_ARENA;
    if (desc->arena_align > 1 && ((uintptr_t)arena & (desc->arena_align - 1)) != 0)
        return EC_ERR_ALIGN;
    model->desc = desc;
    model->banks = desc->banks;
    const ec_status status = desc->device != NULL ? desc->device->ops->open(model) : EC_OK;
    if (status != EC_OK)
        model->desc = NULL;
    return status;
}

/* The backend of an open model, or NULL. */
static const ec_device_ops *device_of(const ec_model *model)
{
    return model != NULL && model->desc != NULL && model->desc->device != NULL ? model->desc->device->ops : NULL;
}

void ec_close(ec_model *model)
{
    if (device_of(model) != NULL)
        device_of(model)->close(model);
    if (model != NULL)
        model->desc = NULL;
}

static ec_tensor view(const ec_model *model, const ec_io *io)
{
    ec_tensor tensor;
    tensor.data = resolve(model, io->data, 0);
    tensor.io = io;
    return tensor;
}

static const ec_tensor no_tensor = {NULL, NULL};

ec_tensor ec_input(const ec_model *model, uint32_t index)
{
    if (model == NULL || model->desc == NULL || index >= model->desc->n_inputs)
        return no_tensor;
    return view(model, &model->desc->inputs[index]);
}

ec_tensor ec_output(const ec_model *model, uint32_t index)
{
    if (model == NULL || model->desc == NULL || index >= model->desc->n_outputs)
        return no_tensor;
    return view(model, &model->desc->outputs[index]);
}

int64_t ec_output_count(const ec_model *model, uint32_t index)
{
    const ec_io *io = ec_output(model, index).io;
    if (io == NULL)
        return EC_ERR_ARG;
    if (io->count_axis < 0)
        return io->rank > 0 ? io->dims[0] : 1;
    const uint8_t *bytes = (const uint8_t *)resolve(model, io->count, 0);
    int64_t count;
    for (size_t i = 0; i < sizeof count; i++)
        ((uint8_t *)&count)[i] = bytes[i];
    const int64_t most = io->dims[io->count_axis];
    return count < 0 ? 0 : count > most ? most : count; /* anything may lie there before the first run */
}

int32_t ec_find(const ec_io *ios, uint32_t count, const char *name)
{
    if (ios == NULL || name == NULL)
        return EC_ERR_ARG;
    for (uint32_t i = 0; i < count; i++) {
        size_t k = 0;
        while (ios[i].name[k] != '\0' && ios[i].name[k] == name[k])
            k++;
        if (ios[i].name[k] == name[k])
            return (int32_t)i;
    }
    return EC_ERR_ARG;
}

/* The steps that a branch moves on by. */
static int32_t branched(const ec_model *model, const ec_step *step)
{
    return *(const uint8_t *)resolve(model, step->args[0], 0) == 0 ? step->jump : 1;
}

static ec_status run_step(const ec_model *model, const ec_step *step)
{
    return model->dispatch != NULL && model->task == 0 ? model->dispatch(model->backend, model, step) : ec_step_run(model, step);
}

static ec_status run_profiled(const ec_model *model, const ec_step *step)
{
    const uint64_t start = model->clock();
    const ec_status status = run_step(model, step);
    if (status == EC_OK)
        model->profile(model->profile_user, model->next, model->clock() - start);
    return status;
}

ec_status ec_step_next(ec_model *model)
{
    if (model == NULL || model->desc == NULL)
        return EC_ERR_ARG;
    if (model->desc->device != NULL)
        return model->desc->device->ops->step(model);
    const uint32_t steps = model->desc->n_steps;
    if (model->next < steps) { /* not so in a model without steps */
        const ec_step *step = &model->desc->steps[model->next];
        if (step->jump != 0) {
            model->next += (uint32_t)branched(model, step);
        } else {
            const ec_status status = model->profile != NULL ? run_profiled(model, step) : run_step(model, step);
            if (status != EC_OK)
                return status;
            model->next++;
            model->task = 0;
        }
    }
    if (model->next >= steps) {
        model->next = 0;
        return 0;
    }
    return (ec_status)(steps - model->next);
}

ec_status ec_run_async(ec_model *model)
{
    if (device_of(model) != NULL && model->begun == 0)
        return device_of(model)->run(model);
    ec_status left;
    do
        left = ec_step_next(model);
    while (left > 0);
    return left;
}

ec_status ec_wait(ec_model *model)
{
    if (model == NULL || model->desc == NULL)
        return EC_ERR_ARG;
    return model->desc->device != NULL ? model->desc->device->ops->wait(model) : EC_OK;
}

ec_status ec_run(ec_model *model)
{
    const ec_status status = ec_run_async(model);
    return status == EC_OK ? ec_wait(model) : status;
}

void ec_restart(ec_model *model)
{
    if (model != NULL)
        model->next = model->begun = model->task = 0;
}

ec_status ec_set_profile(ec_model *model, ec_profile hook, void *user, ec_clock clock)
{
    if (model == NULL || model->desc == NULL || (hook != NULL && clock == NULL))
        return EC_ERR_ARG;
    model->profile = hook;
    model->profile_user = user;
    model->clock = clock;
    return EC_OK;
}

ec_status ec_set_dispatch(ec_model *model, ec_dispatch dispatch, void *backend)
{
    if (model == NULL || model->desc == NULL || (dispatch != NULL && model->desc->device != NULL))
        return EC_ERR_ARG;
    model->dispatch = dispatch;
    model->backend = backend;
    return EC_OK;
}

ec_status ec_read(const ec_model *model, ec_ref from, void *to, size_t bytes)
{
    if (model == NULL || model->desc == NULL || to == NULL)
        return EC_ERR_ARG;
    if (model->desc->device != NULL)
        return model->desc->device->ops->read(model, from, to, bytes);
    const uint8_t *place = (const uint8_t *)resolve(model, from, 0);
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)to)[i] = place[i];
    return EC_OK;
}

const char *ec_device_error(const ec_desc *desc)
{
    return desc != NULL && desc->abi == EC_ABI && desc->device != NULL ? desc->device->ops->error() : "";
}

const ec_desc *ec_select(const ec_desc *desc, uint32_t isa)
{
    while (desc != NULL && (desc->isa & ~isa) != 0)
        desc = desc->fallback;
    return desc;
}

uint32_t ec_missing_isa(const ec_desc *desc)
{
    while (desc != NULL && desc->fallback != NULL)
        desc = desc->fallback;
    return desc == NULL ? 0 : desc->isa & ~ec_claim_isa(desc->isa);
}

size_t ec_model_bytes(void)
{
    return sizeof(ec_model);
}
