/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a model in slices of time, between which its caller does other work. */
#include "edgec/edgec.h"

/* The next task of a step that has several, the next step otherwise. */
static ec_status slice(ec_model *model)
{
    const ec_desc *desc = model->desc;
    const ec_step *step = model->next < desc->n_steps ? &desc->steps[model->next] : NULL;
    void *args[EC_MAX_ARGS];
    if (step == NULL || step->jump != 0 || model->task + 1 >= step->tasks || desc->device != NULL ||
        model->dispatch != NULL || model->profile != NULL)
        return ec_step_next(model);
    ec_step_args(model, step, 0, args);
    step->kernel(args, (int32_t)model->task, (int32_t)model->task + 1);
    model->task++;
    return (ec_status)(desc->n_steps - model->next);
}

ec_status ec_run_until(ec_model *model, ec_stop stop, void *user)
{
    ec_status left;
    if (model == NULL || model->desc == NULL || stop == NULL)
        return EC_ERR_ARG;
    do
        left = slice(model);
    while (left > 0 && stop(user) == 0);
    return left;
}
