// What the parts of the emulation share: the block that runs, its threads and warps. One launch runs at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "emulate_switch.h"

#define EC_WARP 32
#define EC_MOST_THREADS 1024

#if defined(__SANITIZE_ADDRESS__)
#define EC_ADDRESS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EC_ADDRESS 1
#endif
#endif

struct Warp {
  uint32_t ready = 0, alive = 0;  // a bit per lane
  unsigned arrived = 0;           // at the operation that its threads do together
  const char *operation = nullptr;
  void *operand[EC_WARP];
  uint32_t epoch = 0;  // counts the warp's barriers
};

struct Copy {
  uint8_t *to;
  const uint8_t *from;
  int bytes, there;  // as many are copied, the others of `bytes` are zero
  unsigned group;
};

struct Thread {
  Context context;
  void *fake_stack = nullptr;
  const char *waits = nullptr;  // where, if it is not ready
  std::vector<Copy> copies;     // in flight
  unsigned groups = 0;          // committed
};

struct Array {
  const char *name = "dynamic shared memory";
  uint8_t *at = nullptr;
  size_t bytes = 0;
  void *shadow = nullptr;  // of the race check
};

struct Machine {
  const char *kernel = "";
  unsigned threads = 0, current = 0, alive = 0, at_barrier = 0;
  unsigned block[3] = {0, 0, 0};
  bool fibers = false;  // the launch runs on fibers
  Thread thread[EC_MOST_THREADS];
  Warp warp[EC_MOST_THREADS / EC_WARP];
  std::vector<Array> arrays;  // static shared memory by number
  Array dynamic;
  uint32_t epoch = 1;        // counts barriers and blocks, over all launches
  uint32_t launch_epoch = 1, block_epoch = 1;
  bool acquired = false;  // the block came last somewhere: what other blocks did lies behind it
};
extern Machine ec_machine;

void ec_wait(const char *operation);   // the current thread is not ready; returns when it is
void ec_drop_copies(Thread &);         // those that never landed
const Array *ec_array_of(const void *);  // the shared array that an address lies in
bool ec_on_stack(const void *);

// The race check; nothing in other builds.
#ifdef EC_RACE
void ec_note(unsigned thread, const void *, size_t bytes, bool write);
void ec_flight(unsigned thread, const void *, size_t bytes, bool begins);
void ec_forget();  // what earlier launches did
void *ec_shadow(size_t bytes);  // for `free`
#else
static inline void ec_note(unsigned, const void *, size_t, bool) {}
static inline void ec_flight(unsigned, const void *, size_t, bool) {}
static inline void ec_forget() {}
static inline void *ec_shadow(size_t) { return nullptr; }
#endif
