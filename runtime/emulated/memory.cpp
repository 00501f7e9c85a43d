/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, streams, graphs, events. */
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "driver.h"

using namespace emulated;

namespace emulated {

struct stream {
    bool capturing = false, after_kernel = false;
    std::vector<work> captured;
};

thread_local stream *captured;

} // namespace emulated

namespace {

struct emulated_graph {
    std::vector<work> nodes;
};
struct emulated_event {
    std::int64_t nanoseconds = -1;
};
struct block {
    void *mapping;
    std::size_t mapped, bytes;
};

std::map<std::uint64_t, block> memory;
stream default_stream;

emulated::stream *stream_of(void *stream)
{
    return stream != nullptr ? static_cast<emulated::stream *>(stream) : &default_stream;
}

bool on_device(std::uint64_t address, std::size_t bytes)
{
    const std::lock_guard<std::mutex> guard(mutex);
    auto found = memory.upper_bound(address);
    if (found == memory.begin())
        return false;
    --found;
    const std::uint64_t offset = address - found->first;
    return offset <= found->second.bytes && bytes <= found->second.bytes - offset;
}

void *pointer(std::uint64_t address)
{
    return reinterpret_cast<void *>(static_cast<std::uintptr_t>(address));
}

std::int64_t now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * std::int64_t{1000000000} + t.tv_nsec;
}

} // namespace

namespace emulated {

int memory_blocks()
{
    return static_cast<int>(memory.size());
}

bool after_kernel(void *stream)
{
    return stream_of(stream)->after_kernel;
}

int queue(void *stream, work what, bool is_kernel)
{
    emulated::stream *s = stream_of(stream);
    s->after_kernel = is_kernel;
    if (s->capturing)
        s->captured.push_back(std::move(what));
    else
        what();
    return CUDA_SUCCESS;
}

} // namespace emulated

