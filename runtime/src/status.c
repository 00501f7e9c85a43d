/* SPDX-License-Identifier: Apache-2.0 */
/* What the status codes mean, in words. */
#include "edgec/edgec.h"

const char *ec_strerror(ec_status status)
{
    switch (status) {
    case EC_OK:
        return "ok";
    case EC_ERR_ABI:
        return "the model was compiled for another version of the edgec runtime";
    case EC_ERR_ARENA:
        return "the arena is smaller than the model needs";
    case EC_ERR_ALIGN:
        return "the arena is not aligned as the model needs";
    case EC_ERR_ISA:
        return "this CPU lacks an instruction set that the model uses";
    case EC_ERR_ARG:
        return "null pointer, index out of range, or model not open";
    case EC_ERR_LOAD:
        return "the shared library cannot be loaded";
    case EC_ERR_SYMBOL:
        return "the shared library is not an edgec bundle";
    case EC_ERR_MEMORY:
        return "out of memory";
    case EC_ERR_THREAD:
        return "the system refused to start a thread";
    case EC_ERR_NO_DEVICE:
        return "there is no GPU here, or no driver for it";
    case EC_ERR_DRIVER:
        return "the GPU's driver is too old for the model";
    case EC_ERR_ARCH:
        return "the model was compiled for other GPUs than this one";
    case EC_ERR_DEVICE:
        return "the GPU's driver reported an error";
    case EC_ERR_DIFFERS:
        return "the self-test found a step that computes something else than where the model was compiled";
    default:
        return "unknown status";
    }
}
