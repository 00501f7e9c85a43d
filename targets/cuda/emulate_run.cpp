// Runs the threads of a block as fibers of one CPU thread, switched where they wait. Decides who runs next, what shared
// memory holds before a block (all ones: NaN as a float) and how faults end a launch. A kernel that never waits has no fibers.
#define EC_SWITCH_HERE
#include "emulate_run.h"

#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sys/mman.h>

#include "emulate.h"

#ifdef EC_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

Machine ec_machine;

namespace {
const size_t kStack = 256 << 10;
const uint64_t kUntouched = 0x5AFE57AC5AFE57ACu;  // at the end that a stack grows to
std::mutex launching;
uint8_t *stacks = nullptr;
ec_thread_body *body;
dim3 grid, threads;
void **params;
void (*on_fault)(const char *) = nullptr;
bool faulted = false;
jmp_buf plain_end;
Thread host;  // the CPU thread that launches
#ifdef EC_ADDRESS
unsigned number_of(const Thread &t) { return (unsigned)(&t - ec_machine.thread); }
const void *host_stack = nullptr;
size_t host_stack_bytes = 0;
#endif

uint8_t *stack_of(unsigned t) { return stacks + t * kStack; }

// ---- Who runs -------------------------------------------------------------------------------------------------------
void arrived_from_switch(Thread &self) {
#ifdef EC_ADDRESS
  const void *bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(self.fake_stack, &bottom, &size);
  if (!host_stack) host_stack = bottom, host_stack_bytes = size;
#else
  (void)self;
#endif
}

void switch_to(Thread &from, Thread &to, bool ends) {
#ifdef EC_ADDRESS
  const bool host_next = &to == &host;
  __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, host_next ? host_stack : stack_of(number_of(to)),
                                 host_next ? host_stack_bytes : kStack);
#endif
  (void)ends;
  ec_switch(from.context, to.context);
  arrived_from_switch(from);
}

// The next thread that is ready: of the same warp first, so that warps do their common operations in one go.
bool next_ready(unsigned *next) {
  Machine &m = ec_machine;
  const unsigned warps = (m.threads + EC_WARP - 1) / EC_WARP, own = m.current / EC_WARP;
  for (unsigned i = 0; i < warps; ++i) {
    const unsigned w = (own + i) % warps;
    if (m.warp[w].ready) return *next = w * EC_WARP + (unsigned)__builtin_ctz(m.warp[w].ready), true;
  }
  return false;
}

void stuck() {
  Machine &m = ec_machine;
  unsigned first = 0;
  while (!m.thread[first].waits) ++first;
  for (unsigned t = first + 1; t < m.threads; ++t) {
    const char *other = m.thread[t].waits;
    if (other && strcmp(other, m.thread[first].waits))
      ec_fault("thread %u waits for ever at %s, thread %u at %s", first, m.thread[first].waits, t, other);
  }
  ec_fault("thread %u waits for ever at %s: other threads have ended", first, m.thread[first].waits);
}

void leave(bool ends) {
  Machine &m = ec_machine;
  Thread &self = m.thread[m.current];
  unsigned next;
  if (next_ready(&next)) {
    const unsigned own = m.current;
    if (next == own) return;
    m.current = next;
    switch_to(self, m.thread[next], ends);
    m.current = own;
  } else if (m.alive == 0) {
    switch_to(self, host, true);
  } else {
    stuck();
  }
}

void release_barrier() {
  Machine &m = ec_machine;
  m.at_barrier = 0;
  m.epoch++;
  for (unsigned w = 0; w * EC_WARP < m.threads; ++w) m.warp[w].ready = m.warp[w].alive;
}

void fiber() {
  Machine &m = ec_machine;
  const unsigned own = m.current;
  arrived_from_switch(m.thread[own]);
  const uint3 place = {own, 0, 0}, block = {m.block[0], m.block[1], m.block[2]};
  body(&place, &block, &threads, &grid, params);
  m.current = own;
  if (memcmp(stack_of(own), &kUntouched, sizeof kUntouched)) ec_fault("more than %zu bytes of local arrays", kStack);
  Warp &w = m.warp[own / EC_WARP];
  w.alive &= ~(1u << own % EC_WARP);
  w.ready &= w.alive;
  if (--m.alive && m.at_barrier == m.alive) release_barrier();
  leave(true);
}

// ---- Blocks ----------------------------------------------------------------------------------------------------------------
void poison(const Array &a) {
  if (a.at) memset(a.at, 0xFF, a.bytes);
}

Array allocated(size_t bytes) {
  Array a;
  a.bytes = bytes;
  if (posix_memalign((void **)&a.at, 1024, bytes ? bytes : 1)) abort();
  a.shadow = ec_shadow(bytes);
  poison(a);
  return a;
}
void freed(const Array &a) {
  free(a.at);
  free(a.shadow);
}

void run_block() {
  Machine &m = ec_machine;
  for (const Array &a : m.arrays) poison(a);
  poison(m.dynamic);
  m.alive = m.threads;
  m.at_barrier = 0;
  m.block_epoch = ++m.epoch;
  m.acquired = false;
  for (unsigned t = 0; t < m.threads; ++t) {
#ifdef EC_ADDRESS
    __asan_unpoison_memory_region(stack_of(t) + kStack - 4096, 4096);  // frames that the last block's thread never left
#endif
    memcpy(stack_of(t), &kUntouched, sizeof kUntouched);
    ec_prepare(m.thread[t].context, stack_of(t), kStack, fiber);
    m.thread[t].waits = nullptr;
    m.thread[t].fake_stack = nullptr;
    m.thread[t].groups = 0;
    ec_drop_copies(m.thread[t]);
  }
  for (unsigned w = 0; w * EC_WARP < m.threads; ++w) {
    const unsigned lanes = m.threads - w * EC_WARP;
    m.warp[w] = Warp();
    m.warp[w].ready = m.warp[w].alive = lanes >= EC_WARP ? 0xffffffffu : (1u << lanes) - 1;
  }
  m.current = 0;
  switch_to(host, m.thread[0], false);
}

