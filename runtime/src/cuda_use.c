/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of edgec/cuda.h: through the model's own backend, which may be that of another library. */
#include "edgec/cuda.h"

static const ec_device *device_of(const ec_model *model)
{
    return model != NULL && model->desc != NULL ? model->desc->device : NULL;
}

ec_status ec_cuda_use(ec_model *model, void *stream, uint32_t copies)
{
    const ec_device *device = device_of(model);
    return device != NULL && copies <= EC_CUDA_COPY ? device->ops->use(model, stream, copies) : EC_ERR_ARG;
}

uint64_t ec_cuda_input(const ec_model *model, uint32_t index)
{
    const ec_device *device = device_of(model);
    return device != NULL && index < model->desc->n_inputs ? device->ops->address(model, EC_AT_INPUT, index) : 0;
}

uint64_t ec_cuda_output(const ec_model *model, uint32_t index)
{
    const ec_device *device = device_of(model);
    return device != NULL && index < model->desc->n_outputs ? device->ops->address(model, EC_AT_OUTPUT, index) : 0;
}

uint64_t ec_cuda_count(const ec_model *model, uint32_t index)
{
    const ec_device *device = device_of(model);
    if (device == NULL || index >= model->desc->n_outputs || model->desc->outputs[index].count_axis < 0)
        return 0;
    return device->ops->address(model, EC_AT_COUNT, index);
}
