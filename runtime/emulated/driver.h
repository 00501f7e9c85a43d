/* SPDX-License-Identifier: Apache-2.0 */
/* libcuda for tests: the driver's functions that the runtime uses, over memory of this process.
 *
 * A module is a shared library; kernel K is its function `K_emulated(grid_x, grid_y, grid_z, block, shared, params)`,
 * `params` as cuLaunchKernel has them.  Where the library has `ec_emulated_on_fault(handler)`, whatever kernels report to
 * the handler is what the next wait for a stream in the same thread fails with.  Streams run at once, or note down what they
 * are given while they are captured.
 * A launch that may begin early (cuLaunchKernelEx) needs a device of 9.0, a kernel before it on the stream, and the symbol
 * `K_waits` in the library, which says that K waits for the end of that kernel.
 * The device says that its compute capability is 0.0.
 *
 * What a GPU would refuse is refused: no context, memory that is not the device's, sizes out of range, calls that are not
 * allowed while a stream is captured.  New memory holds 0xff (NaN), and behind it lies a page that nobody may touch.
 *
 * For tests of what can go wrong, environment variables, read at each call:
 *   EDGEC_EMULATED_FAIL=cuMemAlloc_v2=2   this function fails with this error
 *   EDGEC_EMULATED_DEVICES=0              how many devices there are (1)
 *   EDGEC_EMULATED_ARCH=87                compute capability 8.7
 *   EDGEC_EMULATED_VERSION=12000          the driver is for CUDA 12.0 (13.0)
 */
#ifndef EDGEC_EMULATED_DRIVER_H
#define EDGEC_EMULATED_DRIVER_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace emulated {

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
};

using work = std::function<void()>;

struct stream;

extern std::mutex mutex; /* of `held` and what else several threads share */
extern int held;         /* what has been taken and not been given back, memory aside */

extern thread_local std::vector<int> current; /* contexts: devices */
extern thread_local stream *captured;         /* the stream that this thread captures */

/* What EDGEC_EMULATED_FAIL says of a function. */
int fault(const char *function);

/* A kernel of this thread reports a fault; `reported` then answers CUDA_ERROR_LAUNCH_FAILED once, and cuGetErrorString says
 * what it was. */
void note_fault(const char *message);
int reported();

/* Does something, in its turn on a stream. */
int queue(void *stream, work what, bool is_kernel = false);

/* Whether what was queued last on a stream is a kernel. */
bool after_kernel(void *stream);

int memory_blocks();

} // namespace emulated

/* Begins a function that needs a context; ends it early where there is none, or where it is to fail. */
#define BEGIN()                                                    \
    if (const int failed = emulated::fault(__func__); failed != 0) \
        return failed;                                             \
    if (emulated::current.empty())                                 \
    return emulated::CUDA_ERROR_INVALID_CONTEXT

/* The same for what may not happen in a thread that captures a stream. */
#define BEGIN_OUTSIDE_CAPTURE()        \
    BEGIN();                           \
    if (emulated::captured != nullptr) \
    return emulated::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

#endif
