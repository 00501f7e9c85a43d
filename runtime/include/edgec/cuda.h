/* SPDX-License-Identifier: Apache-2.0 */
/* edgec/cuda.h - models that were compiled for NVIDIA GPUs.  Needs the driver (libcuda.so.1) and nothing else of CUDA.
 *
 * The driver is loaded when the first model opens: programs link and start without it.  ec_open then answers
 * EC_ERR_NO_DEVICE, _DRIVER, _ARCH or _DEVICE, ec_strerror says what that means, and ec_device_error(&tiny_desc) what the
 * driver said.
 *
 * Device.   That of the environment variable EDGEC_CUDA_DEVICE (a number); else that of the calling thread's current
 *           context (after cudaSetDevice, say); else the first.  The runtime uses the device's primary context, as the
 *           CUDA runtime does, and leaves no context current behind.
 * Memory.   Weights are on the device once for all instances of a process, until the last is closed.  ec_open takes
 *           ec_desc.device->arena_bytes more for each instance.  The caller's arena holds inputs and outputs; ec_open pins
 *           it where the system allows, ec_close unpins it: close a model before its arena goes.
 * Runs.     ec_run copies inputs, launches all steps and copies outputs; from the second time on that is one launch of a
 *           CUDA graph.  Models with branches or loops are launched step by step.  Several models may run at the same
 *           time, each on a stream of its own.
 * Streams.  To run a model among other work on the device, on one's own stream and with data that are on the device
 *           already (`stream` a CUstream or cudaStream_t):
 *               ec_cuda_use(&model, stream, 0);         // no copies from and to the arena
 *               preprocess<<<..., stream>>>((float *)ec_cuda_input(&model, 0));  // every input, before every run
 *               ec_run_async(&model);
 *               draw<<<..., stream>>>((const float *)ec_cuda_output(&model, 0)); // before the next run
 *           and ec_wait(&model), or any other way to wait for the stream, at the end.
 * Errors.   A kernel that fails makes the whole context of the process unusable, as always with CUDA; ec_run, or where
 *           ec_run_async began it ec_wait, answers EC_ERR_DEVICE.
 *
 * EDGEC_CUDA_DRIVER names another driver library than libcuda.so.1.  Where the device (compute capability 9.0) and the
 * driver (CUDA 12.3) know how, a kernel of a graph begins before the one before it has ended, if that has blocks for no
 * more than half of the multiprocessors; EDGEC_CUDA_EARLY, read when the first instance opens, is another number of blocks
 * (0: none begins early).
 */
#ifndef EDGEC_CUDA_H
#define EDGEC_CUDA_H

#include "edgec/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Named by generated tables, in the same library or program; others need not care. */
__attribute__((visibility("hidden"))) extern const ec_device_ops ec_cuda_ops;

enum { EC_CUDA_COPY_INPUTS = 1, EC_CUDA_COPY_OUTPUTS = 2, EC_CUDA_COPY = 3 };

/* From now on the model runs on `stream`, of the primary context of its device; NULL: on a stream of its own again.
 * `copies`: which of inputs and outputs are copied from and to the arena; the counts of outputs always are.  After
 * ec_open: ec_cuda_use(model, NULL, EC_CUDA_COPY).  Waits for runs that were begun before.
 * EC_ERR_ARG for a model that is not on a GPU. */
ec_status ec_cuda_use(ec_model *model, void *stream, uint32_t copies);

/* Where an input or output is on the device; 0 for a bad index, or a model that is not on a GPU.  The model may use the
 * memory of inputs during a run: write every input before every run. */
uint64_t ec_cuda_input(const ec_model *model, uint32_t index);
uint64_t ec_cuda_output(const ec_model *model, uint32_t index);
uint64_t ec_cuda_count(const ec_model *model, uint32_t index); /* int64_t; 0 where the size is fixed */

#ifdef __cplusplus
}
#endif
#endif
