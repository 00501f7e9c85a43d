/* SPDX-License-Identifier: Apache-2.0 */
/* edgec/device.h - models that run on an accelerator: their tables, and what a backend for one kind of accelerator is.
 *
 * For those who write backends and bindings; programs that use CUDA need edgec/cuda.h only.
 */
#ifndef EDGEC_DEVICE_H
#define EDGEC_DEVICE_H

#include "edgec/edgec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What the compiler generates --------------------------------------------------------------------------------- */

/* A device module for one architecture (sm_87: 87): machine code, code that the driver compiles for this architecture
 * or a newer one, or a shared library for the emulated driver (architecture 0). */
enum { EC_IMAGE_CUBIN = 1, EC_IMAGE_PTX = 2, EC_IMAGE_EMULATED = 3 };
typedef struct ec_image {
    uint32_t arch, kind;
    const uint8_t *data; /* a zero byte follows */
    size_t bytes;
} ec_image;

/* How a step runs: blocks, threads of each, bytes that a block shares beside what the kernel declares.  The kernel's
 * parameters are all arguments of the step, as addresses on the device. */
typedef struct ec_launch {
    const char *kernel; /* NULL: a branch, or one of the runtime's own kernels (ec_step.kernel) */
    uint32_t module, grid[3], block, shared;
} ec_launch;

typedef struct ec_device_ops ec_device_ops;

typedef struct ec_device {
    const ec_device_ops *ops;
    const ec_image *images; /* all of module 0, then all of module 1 ... */
    uint32_t n_modules, n_images; /* images of each module */
    const ec_launch *launches;    /* of each step */
    uint32_t arena_bytes, zeros_bytes; /* memory on the device; steps' arguments are places in it */
    const ec_ref *inputs, *outputs, *counts; /* where on the device inputs and outputs are; counts of outputs that have one */
} ec_device;

/* ---- A backend --------------------------------------------------------------------------------------------------- */

enum { EC_AT_INPUT = 0, EC_AT_OUTPUT = 1, EC_AT_COUNT = 2 }; /* count: int64_t, of an output whose size depends on data */

/* The model is open, except in `open` and `error`.  What `open` took, also where it failed, it or `close` gives back. */
struct ec_device_ops {
    ec_status (*open)(ec_model *model);
    void (*close)(ec_model *model);
    ec_status (*run)(ec_model *model);  /* begins a whole run */
    ec_status (*step)(ec_model *model); /* as ec_step_next */
    ec_status (*wait)(ec_model *model);
    ec_status (*read)(const ec_model *model, ec_ref from, void *to, size_t bytes);
    ec_status (*use)(ec_model *model, void *stream, uint32_t copies); /* for all runs that follow */
    uint64_t (*address)(const ec_model *model, uint32_t kind, uint32_t index); /* of one that exists */
    const char *(*error)(void);
};

/* What the device or its driver said about the last failure in the calling thread; "" where it said nothing, and for models
 * on a CPU.  Never NULL. */
const char *ec_device_error(const ec_desc *desc);

/* Copies bytes of what the steps work on: values in the arena (of the device, where there is one), or weights. */
ec_status ec_read(const ec_model *model, ec_ref from, void *to, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
