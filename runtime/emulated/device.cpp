/* SPDX-License-Identifier: Apache-2.0 */
/* The device, contexts, code. */
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "driver.h"

using namespace emulated;

namespace emulated {

std::mutex mutex;
int held;
thread_local std::vector<int> current;

} // namespace emulated

namespace {

using kernel = void (*)(unsigned, unsigned, unsigned, unsigned, unsigned, void **);
struct emulated_function {
    kernel run;
    int shared; /* bytes that a launch may ask for */
    bool waits; /* for the end of the kernel before it */
};
struct emulated_module {
    void *library;
    std::map<std::string, emulated_function> functions;
};

struct emulated_attribute {
    int id;
    char unused[4];
    alignas(8) int value;
    char rest[60];
};
struct emulated_launch {
    unsigned grid[3], block[3], shared;
    void *stream;
    const emulated_attribute *attributes;
    unsigned n_attributes;
};
static_assert(sizeof(emulated_attribute) == 72 && sizeof(emulated_launch) == 56, "as the driver has them");

std::atomic<int> early; /* launches that may begin early */

int number(const char *variable, int otherwise)
{
    const char *text = std::getenv(variable);
    return text != nullptr ? std::atoi(text) : otherwise;
}

/* dlopen answers a path that it has seen with the library that it holds: each module gets a file of its own. */
void *open_library(const void *image, std::size_t bytes)
{
    const char *folder = std::getenv("TMPDIR");
    std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/edgec-XXXXXX";
    const int file = mkstemp(path.data());
    if (file < 0)
        return nullptr;
    const char *from = static_cast<const char *>(image);
    while (bytes > 0) {
        const ssize_t written = write(file, from, bytes);
        if (written <= 0)
            break;
        from += written;
        bytes -= static_cast<std::size_t>(written);
    }
    close(file);
    void *library = bytes == 0 ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path.c_str());
    return library;
}

/* An ELF file ends with its section headers, or for stripped ones without, its last segment. */
std::size_t elf_bytes(const unsigned char *image)
{
    std::uint64_t headers, segments, end = 0;
    std::uint16_t size, count, segment_size, segment_count;
    if (std::memcmp(image, "\177ELF\2\1", 6) != 0)
        return 0;
    std::memcpy(&segments, image + 32, 8);
    std::memcpy(&headers, image + 40, 8);
    std::memcpy(&segment_size, image + 54, 2);
    std::memcpy(&segment_count, image + 56, 2);
    std::memcpy(&size, image + 58, 2);
    std::memcpy(&count, image + 60, 2);
    end = headers + static_cast<std::uint64_t>(size) * count;
    for (unsigned i = 0; i < segment_count; i++) {
        std::uint64_t offset, stored;
        std::memcpy(&offset, image + segments + static_cast<std::uint64_t>(i) * segment_size + 8, 8);
        std::memcpy(&stored, image + segments + static_cast<std::uint64_t>(i) * segment_size + 32, 8);
        end = end < offset + stored ? offset + stored : end;
    }
    return static_cast<std::size_t>(end);
}

void hear_faults(void *library)
{
    void *symbol = dlsym(library, "ec_emulated_on_fault");
    void (*on_fault)(void (*)(const char *));
    std::memcpy(&on_fault, &symbol, sizeof symbol);
    if (symbol != nullptr)
        on_fault(note_fault);
}

} // namespace