void make_stacks() {
  if (stacks) return;
  const size_t size = kStack * EC_MOST_THREADS;
  void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) abort();
  stacks = (uint8_t *)p;
}
__attribute__((destructor)) void free_stacks() {
  if (stacks) munmap(stacks, kStack * EC_MOST_THREADS);
}

void begin(const char *kernel, dim3 g, unsigned n, unsigned most, void **p) {
  Machine &m = ec_machine;
  m.kernel = kernel;
  m.threads = n;
  m.launch_epoch = m.block_epoch = ++m.epoch;
  m.acquired = false;
  ec_forget();
  grid = g;
  threads = {n, 1, 1};
  params = p;
  faulted = false;
  m.current = m.block[0] = m.block[1] = m.block[2] = 0;
  if (n == 0 || n > most) ec_fault("launched with %u threads in a block, made for at most %u", n, most);
}
}  // namespace

bool ec_on_stack(const void *p) { return (uintptr_t)p - (uintptr_t)stacks < kStack * EC_MOST_THREADS; }

void ec_wait(const char *operation) {
  Machine &m = ec_machine;
  Thread &self = m.thread[m.current];
  m.warp[m.current / EC_WARP].ready &= ~(1u << m.current % EC_WARP);
  self.waits = operation;
  leave(false);
  self.waits = nullptr;
}

const Array *ec_array_of(const void *p) {
  const Machine &m = ec_machine;
  for (const Array &a : m.arrays)
    if ((uintptr_t)p - (uintptr_t)a.at < a.bytes) return &a;
  return (uintptr_t)p - (uintptr_t)m.dynamic.at < m.dynamic.bytes ? &m.dynamic : nullptr;
}

// ---- What kernels call --------------------------------------------------------------------------------------------------------
extern "C" {
void ec_barrier() {
  Machine &m = ec_machine;
  if (++m.at_barrier == m.alive)
    release_barrier();
  else
    ec_wait("__syncthreads");
}

void *ec_shared(unsigned number, size_t bytes, const char *name) {
  std::vector<Array> &arrays = ec_machine.arrays;
  if (number >= arrays.size()) arrays.resize(number + 1);
  if (!arrays[number].at) arrays[number] = allocated(bytes), arrays[number].name = name;
  return arrays[number].at;
}

void *ec_dynamic() { return ec_machine.dynamic.at; }

// Ends the launch: its handler is told, or else the process ends.
void ec_fault(const char *format, ...) {
  Machine &m = ec_machine;
  char what[512], message[768];
  va_list rest;
  va_start(rest, format);
  vsnprintf(what, sizeof what, format, rest);
  va_end(rest);
  snprintf(message, sizeof message, "%s, block (%u, %u, %u), thread %u: %s", m.kernel, m.block[0], m.block[1], m.block[2],
           m.current, what);
  if (!on_fault) {
    fprintf(stderr, "emulated kernel %s\n", message);
    abort();
  }
  on_fault(message);
  faulted = true;
  if (!m.fibers) longjmp(plain_end, 1);
  switch_to(m.thread[m.current], host, true);
  abort();  // nobody comes back to a launch that ended
}

// Called by code compiled with -fsanitize=alignment.
struct Mismatch {
  const void *file;
  uint32_t line, column;
  const void *type;
  uint8_t log_alignment, kind;
};
void __ubsan_handle_type_mismatch_v1(const Mismatch *what, uintptr_t) {
  ec_fault("an access at an address that is no multiple of %u", 1u << what->log_alignment);
}

// `handler` gets the message of a fault; the launch then ends early, and later ones run.
__attribute__((visibility("default"))) void ec_emulated_on_fault(void (*handler)(const char *)) { on_fault = handler; }

void ec_run_threads(const char *kernel, ec_thread_body *b, dim3 g, unsigned n, unsigned most, unsigned dynamic, void **p) {
  Machine &m = ec_machine;
  const std::lock_guard<std::mutex> one(launching);
  make_stacks();
  m.fibers = false;
  if (setjmp(plain_end)) return;
  begin(kernel, g, n, most, p);
  body = b;
  m.dynamic = allocated(dynamic);
  m.fibers = true;
  for (unsigned z = 0; z < g.z && !faulted; ++z)
    for (unsigned y = 0; y < g.y && !faulted; ++y)
      for (unsigned x = 0; x < g.x && !faulted; ++x) {
        m.block[0] = x, m.block[1] = y, m.block[2] = z;
        run_block();
      }
#ifdef EC_ADDRESS
  if (faulted) __asan_unpoison_memory_region(stacks, kStack * EC_MOST_THREADS);
  host_stack = nullptr;
#endif
  for (Thread &t : m.thread) ec_drop_copies(t);
  for (const Array &a : m.arrays) freed(a);
  m.arrays.clear();
  freed(m.dynamic);
  m.dynamic = Array();
}

void ec_run_plain(const char *kernel, ec_grid_body *b, dim3 g, unsigned n, unsigned most, void **p) {
  const std::lock_guard<std::mutex> one(launching);
  ec_machine.fibers = false;
  if (setjmp(plain_end)) return;
  begin(kernel, g, n, most, p);
  b(&threads, &grid, p);
}
}
