/* libcuda for tests: the driver's functions that the runtime uses, over memory of this process.
 *
 * A module is a shared library; kernel K is its function `K_emulated(grid_x, grid_y, grid_z, block, shared, params)`,
 * `params` as cuLaunchKernel has them.  Streams run at once, or note down what they are given while they are captured.
 * The device says that its compute capability is 0.0.
 *
 * What a GPU would refuse is refused: no context, memory that is not the device's, sizes out of range, calls that are not
 * allowed while a stream is captured.  New memory holds 0xff (NaN), and behind it lies a page that nobody may touch.
 *
 * For tests of what can go wrong, environment variables, read at each call:
 *   EDGEC_EMULATED_FAIL=cuMemAlloc_v2=2   this function fails with this error
 *   EDGEC_EMULATED_DEVICES=0              how many devices there are (1)
 *   EDGEC_EMULATED_ARCH=87                compute capability 8.7
 */
#include <dlfcn.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

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

using kernel = void (*)(unsigned, unsigned, unsigned, unsigned, unsigned, void **);
using work = std::function<void()>;

struct emulated_stream {
    bool capturing = false;
    std::vector<work> captured;
};
struct emulated_graph {
    std::vector<work> nodes;
};
struct emulated_event {
    std::int64_t nanoseconds = -1;
};
struct emulated_function {
    kernel run;
    int shared; /* bytes that a launch may ask for */
};
struct emulated_module {
    void *library;
    std::map<std::string, emulated_function> functions;
};
struct block {
    void *mapping;
    std::size_t mapped, bytes;
};

std::mutex mutex; /* of all that follows */
std::map<std::uint64_t, block> memory;
int retained, modules, streams, graphs, events;
thread_local std::vector<int> current; /* contexts: devices */
thread_local emulated_stream *captured; /* which this thread captures */
emulated_stream default_stream;

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

/* What EDGEC_EMULATED_FAIL says of a function. */
int fault(const char *function)
{
    const char *text = std::getenv("EDGEC_EMULATED_FAIL");
    const std::size_t length = std::strlen(function);
    if (text == nullptr || std::strncmp(text, function, length) != 0 || text[length] != '=')
        return CUDA_SUCCESS;
    return std::atoi(text + length + 1);
}

int number(const char *variable, int otherwise)
{
    const char *text = std::getenv(variable);
    return text != nullptr ? std::atoi(text) : otherwise;
}

emulated_stream *stream_of(void *stream)
{
    return stream != nullptr ? static_cast<emulated_stream *>(stream) : &default_stream;
}

/* Begins a function that needs a context; ends it early where there is none, or where it is to fail. */
#define BEGIN()                                            \
    if (const int failed = fault(__func__); failed != 0)   \
        return failed;                                     \
    if (current.empty())                                   \
        return CUDA_ERROR_INVALID_CONTEXT

/* The same for what may not happen in a thread that captures a stream. */
#define BEGIN_OUTSIDE_CAPTURE()                            \
    BEGIN();                                               \
    if (captured != nullptr)                               \
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

int queue(void *stream, work what)
{
    emulated_stream *s = stream_of(stream);
    if (s->capturing)
        s->captured.push_back(std::move(what));
    else
        what();
    return CUDA_SUCCESS;
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

std::int64_t now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * std::int64_t{1000000000} + t.tv_nsec;
}

} // namespace

extern "C" {

/* For tests: what has been taken and not been given back. */
int edgec_emulated_held(void)
{
    const std::lock_guard<std::mutex> guard(mutex);
    return static_cast<int>(memory.size()) + retained + modules + streams + graphs + events +
           static_cast<int>(current.size());
}

/* ---- The device -------------------------------------------------------------------------------------------------- */

int cuInit(unsigned)
{
    return fault(__func__);
}

int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return CUDA_SUCCESS;
}

int cuGetErrorName(int result, const char **text)
{
    for (const auto &error : errors)
        if (error.code == result)
            return *text = error.name, CUDA_SUCCESS;
    return CUDA_ERROR_INVALID_VALUE;
}

int cuGetErrorString(int result, const char **text)
{
    for (const auto &error : errors)
        if (error.code == result)
            return *text = error.text, CUDA_SUCCESS;
    return CUDA_ERROR_INVALID_VALUE;
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
    *value = attribute == 75 ? arch / 10 : attribute == 76 ? arch % 10 : 0;
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
    retained++;
    *context = reinterpret_cast<void *>(static_cast<std::uintptr_t>(device) + 1);
    return CUDA_SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int)
{
    const std::lock_guard<std::mutex> guard(mutex);
    if (retained == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    retained--;
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
    const std::lock_guard<std::mutex> guard(mutex);
    modules++;
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
    modules--;
    return CUDA_SUCCESS;
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    BEGIN_OUTSIDE_CAPTURE();
    auto *m = static_cast<emulated_module *>(module);
    void *symbol = dlsym(m->library, (std::string(name) + "_emulated").c_str());
    if (symbol == nullptr)
        return CUDA_ERROR_NOT_FOUND;
    const std::lock_guard<std::mutex> guard(mutex);
    emulated_function &found = m->functions.try_emplace(name, emulated_function{nullptr, 48 << 10}).first->second;
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
    });
}

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
    streams++;
    *stream = new emulated_stream;
    return CUDA_SUCCESS;
}

int cuStreamDestroy_v2(void *stream)
{
    BEGIN_OUTSIDE_CAPTURE();
    const std::lock_guard<std::mutex> guard(mutex);
    streams--;
    delete static_cast<emulated_stream *>(stream);
    return CUDA_SUCCESS;
}

int cuStreamSynchronize(void *stream)
{
    BEGIN();
    return stream_of(stream)->capturing ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
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
    return CUDA_SUCCESS;
}

int cuStreamEndCapture(void *stream, void **graph)
{
    emulated_stream *s = stream_of(stream);
    if (!s->capturing || s != captured)
        return CUDA_ERROR_INVALID_VALUE;
    std::vector<work> nodes;
    nodes.swap(s->captured);
    s->capturing = false;
    captured = nullptr;
    BEGIN();
    const std::lock_guard<std::mutex> guard(mutex);
    graphs++;
    *graph = new emulated_graph{std::move(nodes)};
    return CUDA_SUCCESS;
}

int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long)
{
    BEGIN_OUTSIDE_CAPTURE();
    const std::lock_guard<std::mutex> guard(mutex);
    graphs++;
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
    graphs--;
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
    events++;
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
    return CUDA_SUCCESS;
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
    events--;
    delete static_cast<emulated_event *>(event);
    return CUDA_SUCCESS;
}

} // extern "C"
