/* SPDX-License-Identifier: Apache-2.0 */
/* edgec.h - run a model compiled by edgec.  C11; on CPUs no allocation, no globals, no errno, no stdio.
 *
 * `edgec compile tiny.onnx` writes tiny.h and a library.  tiny.h declares `tiny_desc`, the const description of the
 * model, and TINY_ARENA_BYTES, the memory that one instance of it needs.  A whole program:
 *
 * -- example
 *     #include <stdio.h>
 *     #include <string.h>
 *     #include "edgec/edgec.h"
 *     #include "tiny.h"
 *
 *     EC_ALIGNAS(TINY_ARENA_ALIGN) static uint8_t arena[TINY_ARENA_BYTES];
 *
 *     int main(void)
 *     {
 *         const float frame[4] = {1, 2, 3, 4};
 *         ec_model model;
 *         ec_status status = ec_open(&model, &tiny_desc, arena, sizeof arena);
 *         if (status < 0) {
 *             fprintf(stderr, "tiny: %s\n", ec_strerror(status));
 *             return 1;
 *         }
 *         for (int run = 0; run < 3; run++) {
 *             memcpy(ec_input(&model, 0).data, frame, sizeof frame);  // before every run: see "Inputs"
 *             status = ec_run(&model);
 *             if (status < 0)
 *                 return 1;
 *             const float *scores = (const float *)ec_output(&model, 0).data;
 *             printf("%g %g %g %g\n", (double)scores[0], (double)scores[1], (double)scores[2], (double)scores[3]);
 *         }
 *         return 0;
 *     }
 * -- end
 *
 * Memory.   The caller owns everything: `ec_model` (any storage), the arena (ec_desc.arena_bytes, aligned to
 *           ec_desc.arena_align).  Weights are const and shared.  On a CPU forget both when done; a model on an
 *           accelerator has memory there too, which ec_close gives back.
 * Inputs.   Input tensors lie in the arena, and the model may reuse that memory during a run.  Write every input
 *           before every run.  Outputs stay valid until the next run or the next write to an input.
 * Sizes.    The size of some outputs depends on data: the boxes that a detector keeps, say.  Such an output has memory
 *           for the largest size, which ec_io.dims gives; ec_io.count_axis names the axis that may be shorter, and after
 *           a run ec_output_count says how many entries of it are there.  They come first, and zeros or anything else
 *           follow.  Where count_axis is 0 (or all axes before it are of size 1) what is there is one piece of memory;
 *           otherwise each row of dims[count_axis] entries begins with so many that count:
 *               for (int64_t i = 0; i < ec_output_count(&model, 0); i++) draw(boxes + 4 * i);
 * Threads.  One thread at a time uses an ec_model.  Any number of models, of one descriptor or of several, run on
 *           any number of threads, each with its own arena.  To split one model over threads: edgec/pool.h.
 * Regions.  A model that was planned for a board with several RAMs or flashes has memory beside arena and weights: its
 *           banks, which the library brings along in sections of their own (<name>.ld places them; <name>.h lists
 *           them).  Those in RAM hold values of a run.  So a second instance of such a model, or a program that wants
 *           them elsewhere, makes a copy of the list of pointers with its own memory in place of these and stores it in
 *           model.banks after ec_open.
 * Devices.  The steps of a model that was compiled for a GPU run there; the arena then holds inputs and outputs only, and
 *           all functions mean the same.  ec_run_async does not wait for the end.  More: edgec/cuda.h.
 * Levels.   A library may hold a model several times, each for another level of the CPU: descriptors that are linked
 *           by ec_desc.fallback, the most demanding first.  ec_open takes the first that this CPU can run;
 *           model.desc->target then names it.  To open a lower one: ec_open(&model, tiny_desc.fallback, ...).
 * Errors.   Functions return EC_OK (0) or a negative ec_status; ec_strerror names it.  A descriptor is generated code
 *           and as trusted as any function you link: its offsets are not checked again.
 *
 * More: edgec/selftest.h (does it compute here what it did there), edgec/pool.h (threads), edgec/loader.h (open a .so), edgec/bench.h (timing), edgec/cuda.h (GPUs),
 *       edgec/edgec.hpp (C++17).
 */
