/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: their names, those that tests ask for, and what kernels report. */
#include <cstdlib>
#include <cstring>
#include <string>

#include "driver.h"

using namespace emulated;

namespace {

thread_local std::string pending, last; /* faults: not reported yet, reported last */

constexpr struct {
    int code;
    const char *name, *text;
} errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
};

} // namespace

namespace emulated {

/* What EDGEC_EMULATED_FAIL says of a function. */
int fault(const char *function)
{
    const char *text = std::getenv("EDGEC_EMULATED_FAIL");
    const std::size_t length = std::strlen(function);
    if (text == nullptr || std::strncmp(text, function, length) != 0 || text[length] != '=')
        return CUDA_SUCCESS;
    return std::atoi(text + length + 1);
}

void note_fault(const char *message)
{
    pending = message;
}

int reported()
{
    if (pending.empty())
        return CUDA_SUCCESS;
    last.swap(pending);
    pending.clear();
    return CUDA_ERROR_LAUNCH_FAILED;
}

} // namespace emulated

extern "C" {

int cuGetErrorName(int result, const char **text)
{
    for (const auto &error : errors)
        if (error.code == result)
            return *text = error.name, CUDA_SUCCESS;
    return CUDA_ERROR_INVALID_VALUE;
}

int cuGetErrorString(int result, const char **text)
{
    if (result == CUDA_ERROR_LAUNCH_FAILED && !last.empty())
        return *text = last.c_str(), CUDA_SUCCESS;
    for (const auto &error : errors)
        if (error.code == result)
            return *text = error.text, CUDA_SUCCESS;
    return CUDA_ERROR_INVALID_VALUE;
}

} // extern "C"