extern "C" {

/* For tests: what has been taken and not been given back. */
int edgec_emulated_held(void)
{
    const std::lock_guard<std::mutex> guard(mutex);
    return held + memory_blocks() + static_cast<int>(current.size());
}

/* For tests: launches so far that could begin before the kernel before them had ended. */
int edgec_emulated_early(void)
{
    return early;
}

/* ---- The device -------------------------------------------------------------------------------------------------- */

int cuInit(unsigned)
{
    return fault(__func__);
}

int cuDriverGetVersion(int *version)
{
    *version = number("EDGEC_EMULATED_VERSION", 13000);
    return CUDA_SUCCESS;
}

int cuDeviceGetCount(int *count)
{
    *count = number("EDGEC_EMULATED_DEVICES", 1);
    return fault(__func__);
}

int cuDeviceGet(int *device, int ordinal)
{
    if (ordinal < 0 || ordinal >= number("EDGEC_EMULATED_DEVICES", 1))
        return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int)
{
    const int arch = number("EDGEC_EMULATED_ARCH", 0);
    *value = attribute == 75 ? arch / 10 : attribute == 76 ? arch % 10 : attribute == 16 ? 8 : 0;
    return CUDA_SUCCESS;
}

int cuDeviceGetName(char *name, int length, int)
{
    std::strncpy(name, "emulated", static_cast<std::size_t>(length));
    return CUDA_SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    if (const int failed = fault(__func__); failed != 0)
        return failed;
    const std::lock_guard<std::mutex> guard(mutex);
    held++;
    *context = reinterpret_cast<void *>(static_cast<std::uintptr_t>(device) + 1);
    return CUDA_SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int)
{
    const std::lock_guard<std::mutex> guard(mutex);
    held--;
    return CUDA_SUCCESS;
}

int cuCtxPushCurrent_v2(void *context)
{
    if (const int failed = fault(__func__); failed != 0)
        return failed;
    current.push_back(static_cast<int>(reinterpret_cast<std::uintptr_t>(context)) - 1);
    return CUDA_SUCCESS;
}

int cuCtxPopCurrent_v2(void **context)
{
    if (current.empty())
        return CUDA_ERROR_INVALID_CONTEXT;
    *context = reinterpret_cast<void *>(static_cast<std::uintptr_t>(current.back()) + 1);
    current.pop_back();
    return CUDA_SUCCESS;
}

int cuCtxGetDevice(int *device)
{
    if (current.empty())
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = current.back();
    return CUDA_SUCCESS;
}

/* ---- Code -------------------------------------------------------------------------------------------------------- */

int cuModuleLoadData(void **module, const void *image)
{
    BEGIN_OUTSIDE_CAPTURE();
    const std::size_t bytes = elf_bytes(static_cast<const unsigned char *>(image));
    void *library = bytes != 0 ? open_library(image, bytes) : nullptr;
    if (library == nullptr)
        return CUDA_ERROR_INVALID_IMAGE;
    hear_faults(library);
    const std::lock_guard<std::mutex> guard(mutex);
    held++;
    *module = new emulated_module{library, {}};
    return CUDA_SUCCESS;
}

int cuModuleUnload(void *module)
{
    BEGIN_OUTSIDE_CAPTURE();
    auto *m = static_cast<emulated_module *>(module);
    dlclose(m->library);
    delete m;
    const std::lock_guard<std::mutex> guard(mutex);
    held--;
    return CUDA_SUCCESS;
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    BEGIN_OUTSIDE_CAPTURE();
    auto *m = static_cast<emulated_module *>(module);
    void *symbol = dlsym(m->library, (std::string(name) + "_emulated").c_str());
    if (symbol == nullptr)
        return CUDA_ERROR_NOT_FOUND;
    const bool waits = dlsym(m->library, (std::string(name) + "_waits").c_str()) != nullptr;
    const std::lock_guard<std::mutex> guard(mutex);
    emulated_function &found = m->functions.try_emplace(name, emulated_function{nullptr, 48 << 10, waits}).first->second;
    std::memcpy(&found.run, &symbol, sizeof symbol);
    *function = &found;
    return CUDA_SUCCESS;
}

int cuFuncSetAttribute(void *function, int attribute, int value)
{
    BEGIN_OUTSIDE_CAPTURE();
    if (attribute != 8 || value < 0 || value > 227 << 10)
        return CUDA_ERROR_INVALID_VALUE;
    static_cast<emulated_function *>(function)->shared = value;
    return CUDA_SUCCESS;
}

int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared, void *stream, void **params, void **extra)
{
    BEGIN();
    const auto *f = static_cast<const emulated_function *>(function);
    const bool shaped = grid_x > 0 && grid_y > 0 && grid_z > 0 && grid_y < 65536 && grid_z < 65536 && block_x > 0;
    if (!shaped || block_x > 1024 || block_y != 1 || block_z != 1 || extra != nullptr)
        return CUDA_ERROR_INVALID_VALUE;
    if (static_cast<int>(shared) > f->shared)
        return CUDA_ERROR_INVALID_VALUE;
    std::vector<std::uint64_t> args; /* all are addresses; the runtime puts NULL behind the last */
    for (; *params != nullptr; params++)
        args.push_back(*static_cast<const std::uint64_t *>(*params));
    const kernel run = f->run;
    return queue(stream, [=]() mutable {
        std::vector<void *> places;
        for (std::uint64_t &arg : args)
            places.push_back(&arg);
        places.push_back(nullptr);
        run(grid_x, grid_y, grid_z, block_x, shared, places.data());
    }, true);
}

int cuLaunchKernelEx(const emulated_launch *launch, void *function, void **params, void **extra)
{
    BEGIN();
    const auto [grid_x, grid_y, grid_z] = launch->grid;
    const auto [block_x, block_y, block_z] = launch->block;
    for (unsigned i = 0; i < launch->n_attributes; i++) {
        const emulated_attribute &attribute = launch->attributes[i];
        if (attribute.id != 6 || attribute.value != 1 || number("EDGEC_EMULATED_ARCH", 0) < 90)
            return CUDA_ERROR_INVALID_VALUE;
        if (!static_cast<const emulated_function *>(function)->waits || !after_kernel(launch->stream))
            return CUDA_ERROR_INVALID_VALUE;
        early++;
    }
    return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, launch->shared, launch->stream, params,
                          extra);
}

} // extern "C"