extern "C" {

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

int cuMemAlloc_v2(std::uint64_t *address, std::size_t bytes)
{
    BEGIN_OUTSIDE_CAPTURE();
    if (bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t held = (bytes + 255) / 256 * 256, pages = (held + page - 1) / page * page;
    void *mapping = mmap(nullptr, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    char *start = static_cast<char *>(mapping) + (pages - held); /* ends where the page does that nobody may touch */
    mprotect(static_cast<char *>(mapping) + pages, page, PROT_NONE);
    std::memset(start, 0xff, held);
    *address = reinterpret_cast<std::uintptr_t>(start);
    const std::lock_guard<std::mutex> guard(mutex);
    memory[*address] = {mapping, pages + page, bytes};
    return CUDA_SUCCESS;
}

int cuMemFree_v2(std::uint64_t address)
{
    BEGIN_OUTSIDE_CAPTURE();
    const std::lock_guard<std::mutex> guard(mutex);
    const auto found = memory.find(address);
    if (found == memory.end())
        return CUDA_ERROR_INVALID_VALUE;
    munmap(found->second.mapping, found->second.mapped);
    memory.erase(found);
    return CUDA_SUCCESS;
}

int cuMemHostRegister_v2(void *host, std::size_t bytes, unsigned)
{
    BEGIN_OUTSIDE_CAPTURE();
    return host != nullptr && bytes > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

int cuMemHostUnregister(void *)
{
    BEGIN_OUTSIDE_CAPTURE();
    return CUDA_SUCCESS;
}

int cuMemcpyHtoDAsync_v2(std::uint64_t to, const void *from, std::size_t bytes, void *stream)
{
    BEGIN();
    if (!on_device(to, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return queue(stream, [=] { std::memcpy(pointer(to), from, bytes); });
}

int cuMemcpyDtoHAsync_v2(void *to, std::uint64_t from, std::size_t bytes, void *stream)
{
    BEGIN();
    if (!on_device(from, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return queue(stream, [=] { std::memcpy(to, pointer(from), bytes); });
}

int cuMemcpyDtoDAsync_v2(std::uint64_t to, std::uint64_t from, std::size_t bytes, void *stream)
{
    BEGIN();
    if (!on_device(to, bytes) || !on_device(from, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return queue(stream, [=] { std::memmove(pointer(to), pointer(from), bytes); });
}

int cuMemsetD8Async(std::uint64_t to, unsigned char byte, std::size_t bytes, void *stream)
{
    BEGIN();
    if (!on_device(to, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return queue(stream, [=] { std::memset(pointer(to), byte, bytes); });
}

/* ---- Streams, graphs, events ------------------------------------------------------------------------------------- */

int cuStreamCreate(void **stream, unsigned)
{
    BEGIN_OUTSIDE_CAPTURE();
    const std::lock_guard<std::mutex> guard(mutex);
    held++;
    *stream = new emulated::stream;
    return CUDA_SUCCESS;
}

int cuStreamDestroy_v2(void *stream)
{
    BEGIN_OUTSIDE_CAPTURE();
    const std::lock_guard<std::mutex> guard(mutex);
    held--;
    delete static_cast<emulated::stream *>(stream);
    return CUDA_SUCCESS;
}

int cuStreamSynchronize(void *stream)
{
    BEGIN();
    return stream_of(stream)->capturing ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : reported();
}

int cuStreamQuery(void *stream)
{
    return cuStreamSynchronize(stream);
}

int cuStreamBeginCapture_v2(void *stream, int)
{
    BEGIN_OUTSIDE_CAPTURE();
    if (stream == nullptr)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    captured = stream_of(stream);
    captured->capturing = true;
    captured->after_kernel = false;
    return CUDA_SUCCESS;
}

int cuStreamEndCapture(void *stream, void **graph)
{
    emulated::stream *s = stream_of(stream);
    if (!s->capturing || s != captured)
        return CUDA_ERROR_INVALID_VALUE;
    std::vector<work> nodes;
    nodes.swap(s->captured);
    s->capturing = false;
    captured = nullptr;
    BEGIN();
    const std::lock_guard<std::mutex> guard(mutex);
    held++;
    *graph = new emulated_graph{std::move(nodes)};
    return CUDA_SUCCESS;
}

int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long)
{
    BEGIN_OUTSIDE_CAPTURE();
    const std::lock_guard<std::mutex> guard(mutex);
    held++;
    *exec = new emulated_graph(*static_cast<const emulated_graph *>(graph));
    return CUDA_SUCCESS;
}

int cuGraphLaunch(void *exec, void *stream)
{
    BEGIN();
    const auto *graph = static_cast<const emulated_graph *>(exec);
    return queue(stream, [graph] {
        for (const work &node : graph->nodes)
            node();
    });
}

int cuGraphDestroy(void *graph)
{
    const std::lock_guard<std::mutex> guard(mutex);
    held--;
    delete static_cast<emulated_graph *>(graph);
    return CUDA_SUCCESS;
}

int cuGraphExecDestroy(void *exec)
{
    return cuGraphDestroy(exec);
}

int cuEventCreate(void **event, unsigned)
{
    BEGIN();
    const std::lock_guard<std::mutex> guard(mutex);
    held++;
    *event = new emulated_event;
    return CUDA_SUCCESS;
}

int cuEventRecord(void *event, void *stream)
{
    BEGIN();
    return queue(stream, [event] { static_cast<emulated_event *>(event)->nanoseconds = now(); });
}

int cuEventSynchronize(void *)
{
    BEGIN();
    return reported();
}

int cuEventElapsedTime(float *milliseconds, void *from, void *to)
{
    BEGIN();
    const auto *a = static_cast<const emulated_event *>(from), *b = static_cast<const emulated_event *>(to);
    if (a->nanoseconds < 0 || b->nanoseconds < 0)
        return CUDA_ERROR_INVALID_VALUE;
    *milliseconds = static_cast<float>(static_cast<double>(b->nanoseconds - a->nanoseconds) * 1e-6);
    return CUDA_SUCCESS;
}

int cuEventDestroy_v2(void *event)
{
    const std::lock_guard<std::mutex> guard(mutex);
    held--;
    delete static_cast<emulated_event *>(event);
    return CUDA_SUCCESS;
}

} // extern "C"