#ifndef EDGEC_EDGEC_H
#define EDGEC_EDGEC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define EC_ALIGNAS(bytes) alignas(bytes)
extern "C" {
#else
#define EC_ALIGNAS(bytes) _Alignas(bytes)
#endif

#define EC_ABI 6       /* raised when a struct below changes its meaning; ec_desc.abi must equal it */
#define EC_MAX_ARGS 32 /* arguments of one kernel: ec_run keeps so many pointers on the stack */

typedef int32_t ec_status;
enum {
    EC_OK = 0,
    EC_ERR_ABI = -1,    /* the model was generated for another EC_ABI or a larger EC_MAX_ARGS */
    EC_ERR_ARENA = -2,  /* arena smaller than ec_desc.arena_bytes */
    EC_ERR_ALIGN = -3,  /* arena not aligned to ec_desc.arena_align */
    EC_ERR_ISA = -4,    /* this CPU lacks an instruction set that the kernels use: ec_missing_isa */
    EC_ERR_ARG = -5,    /* null pointer, index out of range, or a model that is not open */
    EC_ERR_LOAD = -6,   /* ec_load: no such file, or the system cannot load it: dlerror() */
    EC_ERR_SYMBOL = -7, /* ec_load: a shared library, but not an edgec bundle */
    EC_ERR_MEMORY = -8, /* out of memory (pool, loader, C++ wrapper and devices only) */
    EC_ERR_THREAD = -9, /* the system refused a thread (pool only) */
    /* Of models on an accelerator; ec_device_error says more: */
    EC_ERR_NO_DEVICE = -10, /* no driver, or no device that it knows */
    EC_ERR_DRIVER = -11,    /* the driver is too old */
    EC_ERR_ARCH = -12,      /* compiled for other devices than this one */
    EC_ERR_DEVICE = -13,    /* the driver reported an error */
    EC_ERR_DIFFERS = -14    /* ec_selftest: a step computes something else than where the model was compiled */
};

/* Element types.  Those of 6, 4 and 2 bits take one byte per element: the number is in the lowest bits, extended to the
 * whole byte (i4 and i2 by the sign, all others by zeros) in what a model writes; what it reads may have anything there.
 * A bool is a byte that is 0 or 1. */
enum {
    EC_F32 = 1,
    EC_F16, /* IEEE 754 binary16 */
    EC_BF16,
    EC_F64,
    EC_I8,
    EC_U8,
    EC_I16,
    EC_U16,
    EC_I32,
    EC_U32,
    EC_I64,
    EC_U64,
    EC_BOOL,
    EC_F8E4M3FN, /* 8-bit floats as in ONNX: bits of exponent and mantissa; FN: no infinity, UZ: no negative zero */
    EC_F8E4M3FNUZ,
    EC_F8E5M2,
    EC_F8E5M2FNUZ,
    EC_F8E8M0, /* 2 to the power of (byte - 127); 255: NaN */
    EC_F6E2M3,
    EC_F6E3M2,
    EC_F4E2M1,
    EC_I4,
    EC_U4,
    EC_I2,
    EC_U2
};

/* Instruction sets, as bits of ec_desc.isa. */
enum {
    EC_ISA_AVX2 = 1 << 0,
    EC_ISA_FMA = 1 << 1, /* x86 FMA3; on Arm fused multiply-add in hardware (VFPv4, every AArch64) */
    EC_ISA_AVX512F = 1 << 2,
    EC_ISA_AVX512BW = 1 << 3,
    EC_ISA_AVX512VL = 1 << 4,
    EC_ISA_AVX512DQ = 1 << 5,
    EC_ISA_AVX512VNNI = 1 << 6,
    EC_ISA_AVX_VNNI = 1 << 7,
    EC_ISA_F16C = 1 << 8,
    EC_ISA_AMXTILE = 1 << 9, /* Linux grants tiles to a process that asks: ec_open does */
    EC_ISA_AMXINT8 = 1 << 10,
    EC_ISA_AVX512VBMI = 1 << 11,
    EC_ISA_NEON = 1 << 16,
    EC_ISA_DOTPROD = 1 << 17, /* SDOT, UDOT */
    EC_ISA_FP16 = 1 << 18,    /* half-precision arithmetic */
    EC_ISA_I8MM = 1 << 19,
    EC_ISA_SVE = 1 << 20,
    EC_ISA_DSP = 1 << 21,  /* Cortex-M4 and newer: SMLAD and friends */
    EC_ISA_MVE = 1 << 22,  /* Cortex-M55 and newer: Helium, with floats */
    EC_ISA_FPU = 1 << 23,  /* Cortex-M: single precision, switched on */
    EC_ISA_FPV5 = 1 << 24, /* Cortex-M7 and newer: rounding, selection, larger and smaller of floats */
    EC_ISA_FP64 = 1 << 25  /* Cortex-M: double precision */
};

/* ---- What the compiler generates: const data, in flash where there is flash -------------------------------------- */

/* A kernel runs the tasks begin .. end-1 of its step.  Tasks are independent: any split over workers is valid. */
typedef void (*ec_kernel)(void *const *args, int32_t begin, int32_t end);

/* A place in memory.  EC_SCRATCH lies in the arena, once per worker: offset + worker * ec_step.scratch_stride.
 * EC_ZEROS, only on a device: zero when a model opens, and left so by each step.  EC_BANK + i: ec_model.banks[i]. */
enum { EC_ARENA = 0, EC_WEIGHTS = 1, EC_SCRATCH = 2, EC_ZEROS = 3, EC_BANK = 4 };
typedef struct ec_ref {
    uint32_t region, offset; /* offset in bytes */
} ec_ref;

typedef struct ec_step {
    ec_kernel kernel;
    const ec_ref *args;
    uint32_t n_args, tasks; /* tasks <= INT32_MAX */
    uint32_t grain;         /* tasks that are worth handing to another worker; >= tasks: one worker does all */
    uint32_t scratch_stride;
    int32_t jump; /* not 0: a branch, without a kernel; where its one argument, a byte, is 0, so many steps further */
    const char *name;
} ec_step;

/* An input or output, row-major.  When scale is not 0: real value = (element - zero_point) * scale.
 * count_axis: -1, or of an output the axis whose size depends on data; dims and bytes are then the largest. */
typedef struct ec_io {
    const char *name;
    ec_ref data;
    uint32_t bytes;
    uint8_t dtype, rank;
    int16_t count_axis;
    const int32_t *dims; /* rank of them */
    float scale;
    int32_t zero_point;
    ec_ref count; /* int64_t: how many entries of count_axis are there (ec_output_count) */
} ec_io;

typedef struct ec_desc {
    uint32_t abi; /* first for ever */
    uint32_t isa; /* EC_ISA_* bits that the kernels use */
    uint32_t arena_bytes, arena_align;
    uint32_t threads; /* workers that the arena has scratch for */
    uint32_t n_inputs, n_outputs, n_steps;
    const ec_io *inputs, *outputs;
    const ec_step *steps;
    const uint8_t *weights;
    uint32_t weights_bytes;
    uint32_t max_args; /* largest ec_step.n_args */
    const char *name, *version;
    const char *target;             /* what the kernels were compiled for, as `edgec targets` names it */
    const struct ec_desc *fallback; /* the same model for lesser CPUs, with the same arena and weights; or NULL */
    const struct ec_device *device; /* what runs the steps instead of the CPU (edgec/device.h), or NULL */
    const uint8_t *const *banks;    /* see "Regions"; NULL: there are none */
} ec_desc;

/* ---- What the program holds -------------------------------------------------------------------------------------- */

typedef struct ec_model ec_model;

/* Runs all tasks of a step: what a thread pool or an accelerator puts in place of the plain call. */
typedef ec_status (*ec_dispatch)(void *backend, const ec_model *model, const ec_step *step);

/* Called after each step with its index and duration; on a device perhaps only when all have run. */
typedef void (*ec_profile)(void *user, uint32_t step, uint64_t nanoseconds);
typedef uint64_t (*ec_clock)(void); /* nanoseconds since any fixed moment */

/* Initialised by ec_open; read its fields freely, change them through the functions below. */
struct ec_model {
    const ec_desc *desc; /* NULL: not open */
    uint8_t *arena;
    uint32_t next;        /* index of the step that runs next; 0 between runs */
    uint32_t begun;       /* on a device: whether ec_step_next is within a run */
    uint32_t task;        /* tasks of that step which ec_run_until has done */
    ec_dispatch dispatch; /* NULL: every step runs in the calling thread */
    void *backend;
    ec_profile profile;
    void *profile_user;
    ec_clock clock;
    void *instance;              /* what the model has on a device */
    const uint8_t *const *banks; /* of the descriptor; a second instance puts a list of its own here (see "Regions") */
};

/* A view of one input or output: where its elements are, and what they are.  {NULL, NULL} for a bad index. */
typedef struct ec_tensor {
    void *data; /* of an output: read only, it may lie among the weights */
    const ec_io *io;
} ec_tensor;

/* Binds a descriptor, or the first of its fallbacks that this CPU can run, to an arena of `bytes` bytes.
 * EC_ERR_ARG, _ABI, _ISA, _ARENA, _ALIGN (checked in this order), and of a device _NO_DEVICE, _DRIVER, _ARCH, _DEVICE,
 * _MEMORY leave the model closed: every other function then answers EC_ERR_ARG or {NULL, NULL}. */
ec_status ec_open(ec_model *model, const ec_desc *desc, void *arena, size_t bytes);

/* Waits for a run that ec_run_async began, gives back what the model has on a device, and leaves it closed.
 * A model on a CPU has nothing to give back. */
void ec_close(ec_model *model);

ec_tensor ec_input(const ec_model *model, uint32_t index);
ec_tensor ec_output(const ec_model *model, uint32_t index);

/* How many entries of output `index` the last run left along ec_io.count_axis, 0 to dims[count_axis]; where the size is
 * fixed, along its first axis (1 for a scalar).  EC_ERR_ARG for a bad index. */
int64_t ec_output_count(const ec_model *model, uint32_t index);

/* Index of the input or output called `name`, or EC_ERR_ARG: ec_find(desc->inputs, desc->n_inputs, "image"). */
int32_t ec_find(const ec_io *ios, uint32_t count, const char *name);

/* Runs the steps that are left: all of them, or the rest of a run that ec_step_next began. */
ec_status ec_run(ec_model *model);

/* Begins a run and leaves it to the device: until ec_wait has returned, inputs must stay as they are and outputs mean
 * nothing.  Runs of one model follow each other.  On a CPU, and where a model has branches or loops, the run may be over
 * when this returns. */
ec_status ec_run_async(ec_model *model);

/* Waits until all runs that ec_run_async began are over; what went wrong in them. */
ec_status ec_wait(ec_model *model);

/* Runs one step and returns how many stand after it, so that a main loop can do other work between steps:
 *     while ((left = ec_step_next(&model)) > 0) poll_sensors();
 * In a model with loops steps run several times, and branches leave some out.  0 means that the outputs are ready and the
 * next call begins a new run.  On an error the step will be tried again. */
ec_status ec_step_next(ec_model *model);

/* Runs until `stop(user)` is not 0, which it asks after every task of every step (after whole steps on a device, with a
 * pool or a profile hook), and returns the steps that are left; the next call goes on there, as do ec_step_next and ec_run.
 * At least one task is run.  A slice of 2 ms of a main loop, with a clock that counts microseconds:
 *     static int late(void *end) { return (int32_t)(now_us() - *(uint32_t *)end) >= 0; }
 *     uint32_t end = now_us() + 2000;
 *     if (ec_run_until(&model, late, &end) == 0) use(ec_output(&model, 0).data);
 */
typedef int (*ec_stop)(void *user);
ec_status ec_run_until(ec_model *model, ec_stop stop, void *user);

/* Abandons a run that ec_step_next or ec_run_until began; the next one starts with the first step. */
void ec_restart(ec_model *model);

/* Times each step with `clock` (edgec/bench.h has one; firmware brings its own; a device has its own) and reports it;
 * NULL `hook`: off.  EC_ERR_ARG for a hook without a clock. */
ec_status ec_set_profile(ec_model *model, ec_profile hook, void *user, ec_clock clock);

/* What went wrong, in a few English words; "unknown status" for any other number.  Never NULL. */
const char *ec_strerror(ec_status status);

/* EC_ISA_* bits that this CPU and operating system offer. */
uint32_t ec_cpu_isa(void);

/* Asks the operating system for those of the features `isa` that it gives only to processes that ask, and returns the
 * ones that this process may use from now on.  ec_open does so for what its model needs. */
uint32_t ec_claim_isa(uint32_t isa);

/* EC_ISA_* bits that the model (the last of its fallbacks, which needs least) needs and this CPU lacks,
 * or the operating system does not grant. */
uint32_t ec_missing_isa(const ec_desc *desc);

/* What ec_open would take on a CPU that offers `isa`: the first of desc and its fallbacks that needs no more, or NULL. */
const ec_desc *ec_select(const ec_desc *desc, uint32_t isa);

/* ---- Kernels of the runtime, which steps around the branches and loops of a model use ---------------------------- */

void ec_copy(void *const *args, int32_t begin, int32_t end);  /* to, from: bytes begin .. end-1 */
void ec_clear(void *const *args, int32_t begin, int32_t end); /* to: bytes begin .. end-1 become 0 */
void ec_put(void *const *args, int32_t begin, int32_t end);   /* to, from, int64 row, int64 bytes of a row: as ec_copy */
void ec_next(void *const *args, int32_t begin, int32_t end);  /* int64 count: one more */
void ec_more(void *const *args, int32_t begin, int32_t end);  /* byte result, int64 count, int64 limit, byte condition */

/* ---- For those who write backends and bindings ------------------------------------------------------------------- */

/* Resolves a step's arguments for one worker; `worker` < max(1, desc->threads).  Not for models on a device. */
void ec_step_args(const ec_model *model, const ec_step *step, uint32_t worker, void *args[EC_MAX_ARGS]);

/* Runs all tasks of a step in the calling thread, as worker 0.  EC_ERR_ARG for a model on a device. */
ec_status ec_step_run(const ec_model *model, const ec_step *step);

/* Makes `dispatch` run every step of the model; NULL: back to the calling thread.  EC_ERR_ARG for a model on a device. */
ec_status ec_set_dispatch(ec_model *model, ec_dispatch dispatch, void *backend);

/* sizeof(ec_model), for languages that cannot read this header. */
size_t ec_model_bytes(void);

#ifdef __cplusplus
}
#endif
#endif
