/* SPDX-License-Identifier: Apache-2.0 */
/* Runs models on a GPU: captured once as a graph, or step by step where steps depend on what others have computed. */
#include "cuda_model.h"

#include <stdlib.h>

static cuda_instance *instance_of(const ec_model *model)
{
    return (cuda_instance *)model->instance;
}

static const cuda_driver *driver_of(const ec_model *model)
{
    return instance_of(model)->shared->driver;
}

/* ---- Steps one by one -------------------------------------------------------------------------------------------- */

static ec_status make_events(const ec_model *model)
{
    cuda_instance *in = instance_of(model);
    ec_status status = EC_OK;
    if (in->events == NULL)
        in->events = (cu_event *)calloc(model->desc->n_steps + 1u, sizeof(cu_event));
    if (in->events == NULL)
        return EC_ERR_MEMORY;
    for (uint32_t i = 0; i <= model->desc->n_steps && status == EC_OK; i++)
        if (in->events[i] == NULL)
            status = CUDA(driver_of(model), cuEventCreate, &in->events[i], 0);
    return status;
}

/* Tells the hook what lies between two events that have happened. */
static ec_status report(const ec_model *model, uint32_t step, cu_event from, cu_event to)
{
    float milliseconds = 0;
    const ec_status status = CUDA(driver_of(model), cuEventElapsedTime, &milliseconds, from, to);
    if (status == EC_OK)
        model->profile(model->profile_user, step, (uint64_t)((double)milliseconds * 1e6));
    return status;
}

static ec_status run_timed(const ec_model *model, uint32_t index)
{
    const cuda_instance *in = instance_of(model);
    const cuda_driver *driver = driver_of(model);
    ec_status status = make_events(model);
    if (status == EC_OK)
        status = CUDA(driver, cuEventRecord, in->events[0], in->stream);
    if (status == EC_OK)
        status = cuda_queue_step(model, index, in->stream, NULL);
    if (status == EC_OK)
        status = CUDA(driver, cuEventRecord, in->events[1], in->stream);
    if (status == EC_OK)
        status = CUDA(driver, cuEventSynchronize, in->events[1]);
    return status == EC_OK ? report(model, index, in->events[0], in->events[1]) : status;
}

/* The step that is next; moves on behind it. */
static ec_status advance(ec_model *model)
{
    const ec_step *step = &model->desc->steps[model->next];
    int32_t by = 1;
    ec_status status;
    if (step->jump != 0) {
        uint8_t flag = 0;
        status = cuda_fetch(model, step->args[0], &flag, sizeof flag);
        by = flag == 0 ? step->jump : 1;
    } else if (model->profile != NULL && step->tasks > 0) {
        status = run_timed(model, model->next);
    } else {
        status = cuda_queue_step(model, model->next, instance_of(model)->stream, NULL);
    }
    if (status == EC_OK)
        model->next += (uint32_t)by;
    return status;
}

ec_status cuda_step(ec_model *model)
{
    const uint32_t steps = model->desc->n_steps;
    const cu_stream stream = instance_of(model)->stream;
    ec_status status = EC_OK;
    if (model->begun == 0) {
        model->next = 0;
        status = cuda_copy_inputs(model, stream);
        if (status == EC_OK)
            model->begun = 1;
    }
    if (status == EC_OK && model->next < steps)
        status = advance(model);
    if (status == EC_OK && model->next >= steps)
        status = cuda_copy_outputs(model, stream);
    if (status == EC_OK)
        status = cuda_synchronize(model);
    if (status != EC_OK)
        return status;
    if (model->next < steps)
        return (ec_status)(steps - model->next);
    model->next = model->begun = 0;
    return 0;
}

/* ---- Whole runs -------------------------------------------------------------------------------------------------- */

static ec_status run_branching(ec_model *model)
{
    const cu_stream stream = instance_of(model)->stream;
    ec_status status = cuda_copy_inputs(model, stream);
    while (status == EC_OK && model->next < model->desc->n_steps)
        status = advance(model);
    model->next = 0;
    return status == EC_OK ? cuda_copy_outputs(model, stream) : status;
}

/* All steps without a pause between them; the hook hears of them at the end. */
static ec_status run_profiled(const ec_model *model)
{
    const cuda_instance *in = instance_of(model);
    const cuda_driver *driver = driver_of(model);
    const uint32_t steps = model->desc->n_steps;
    ec_status status = make_events(model);
    if (status == EC_OK)
        status = cuda_copy_inputs(model, in->stream);
    if (status == EC_OK)
        status = CUDA(driver, cuEventRecord, in->events[0], in->stream);
    for (uint32_t i = 0; i < steps && status == EC_OK; i++) {
        status = cuda_queue_step(model, i, in->stream, NULL);
        if (status == EC_OK)
            status = CUDA(driver, cuEventRecord, in->events[i + 1], in->stream);
    }
    if (status == EC_OK)
        status = cuda_copy_outputs(model, in->stream);
    if (status == EC_OK)
        status = cuda_synchronize(model);
    for (uint32_t i = 0; i < steps && status == EC_OK; i++)
        status = report(model, i, in->events[i], in->events[i + 1]);
    return status;
}

static ec_status queue_steps(const ec_model *model, cu_stream stream)
{
    bool may_begin = false;
    ec_status status = EC_OK;
    for (uint32_t i = 0; i < model->desc->n_steps && status == EC_OK; i++)
        status = cuda_queue_step(model, i, stream, &may_begin);
    return status;
}

/* Copies are part of the graph where the host's memory is pinned, so that the device can do them alone. */
static ec_status capture(const ec_model *model, cuda_instance *in)
{
    const cuda_driver *driver = driver_of(model);
    cu_graph graph = NULL;
    ec_status status = CUDA(driver, cuStreamBeginCapture, in->own, CU_THREAD_LOCAL);
    if (status != EC_OK)
        return status;
    if (in->pinned)
        status = cuda_copy_inputs(model, in->own);
    if (status == EC_OK)
        status = queue_steps(model, in->own);
    if (status == EC_OK && in->pinned)
        status = cuda_copy_outputs(model, in->own);
    if (status == EC_OK)
        status = CUDA(driver, cuStreamEndCapture, in->own, &graph);
    else
        driver->cuStreamEndCapture(in->own, &graph);
    if (status == EC_OK)
        status = CUDA(driver, cuGraphInstantiateWithFlags, &in->run, graph, 0);
    if (status != EC_OK)
        in->run = NULL;
    if (graph != NULL)
        driver->cuGraphDestroy(graph);
    return status;
}

ec_status cuda_run(ec_model *model)
{
    cuda_instance *in = instance_of(model);
    ec_status status = EC_OK;
    if (!in->straight)
        return run_branching(model);
    if (model->profile != NULL)
        return run_profiled(model);
    if (in->run == NULL)
        status = capture(model, in);
    if (status == EC_OK && !in->pinned)
        status = cuda_copy_inputs(model, in->stream);
    if (status == EC_OK)
        status = CUDA(driver_of(model), cuGraphLaunch, in->run, in->stream);
    if (status == EC_OK && !in->pinned)
        status = cuda_copy_outputs(model, in->stream);
    return status;
}
