/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels around the branches and loops of a model: they copy, clear and count. */
#include "edgec/edgec.h"

static void copy(uint8_t *to, const uint8_t *from, int32_t begin, int32_t end)
{
    for (int32_t i = begin; i < end; i++)
        to[i] = from[i];
}

void ec_copy(void *const *args, int32_t begin, int32_t end)
{
    copy((uint8_t *)args[0], (const uint8_t *)args[1], begin, end);
}

void ec_clear(void *const *args, int32_t begin, int32_t end)
{
    uint8_t *to = (uint8_t *)args[0];
    for (int32_t i = begin; i < end; i++)
        to[i] = 0;
}

void ec_put(void *const *args, int32_t begin, int32_t end)
{
    const int64_t row = *(const int64_t *)args[2], bytes = *(const int64_t *)args[3];
    copy((uint8_t *)args[0] + row * bytes, (const uint8_t *)args[1], begin, end);
}

void ec_next(void *const *args, int32_t begin, int32_t end)
{
    *(int64_t *)args[0] += end - begin;
}

void ec_more(void *const *args, int32_t begin, int32_t end)
{
    const int64_t count = *(const int64_t *)args[1], limit = *(const int64_t *)args[2];
    (void)begin;
    (void)end;
    *(uint8_t *)args[0] = count < limit && *(const uint8_t *)args[3] != 0;
}
