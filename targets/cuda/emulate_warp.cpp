// What the threads of a warp do together: each leaves its operands and waits, the last one computes for all. And copies
// from global to shared memory, which land when they are waited for: until then their place holds ones.
#include "emulate_run.h"

#include <cstring>

#include "emulate.h"

namespace {
typedef void perform_fn(unsigned first, void *const *operands);  // `first`: the thread of lane 0

// `name` tells operations apart: one string each.
void together(const char *name, perform_fn *perform, void *operand) {
  Machine &m = ec_machine;
  Warp &w = m.warp[m.current / EC_WARP];
  const unsigned first = m.current / EC_WARP * EC_WARP;
  if (m.threads - first < EC_WARP) ec_fault("%s in a warp of %u threads", name, m.threads - first);
  if (w.arrived && w.operation != name) ec_fault("%s, while others of its warp wait at %s", name, w.operation);
  w.operation = name;
  w.operand[m.current % EC_WARP] = operand;
  if (++w.arrived < EC_WARP) {
    ec_wait(name);
    return;
  }
  w.arrived = 0;
  perform(first, w.operand);
  w.ready = w.alive;
}

// ---- Values ------------------------------------------------------------------------------------------------------------------
struct Shuffle {
  unsigned value, result;
  int lane, exclusive;
};
void shuffle(unsigned, void *const *operands) {
  for (int i = 0; i < EC_WARP; ++i) {
    Shuffle *own = (Shuffle *)operands[i];
    own->result = ((Shuffle *)operands[((own->exclusive ? i : 0) ^ own->lane) & (EC_WARP - 1)])->value;
  }
}

template <class Combine> void butterfly(void *const *operands, Combine combine) {
  float x[EC_WARP], y[EC_WARP];
  for (int i = 0; i < EC_WARP; ++i) x[i] = *(float *)operands[i];
  for (int mask = EC_WARP / 2; mask > 0; mask >>= 1) {
    for (int i = 0; i < EC_WARP; ++i) y[i] = combine(x[i], x[i ^ mask]);
    memcpy(x, y, sizeof x);
  }
  for (int i = 0; i < EC_WARP; ++i) *(float *)operands[i] = x[i];
}
void sums(unsigned, void *const *operands) {
  butterfly(operands, [](float a, float b) { return a + b; });
}
void maxima(unsigned, void *const *operands) {
  butterfly(operands, [](float a, float b) { return fmaxf(a, b); });
}
void nothing(unsigned first, void *const *) { ec_machine.warp[first / EC_WARP].epoch++; }

// ---- Matrices: g and t number the groups of four lanes and the lanes in a group, as in the PTX manual ------------------------
struct Rows {
  unsigned *r;
  const uint8_t *row;
};
template <int matrices, bool transposed> void load_matrices(unsigned first, void *const *operands) {
  uint16_t m[matrices][8][8];
  for (int i = 0; i < 8 * matrices; ++i) {
    const Rows *lane = (const Rows *)operands[i];
    ec_note(first + (unsigned)i, lane->row, 16, false);
    memcpy(m[i / 8][i % 8], lane->row, 16);
  }
  for (int i = 0; i < EC_WARP; ++i) {
    const int g = i / 4, t = i % 4;
    for (int k = 0; k < matrices; ++k) {
      const unsigned low = transposed ? m[k][2 * t][g] : m[k][g][2 * t];
      const unsigned high = transposed ? m[k][2 * t + 1][g] : m[k][g][2 * t + 1];
      ((const Rows *)operands[i])->r[k] = low | high << 16;
    }
  }
}

struct Product {
  void *d;
  const unsigned *a, *b;
};
template <class T> void spread(T (&d)[16][8], void *const *operands, bool in) {
  for (int i = 0; i < EC_WARP; ++i) {
    T *own = (T *)((const Product *)operands[i])->d;
    for (int c = 0; c < 4; ++c) {
      T &element = d[i / 4 + c / 2 * 8][i % 4 * 2 + c % 2];
      if (in) element = own[c];
      else own[c] = element;
    }
  }
}

// Elements of `bits` bits in registers of 32: A is 16 x k, B is k x 8; `decode` makes a number of one.
template <class T, int bits, class DecodeA, class DecodeB>
void multiply(void *const *operands, DecodeA decode_a, DecodeB decode_b) {
  const int per = 32 / bits, half_k = 4 * per, k = 2 * half_k;
  T a[16][64 / bits * 4], b[64 / bits * 4][8], d[16][8];
  spread(d, operands, true);
  for (int i = 0; i < EC_WARP; ++i) {
    const Product *own = (const Product *)operands[i];
    const int g = i / 4, t = i % 4;
    for (int e = 0; e < per; ++e) {
      const int column = t * per + e;
      for (int r = 0; r < 4; ++r) a[g + r % 2 * 8][column + r / 2 * half_k] = decode_a(own->a[r] >> (bits % 32 * e));
      for (int r = 0; r < 2; ++r) b[column + r * half_k][g] = decode_b(own->b[r] >> (bits % 32 * e));
    }
  }
  // The order of the sum: the accumulator first, then products by rising k, rounded one by one.
  for (int i = 0; i < 16; ++i)
    for (int e = 0; e < k; ++e)
      for (int j = 0; j < 8; ++j) d[i][j] = d[i][j] + a[i][e] * b[e][j];
  spread(d, operands, false);
}
float decode_half(unsigned x) { return ec_half_value((ushort)x); }
float decode_tf32(unsigned x) { return ec_bits<float>(x & ~0x1fffu); }  // the hardware ignores the rest
unsigned decode_s8(unsigned x) { return (unsigned)(int)(int8_t)x; }
unsigned decode_u8(unsigned x) { return x & 0xff; }
void products_f16(unsigned, void *const *operands) { multiply<float, 16>(operands, decode_half, decode_half); }
void products_tf32(unsigned, void *const *operands) { multiply<float, 32>(operands, decode_tf32, decode_tf32); }
void products_s8(unsigned, void *const *operands) { multiply<unsigned, 8>(operands, decode_s8, decode_s8); }
void products_u8s8(unsigned, void *const *operands) { multiply<unsigned, 8>(operands, decode_u8, decode_s8); }

void product(const char *name, perform_fn *perform, void *d, const void *a, const void *b) {
  Product own = {d, (const unsigned *)a, (const unsigned *)b};
  together(name, perform, &own);
}

const uint8_t *in_shared(const void *p, int bytes, const char *what) {
  if ((uintptr_t)p % (unsigned)bytes) ec_fault("%s: the address in shared memory is no multiple of %d", what, bytes);
  const Array *a = ec_array_of(p);
  if (!a) ec_fault("%s: an address outside of the block's shared memory", what);
  if ((const uint8_t *)p + bytes > a->at + a->bytes) ec_fault("%s: beyond the end of shared memory", what);
  return (const uint8_t *)p;
}

void land(Thread &self, const Copy &copy) {
  const unsigned t = (unsigned)(&self - ec_machine.thread);
  memset(copy.to, 0, (size_t)copy.bytes);
  if (copy.there) {
    ec_note(t, copy.from, (size_t)copy.there, false);
    memcpy(copy.to, copy.from, (size_t)copy.there);
  }
  ec_flight(t, copy.to, (size_t)copy.bytes, false);
  ec_note(t, copy.to, (size_t)copy.bytes, true);
}
}  // namespace

