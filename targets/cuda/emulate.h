// The names of prelude.cuh and of CUDA itself for a C++ compiler: what a kernel does, on a CPU, for tests.
// Decides what each ec_ function means. emulation.py turns kernels into functions that take their place in the grid as
// arguments; those that wait for each other run as fibers (emulate_run.cpp), all others in a plain loop over the grid.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long long ulonglong;

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };

// ---- Vectors: make_float4(...) and so on -------------------------------------------------------------------------------
#define EC_VECTORS(type, name, a1, a2, a4)                                                                             \
  struct alignas(a1) name##1 { type x; };                                                                              \
  struct alignas(a2) name##2 { type x, y; };                                                                           \
  struct name##3_ { type x, y, z; };                                                                                   \
  struct alignas(a4) name##4 { type x, y, z, w; };                                                                     \
  static inline name##1 make_##name##1(type x) { return {x}; }                                                         \
  static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                              \
  static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EC_VECTORS(signed char, char, 1, 2, 4)
EC_VECTORS(uchar, uchar, 1, 2, 4)
EC_VECTORS(short, short, 2, 4, 8)
EC_VECTORS(ushort, ushort, 2, 4, 8)
EC_VECTORS(int, int, 4, 8, 16)
EC_VECTORS(uint, uint, 4, 8, 16)
EC_VECTORS(float, float, 4, 8, 16)
EC_VECTORS(long long, longlong, 8, 16, 16)
EC_VECTORS(ulonglong, ulonglong, 8, 16, 16)
EC_VECTORS(double, double, 8, 16, 16)

