/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's interface, as far as it is used here, without a header of CUDA.  Part of cuda.c and its neighbours. */
#ifndef EDGEC_CUDA_DRIVER_H
#define EDGEC_CUDA_DRIVER_H

#include <stdbool.h>

#include "edgec/cuda.h"

#define EC_HIDDEN __attribute__((visibility("hidden"))) /* shared among these files, exported by no library */

typedef int cu_result, cu_device;
typedef uint64_t cu_address;
typedef void *cu_context, *cu_module, *cu_function, *cu_stream, *cu_event, *cu_graph, *cu_graph_exec;

enum { /* results */
    CU_SUCCESS = 0,
    CU_NO_MEMORY = 2,
    CU_STUB_LIBRARY = 34,
    CU_OLD_DRIVER = 35,
    CU_NO_DEVICE = 100,
    CU_NO_BINARY = 209,
    CU_NEW_PTX = 222,
    CU_DRIVER_MISMATCH = 803
};
enum { CU_MULTIPROCESSORS = 16, CU_MAJOR = 75, CU_MINOR = 76 }; /* device attributes; the last: compute capability */
enum { CU_SHARED_BYTES = 8 };               /* function attribute: most dynamic shared memory */
enum { CU_NON_BLOCKING = 1 };               /* stream flag: does not wait for the default stream */
enum { CU_THREAD_LOCAL = 1 };               /* capture mode */
enum { CU_PORTABLE = 1 };                   /* host memory is pinned for all contexts */

enum { CU_EARLY = 6, CU_EARLY_VERSION = 12030 }; /* launch attribute: see cu_launch; since when graphs keep it */

/* A launch with one attribute, as cuLaunchKernelEx takes it: CU_EARLY with the value 1 lets the kernel begin when all
 * blocks of the one before it have said that it may, or have ended. */
typedef struct cu_attribute {
    uint32_t id, unused, value, more;
    uint64_t rest[7];
} cu_attribute;
typedef struct cu_launch {
    unsigned grid[3], block[3], shared;
    cu_stream stream;
    const cu_attribute *attributes;
    unsigned n_attributes;
} cu_launch;

/* Name, version in the library's name for it, parameters. */
#define CUDA_DRIVER(X)                                                                                                  \
    X(cuInit, "", (unsigned flags))                                                                                     \
    X(cuDriverGetVersion, "", (int *version))                                                                           \
    X(cuGetErrorName, "", (cu_result result, const char **text))                                                        \
    X(cuGetErrorString, "", (cu_result result, const char **text))                                                      \
    X(cuDeviceGetCount, "", (int *count))                                                                               \
    X(cuDeviceGet, "", (cu_device * device, int ordinal))                                                               \
    X(cuDeviceGetAttribute, "", (int *value, int attribute, cu_device device))                                          \
    X(cuDevicePrimaryCtxRetain, "", (cu_context * context, cu_device device))                                           \
    X(cuDevicePrimaryCtxRelease, "_v2", (cu_device device))                                                             \
    X(cuCtxPushCurrent, "_v2", (cu_context context))                                                                    \
    X(cuCtxPopCurrent, "_v2", (cu_context * context))                                                                   \
    X(cuCtxGetDevice, "", (cu_device * device))                                                                         \
    X(cuModuleLoadData, "", (cu_module * module, const void *image))                                                    \
    X(cuModuleUnload, "", (cu_module module))                                                                           \
    X(cuModuleGetFunction, "", (cu_function * function, cu_module module, const char *name))                            \
    X(cuFuncSetAttribute, "", (cu_function function, int attribute, int value))                                         \
    X(cuMemAlloc, "_v2", (cu_address * address, size_t bytes))                                                          \
    X(cuMemFree, "_v2", (cu_address address))                                                                           \
    X(cuMemHostRegister, "_v2", (void *memory, size_t bytes, unsigned flags))                                           \
    X(cuMemHostUnregister, "", (void *memory))                                                                          \
    X(cuMemcpyHtoDAsync, "_v2", (cu_address to, const void *from, size_t bytes, cu_stream stream))                      \
    X(cuMemcpyDtoHAsync, "_v2", (void *to, cu_address from, size_t bytes, cu_stream stream))                            \
    X(cuMemcpyDtoDAsync, "_v2", (cu_address to, cu_address from, size_t bytes, cu_stream stream))                       \
    X(cuMemsetD8Async, "", (cu_address to, unsigned char byte, size_t bytes, cu_stream stream))                         \
    X(cuStreamCreate, "", (cu_stream * stream, unsigned flags))                                                         \
    X(cuStreamDestroy, "_v2", (cu_stream stream))                                                                       \
    X(cuStreamSynchronize, "", (cu_stream stream))                                                                      \
    X(cuStreamBeginCapture, "_v2", (cu_stream stream, int mode))                                                        \
    X(cuStreamEndCapture, "", (cu_stream stream, cu_graph * graph))                                                     \
    X(cuGraphInstantiateWithFlags, "", (cu_graph_exec * exec, cu_graph graph, unsigned long long flags))                \
    X(cuGraphLaunch, "", (cu_graph_exec exec, cu_stream stream))                                                        \
    X(cuGraphDestroy, "", (cu_graph graph))                                                                             \
    X(cuGraphExecDestroy, "", (cu_graph_exec exec))                                                                     \
    X(cuEventCreate, "", (cu_event * event, unsigned flags))                                                            \
    X(cuEventRecord, "", (cu_event event, cu_stream stream))                                                            \
    X(cuEventSynchronize, "", (cu_event event))                                                                         \
    X(cuEventElapsedTime, "", (float *milliseconds, cu_event from, cu_event to))                                        \
    X(cuEventDestroy, "_v2", (cu_event event))                                                                          \
    X(cuLaunchKernel, "",                                                                                               \
      (cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,     \
       unsigned block_z, unsigned shared, cu_stream stream, void **params, void **extra))

typedef struct cuda_driver {
#define DECLARE(name, version, params) cu_result(*name) params;
    CUDA_DRIVER(DECLARE)
#undef DECLARE
    cu_result (*cuLaunchKernelEx)(const cu_launch *launch, cu_function function, void **params, void **extra);
    bool early; /* it is there, and graphs keep what it says */
    char *path;
    struct cuda_driver *next;
} cuda_driver;

/* The driver that EDGEC_CUDA_DRIVER names, or libcuda.so.1; loaded once and never unloaded.  One thread at a time. */
EC_HIDDEN ec_status cuda_driver_load(const cuda_driver **driver);

/* The status that a failure means, kept in words for the calling thread: `call: CUDA_ERROR_...: ...`. */
EC_HIDDEN ec_status cuda_status(const cuda_driver *driver, const char *call, cu_result result);
EC_HIDDEN ec_status cuda_refuse(ec_status status, const char *format, const char *what);

/* Says of the last failure, for the calling thread, in which step it was, or which version of CUDA the driver is for. */
EC_HIDDEN void cuda_blame(const char *step);
EC_HIDDEN void cuda_blame_version(const cuda_driver *driver);
EC_HIDDEN const char *cuda_error(void);

#define CUDA(driver, function, ...) cuda_status(driver, #function, (driver)->function(__VA_ARGS__))

#endif