void ec_drop_copies(Thread &self) {
  const unsigned t = (unsigned)(&self - ec_machine.thread);
  for (const Copy &copy : self.copies) ec_flight(t, copy.to, (size_t)copy.bytes, false);
  self.copies.clear();
}

extern "C" {
unsigned ec_shuffle(unsigned x, int lane, int exclusive) {
  Shuffle own = {x, 0, lane, exclusive};
  together("a shuffle", shuffle, &own);
  return own.result;
}
float ec_warp_sum(float x) { return together("ec_warp_sum", sums, &x), x; }
float ec_warp_max(float x) { return together("ec_warp_max", maxima, &x), x; }
void ec_warp_barrier() { together("__syncwarp", nothing, nullptr); }

void ec_ldmatrix(void *r, const void *row, int matrices, int transposed) {
  const bool gives_row = (int)(ec_machine.current % EC_WARP) < 8 * matrices;
  Rows own = {(unsigned *)r, gives_row ? in_shared(row, 16, "ldmatrix") : nullptr};
  if (matrices == 4 && !transposed) together("ec_ldmatrix4", load_matrices<4, false>, &own);
  if (matrices == 4 && transposed) together("ec_ldmatrix4_t", load_matrices<4, true>, &own);
  if (matrices == 2 && !transposed) together("ec_ldmatrix2", load_matrices<2, false>, &own);
  if (matrices == 2 && transposed) together("ec_ldmatrix2_t", load_matrices<2, true>, &own);
}
void ec_mma_f16(float *d, const void *a, const void *b) { product("ec_mma_f16", products_f16, d, a, b); }
void ec_mma_tf32(float *d, const void *a, const void *b) { product("ec_mma_tf32", products_tf32, d, a, b); }
void ec_mma_s8(int *d, const void *a, const void *b) { product("ec_mma_s8", products_s8, d, a, b); }
void ec_mma_u8s8(int *d, const void *a, const void *b) { product("ec_mma_u8s8", products_u8s8, d, a, b); }

void ec_copy(void *shared, const void *global, int bytes, int there) {
  Machine &m = ec_machine;
  Thread &self = m.thread[m.current];
  in_shared(shared, bytes, "cp.async");
  if (there && (uintptr_t)global % (unsigned)bytes) ec_fault("cp.async: the address in global memory is no multiple of %d", bytes);
  ec_note(m.current, shared, (size_t)bytes, true);
  ec_flight(m.current, shared, (size_t)bytes, true);
  memset(shared, 0xFF, (size_t)bytes);
  self.copies.push_back({(uint8_t *)shared, (const uint8_t *)global, bytes, there, self.groups});
}
void ec_cp_commit() { ec_machine.thread[ec_machine.current].groups++; }
void ec_cp_wait(int groups) {
  Thread &self = ec_machine.thread[ec_machine.current];
  size_t kept = 0;
  for (const Copy &copy : self.copies) {  // groups are numbered from 0; one is in flight until `groups` came after it
    if (copy.group + (unsigned)groups < self.groups) land(self, copy);
    else self.copies[kept++] = copy;
  }
  self.copies.resize(kept);
}

unsigned ec_atomic_add(unsigned *p, unsigned x) { return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST); }
unsigned ec_atomic_exchange(unsigned *p, unsigned x) { return __atomic_exchange_n(p, x, __ATOMIC_SEQ_CST); }
unsigned ec_atomic_swap(unsigned *p, unsigned expected, unsigned x) {
  __atomic_compare_exchange_n(p, &expected, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return expected;
}
int ec_arrive_last(void *counter, unsigned total) {
  const unsigned before = ec_atomic_add((unsigned *)counter, 1);
  if (before >= total) ec_fault("ec_arrive_last: arrival %u of %u: the counter was not zero", before + 1, total);
  if (before != total - 1) return 0;
  ec_atomic_exchange((unsigned *)counter, 0);
  ec_machine.acquired = true;
  return 1;
}
}