// ---- Bits -------------------------------------------------------------------------------------------------------------------
template <class To, class From> static inline To ec_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "the same width");
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
template <class T> static inline T ec_same(T x) { return x; }
static inline int __float_as_int(float x) { return ec_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return ec_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return ec_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return ec_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return ec_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return ec_bits<double>(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
static inline long long __mul64hi(long long a, long long b) { return (long long)(((__int128)a * b) >> 64); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
#define EC_AS(width)                                                                                                   \
  template <class T> static inline int##width##_t ec_as_int##width(T x) { return (int##width##_t)x; }                  \
  template <class T> static inline uint##width##_t ec_as_uint##width(T x) { return (uint##width##_t)x; }
EC_AS(8)
EC_AS(16)
EC_AS(32)
EC_AS(64)

#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000ll)
#define CUDART_NAN __longlong_as_double((long long)0xfff8000000000000ull)

// ---- IEEE binary16 -----------------------------------------------------------------------------------------------------------
// The upper bits of `x` rounded to a half, ties to even; `sticky`: x stands for something a little greater in size.
static inline ushort ec_half_bits(float x, bool sticky = false) {
  const unsigned whole = ec_bits<unsigned>(x), sign = whole >> 16 & 0x8000, size = whole & 0x7fffffff;
  if (size > 0x7f800000) return 0x7fff;
#ifdef __F16C__
  if (!sticky) return (ushort)_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
#endif
  if (size >= 0x47800000) return (ushort)(sign | 0x7c00);
  const int exponent = (int)(size >> 23) - 112;                         // of a normal half
  const unsigned drop = exponent > 0 ? 13 : (unsigned)(14 - exponent);  // bits below the last of the half
  if (drop > 25) return (ushort)sign;
  const unsigned significand = exponent > 0 ? size - (112u << 23) : (size & 0x7fffff) | 0x800000;
  const unsigned kept = significand >> drop, half = 1u << (drop - 1), rest = significand & (2 * half - 1);
  const bool up = rest > half || (rest == half && (sticky || (kept & 1)));
  return (ushort)(sign | (kept + up));
}
static inline float ec_half_value(ushort bits) {
#ifdef __F16C__
  return _cvtsh_ss(bits);
#else
  const unsigned sign = (unsigned)(bits & 0x8000) << 16, size = bits & 0x7fff;
  if (size < 0x400) return ec_bits<float>(ec_bits<unsigned>((float)size * 0x1p-24f) | sign);
  return ec_bits<float>((size >= 0x7c00 ? 0x7f800000 | (size & 0x3ff) << 13 : (size << 13) + (112u << 23)) | sign);
#endif
}

struct half {
  ushort bits;
  half() = default;
  half(float x) : bits(ec_half_bits(x)) {}
  half(double x) {
    float near = (float)x;  // towards zero, and whether that lost something: one rounding in all
    if (fabs((double)near) > fabs(x)) near = nextafterf(near, 0.0f);
    bits = ec_half_bits(near, (double)near != x);
  }
  template <class T> half(T x) : half((float)x) {}
  float widened() const { return ec_half_value(bits); }
  template <class T> explicit operator T() const { return (T)widened(); }
};
#define EC_HALF_OPERATOR(op)                                                                                            \
  static inline half operator op(half a, half b) { return half(a.widened() op b.widened()); }                          \
  static inline half &operator op##=(half & a, half b) { return a = a op b; }
#define EC_HALF_COMPARISON(op) \
  static inline bool operator op(half a, half b) { return a.widened() op b.widened(); }
EC_HALF_OPERATOR(+)
EC_HALF_OPERATOR(-)
EC_HALF_OPERATOR(*)
EC_HALF_OPERATOR(/)
EC_HALF_COMPARISON(==)
EC_HALF_COMPARISON(!=)
EC_HALF_COMPARISON(<)
EC_HALF_COMPARISON(<=)
EC_HALF_COMPARISON(>)
EC_HALF_COMPARISON(>=)
static inline half operator-(half a) {
  a.bits ^= 0x8000;
  return a;
}
static inline half __float2half_rn(float x) { return half(x); }
static inline float __half2float(half x) { return x.widened(); }
static inline unsigned ec_half2_pack(float lo, float hi) { return ec_half_bits(lo) | (unsigned)ec_half_bits(hi) << 16; }
static inline float ec_half2_lo(unsigned x) { return ec_half_value((ushort)x); }
static inline float ec_half2_hi(unsigned x) { return ec_half_value((ushort)(x >> 16)); }

// ---- Arithmetic -----------------------------------------------------------------------------------------------------------
template <class T> static inline T ec_max(T a, T b) { return a > b ? a : b; }
template <class T> static inline T ec_min(T a, T b) { return a < b ? a : b; }
template <class A, class B> static inline auto ec_max(A a, B b) -> decltype(a + b) { return a > b ? a : b; }
template <class A, class B> static inline auto ec_min(A a, B b) -> decltype(a + b) { return a < b ? a : b; }
#define max ec_max
#define min ec_min

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __saturatef(float x) { return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f; }
// What is fast and rough on a GPU is exact here (glibc has functions of these names, which are none of ours).
#define __expf expf
#define __exp10f(x) powf(10.0f, x)
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
#define __powf powf
static inline float ec_exp2(float x) { return exp2f(x); }
static inline float ec_rcp(float x) { return 1.0f / x; }
// Ties away from zero, as cvt.rna.
static inline unsigned ec_tf32(float x) {
  const unsigned bits = ec_bits<unsigned>(x), size = bits & 0x7fffffff;
  return size > 0x7f800000 ? 0x7fffffff : size == 0x7f800000 ? bits : (bits + 0x1000) & ~0x1fffu;
}
template <class A> static inline int ec_dot4(unsigned a, unsigned b, int c) {
  unsigned sum = (unsigned)c;
  for (int i = 0; i < 32; i += 8) sum += (unsigned)((int)(A)(a >> i) * (int)(int8_t)(b >> i));
  return (int)sum;
}
static inline int ec_dp4a_s8(int a, int b, int c) { return ec_dot4<int8_t>((unsigned)a, (unsigned)b, c); }
static inline int ec_dp4a_u8s8(int a, int b, int c) { return ec_dot4<uint8_t>((unsigned)a, (unsigned)b, c); }

// ---- What emulate_run.cpp, emulate_warp.cpp and emulate_race.cpp do -----------------------------------------------------
extern "C" {
typedef void ec_thread_body(const uint3 *thread, const uint3 *block, const dim3 *threads, const dim3 *grid, void **params);
typedef void ec_grid_body(const dim3 *threads, const dim3 *grid, void **params);
void ec_run_threads(const char *kernel, ec_thread_body *, dim3 grid, unsigned threads, unsigned most, unsigned dynamic,
                    void **params);
void ec_run_plain(const char *kernel, ec_grid_body *, dim3 grid, unsigned threads, unsigned most, void **params);
void ec_fault(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *ec_shared(unsigned number, size_t bytes, const char *name);  // a static array of the running kernel
void *ec_dynamic();
void ec_barrier();
void ec_warp_barrier();
unsigned ec_shuffle(unsigned x, int lane, int exclusive);
float ec_warp_sum(float x);
float ec_warp_max(float x);
void ec_ldmatrix(void *r, const void *row, int matrices, int transposed);
void ec_mma_f16(float *d, const void *a4, const void *b2);
void ec_mma_tf32(float *d, const void *a4, const void *b2);
void ec_mma_s8(int *d, const void *a4, const void *b2);
void ec_mma_u8s8(int *d, const void *a4, const void *b2);
void ec_copy(void *shared, const void *global, int bytes, int there);
void ec_cp_commit();
void ec_cp_wait(int groups);
int ec_arrive_last(void *counter, unsigned total);
unsigned ec_atomic_add(unsigned *p, unsigned x);
unsigned ec_atomic_exchange(unsigned *p, unsigned x);
unsigned ec_atomic_swap(unsigned *p, unsigned expected, unsigned x);
}

static inline void ec_let_next() {}
static inline void ec_wait_previous() {}
static inline void __syncthreads() { ec_barrier(); }
static inline void __syncwarp(unsigned = 0xffffffffu) { ec_warp_barrier(); }
static inline void ec_syncwarp() { ec_warp_barrier(); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
template <class T> static inline T __ldg(const T *p) { return *p; }

static inline float ec_shfl_xor_f32(float x, int mask) { return ec_bits<float>(ec_shuffle(ec_bits<unsigned>(x), mask, 1)); }
static inline int ec_shfl_xor_i32(int x, int mask) { return (int)ec_shuffle((unsigned)x, mask, 1); }
static inline float ec_shfl_f32(float x, int lane) { return ec_bits<float>(ec_shuffle(ec_bits<unsigned>(x), lane, 0)); }
static inline int ec_shfl_i32(int x, int lane) { return (int)ec_shuffle((unsigned)x, lane, 0); }
static inline void ec_ldmatrix4(void *r, const void *row) { ec_ldmatrix(r, row, 4, 0); }
static inline void ec_ldmatrix2(void *r, const void *row) { ec_ldmatrix(r, row, 2, 0); }
static inline void ec_ldmatrix4_t(void *r, const void *row) { ec_ldmatrix(r, row, 4, 1); }
static inline void ec_ldmatrix2_t(void *r, const void *row) { ec_ldmatrix(r, row, 2, 1); }
static inline void ec_cp16(void *shared, const void *global) { ec_copy(shared, global, 16, 16); }
static inline void ec_cp16_if(void *shared, const void *global, int valid) { ec_copy(shared, global, 16, valid ? 16 : 0); }
static inline void ec_cp8_if(void *shared, const void *global, int valid) { ec_copy(shared, global, 8, valid ? 8 : 0); }
static inline void ec_cp8_first(void *shared, const void *global, int bytes) { ec_copy(shared, global, 8, bytes); }
static inline void ec_cp4_if(void *shared, const void *global, int valid) { ec_copy(shared, global, 4, valid ? 4 : 0); }
static inline void ec_cp_wait0() { ec_cp_wait(0); }
static inline void ec_cp_wait1() { ec_cp_wait(1); }
static inline void ec_cp_wait2() { ec_cp_wait(2); }
static inline void ec_cp_wait3() { ec_cp_wait(3); }

static inline void ec_aligned(const void *p, unsigned bytes, const char *what) {
  if ((uintptr_t)p % bytes) ec_fault("%s at an address that is no multiple of %u", what, bytes);
}
#define EC_ACCESS(bytes, type)                                                                                         \
  static inline void ec_load##bytes(void *dst_local, const void *src) {                                                \
    ec_aligned(src, bytes, "ec_load" #bytes);                                                                          \
    const type v = *(const type *)src;                                                                                 \
    memcpy(dst_local, &v, bytes);                                                                                      \
  }                                                                                                                    \
  static inline void ec_load##bytes##_nc(void *dst_local, const void *src) { ec_load##bytes(dst_local, src); }         \
  static inline void ec_store##bytes(void *dst, const void *src_local) {                                               \
    ec_aligned(dst, bytes, "ec_store" #bytes);                                                                         \
    type v;                                                                                                            \
    memcpy(&v, src_local, bytes);                                                                                      \
    *(type *)dst = v;                                                                                                  \
  }
EC_ACCESS(16, uint4)
EC_ACCESS(8, uint2)
EC_ACCESS(4, unsigned)

// atomicAdd and atomicMax of 32 bits, through compare and swap where the CPU has no such instruction.
static inline unsigned atomicAdd(unsigned *p, unsigned x) { return ec_atomic_add(p, x); }
static inline int atomicAdd(int *p, int x) { return (int)ec_atomic_add((unsigned *)p, (unsigned)x); }
static inline unsigned atomicExch(unsigned *p, unsigned x) { return ec_atomic_exchange(p, x); }
template <class T, class F> static inline T ec_atomic(T *p, F next) {
  unsigned seen = ec_atomic_add((unsigned *)p, 0);
  for (;;) {
    const unsigned found = ec_atomic_swap((unsigned *)p, seen, ec_bits<unsigned>((T)next(ec_bits<T>(seen))));
    if (found == seen) return ec_bits<T>(seen);
    seen = found;
  }
}
static inline float atomicAdd(float *p, float x) {
  return ec_atomic(p, [x](float y) { return y + x; });
}
template <class T> static inline T atomicMax(T *p, T x) {
  return ec_atomic(p, [x](T y) { return y > x ? y : x; });
}
template <class T> static inline T atomicMin(T *p, T x) {
  return ec_atomic(p, [x](T y) { return y < x ? y : x; });
}
