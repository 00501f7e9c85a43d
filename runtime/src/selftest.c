/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a model on inputs that came with it, and compares what every step leaves with what it left elsewhere. */
#include "edgec/selftest.h"

#include "edgec/device.h"

static uint32_t digest(uint32_t before, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        before = (before ^ bytes[i]) * 16777619u;
    return before;
}

/* Of memory that may lie anywhere. */
static uint32_t digest_of(const ec_model *model, const ec_digest *row)
{
    uint8_t part[32];
    ec_ref place = row->place;
    uint32_t found = 2166136261u;
    for (uint32_t left = row->bytes; left > 0;) {
        const uint32_t count = left < sizeof part ? left : (uint32_t)sizeof part;
        ec_read(model, place, part, count);
        found = digest(found, part, count);
        place.offset += count;
        left -= count;
    }
    return found;
}

static void clear(uint8_t *memory, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        memory[i] = 0;
}

/* The memory as it was: what pads values is compared too. */
static const uint8_t *begin(ec_model *model, const ec_golden *golden)
{
    const uint8_t *data = golden->data;
    clear(model->arena, model->desc->arena_bytes);
    for (uint32_t i = 0; i < golden->n_banks; i++)
        clear((uint8_t *)(uintptr_t)model->banks[i], golden->bank_bytes[i]);
    for (uint32_t i = 0; i < model->desc->n_inputs; i++) {
        const ec_tensor input = ec_input(model, i);
        for (uint32_t k = 0; k < input.io->bytes; k++)
            ((uint8_t *)input.data)[k] = *data++;
    }
    return data;
}

static int outputs_differ(const ec_model *model, const uint8_t *data)
{
    int differ = 0;
    for (uint32_t i = 0; i < model->desc->n_outputs; i++) {
        const ec_tensor output = ec_output(model, i);
        for (uint32_t k = 0; k < output.io->bytes; k++)
            differ |= ((const uint8_t *)output.data)[k] ^ *data++;
    }
    return differ;
}

ec_status ec_selftest(ec_model *model, const ec_golden *golden, uint32_t *step)
{
    if (model == NULL || golden == NULL || step == NULL || model->desc == NULL || model->desc != golden->desc ||
        model->desc->device != NULL)
        return EC_ERR_ARG;
    ec_restart(model);
    const uint8_t *outputs = begin(model, golden);
    const ec_digest *row = golden->digests, *end = row + golden->n_digests;
    ec_status left;
    do {
        const uint32_t done = model->next;
        left = ec_step_next(model);
        for (; left >= 0 && row < end && row->step == done; row++)
            if (digest_of(model, row) != row->digest) {
                ec_restart(model);
                *step = done;
                return EC_ERR_DIFFERS;
            }
    } while (left > 0);
    *step = model->desc->n_steps;
    return left == EC_OK && outputs_differ(model, outputs) ? EC_ERR_DIFFERS : left;
}
