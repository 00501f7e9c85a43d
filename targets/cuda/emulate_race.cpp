// Finds accesses that nothing orders. Kernels are compiled with -fsanitize=thread, whose calls before every access are
// answered here, not by that sanitizer's library. Two accesses of a byte by two threads, one of them a write, are a fault
// unless a barrier of the block lies between, or one of the warp where both are of one warp; in global memory also
// between blocks, unless the later block was the last to arrive (ec_arrive_last). Between the start of an asynchronous copy
// and its landing nobody may touch its place in shared memory.
#include "emulate_run.h"

#ifdef EC_RACE
#include <cstring>
#include <unordered_map>

#include "emulate.h"

namespace {
struct Access {
  uint32_t epoch = 0, warp_epoch = 0;
  uint16_t thread = 0;
  uint8_t threads_of_warp = 0, warps = 0;  // 1: more than one
};
struct Byte {
  Access write, read;
  uint32_t other_block = 0;  // epoch of a read in another block than that of `read`
  uint16_t flight = 0;       // 1 + the thread whose copy is under way
};
struct Word {
  Byte byte[8];
};
std::unordered_map<uintptr_t, Word> words;

// Whether nothing orders what was done before what `thread` does now.
bool unordered(const Access &before, unsigned thread, bool shared) {
  const Machine &m = ec_machine;
  if (before.epoch < m.launch_epoch) return false;
  if (before.epoch < m.block_epoch) return !shared && !m.acquired;
  if (before.epoch < m.epoch) return false;
  if (before.warps) return true;
  const bool same_warp = before.thread / EC_WARP == thread / EC_WARP;
  if (same_warp && before.warp_epoch < m.warp[thread / EC_WARP].epoch) return false;
  return before.threads_of_warp || before.thread != thread;
}

void describe(const void *p, unsigned thread, bool write, const Access &before, bool before_write) {
  const Machine &m = ec_machine;
  const Array *array = ec_array_of(p);
  const char *does = write ? "writes" : "reads", *did = before_write ? "wrote" : "read";
  if (!array)
    ec_fault("race in global memory: thread %u %s %p, which %s %u %s, with nothing between to order them", thread, does, p,
             before.epoch < m.block_epoch ? "in another block thread" : "thread", before.thread, did);
  ec_fault("race in shared memory: thread %u %s byte %u of %s, which thread %u %s; epoch %u", thread, does,
           (unsigned)((const uint8_t *)p - array->at), array->name, before.thread, did, m.epoch - m.block_epoch);
}

void note_read(Access &read, Byte &byte, unsigned thread) {
  const Machine &m = ec_machine;
  const uint32_t warp_epoch = m.warp[thread / EC_WARP].epoch;
  if (read.epoch == m.epoch) {
    if (read.thread / EC_WARP != thread / EC_WARP) read.warps = 1;
    else if (read.thread != thread) read.threads_of_warp = 1;
    read.warp_epoch = warp_epoch;
    return;
  }
  if (read.epoch >= m.launch_epoch && read.epoch < m.block_epoch) byte.other_block = read.epoch;
  read = Access{m.epoch, warp_epoch, (uint16_t)thread, 0, 0};
}

void note_byte(const uint8_t *p, Byte &byte, unsigned thread, bool write, bool shared) {
  const Machine &m = ec_machine;
  if (byte.flight)
    ec_fault("thread %u %s shared memory while a cp.async of thread %u into it is under way", thread,
             write ? "writes" : "reads", byte.flight - 1u);
  if (unordered(byte.write, thread, shared)) describe(p, thread, write, byte.write, true);
  if (!write) return note_read(byte.read, byte, thread);
  if (unordered(byte.read, thread, shared)) describe(p, thread, write, byte.read, false);
  if (!shared && !m.acquired && byte.other_block >= m.launch_epoch) describe(p, thread, write, byte.read, false);
  byte.write = Access{m.epoch, m.warp[thread / EC_WARP].epoch, (uint16_t)thread, 0, 0};
}

Byte &byte_at(const Array *array, const uint8_t *p) {
  if (array) return ((Byte *)array->shadow)[p - array->at];
  static uintptr_t last = 0;  // most accesses are of the word before
  static Word *word = nullptr;
  if (words.empty() || last != (uintptr_t)p / 8) last = (uintptr_t)p / 8, word = &words[last];
  return word->byte[(uintptr_t)p % 8];
}

void accessed(void *p, size_t bytes, bool write) {
  if (!ec_machine.fibers || ec_on_stack(p)) return;
  ec_note(ec_machine.current, p, bytes, write);
}
}  // namespace

void ec_note(unsigned thread, const void *p, size_t bytes, bool write) {
  if (ec_on_stack(p)) return;
  const Array *array = ec_array_of(p);
  const uint8_t *at = (const uint8_t *)p;
  if (array && at + bytes > array->at + array->bytes) ec_fault("an access beyond the end of %s", array->name);
  for (const uint8_t *end = at + bytes; at < end; ++at) note_byte(at, byte_at(array, at), thread, write, array);
}

void ec_flight(unsigned thread, const void *p, size_t bytes, bool begins) {
  const Array *array = ec_array_of(p);
  const uint8_t *at = (const uint8_t *)p;
  for (const uint8_t *end = at + bytes; at < end; ++at) byte_at(array, at).flight = (uint16_t)(begins ? thread + 1 : 0);
}

void ec_forget() { words.clear(); }
void *ec_shadow(size_t bytes) {
  Byte *shadow = (Byte *)malloc((bytes + 1) * sizeof(Byte));
  if (!shadow) abort();
  for (size_t i = 0; i < bytes; ++i) shadow[i] = Byte();
  return shadow;
}

#define EC_HOOKS(bytes)                                                                          \
  void __tsan_read##bytes(void *p) { accessed(p, bytes, false); }                           \
  void __tsan_write##bytes(void *p) { accessed(p, bytes, true); }                           \
  void __tsan_unaligned_read##bytes(void *p) { accessed(p, bytes, false); }                     \
  void __tsan_unaligned_write##bytes(void *p) { accessed(p, bytes, true); }
extern "C" {
EC_HOOKS(1)
EC_HOOKS(2)
EC_HOOKS(4)
EC_HOOKS(8)
EC_HOOKS(16)
void __tsan_read_range(void *p, unsigned long bytes) { accessed(p, bytes, false); }
void __tsan_write_range(void *p, unsigned long bytes) { accessed(p, bytes, true); }
void *__tsan_memcpy(void *to, const void *from, unsigned long bytes) {
  accessed((void *)from, bytes, false);
  accessed(to, bytes, true);
  return memcpy(to, from, bytes);
}
void *__tsan_memset(void *to, int value, unsigned long bytes) {
  accessed(to, bytes, true);
  return memset(to, value, bytes);
}
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
}
#endif
