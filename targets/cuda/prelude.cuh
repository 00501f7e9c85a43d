// What stands before every generated CUDA kernel: names that TVM writes, a half type, and the ec_ functions around PTX.
// Decides how each ec_ function becomes instructions of sm_80 and later. NVRTC compiles it without any header, nvcc as well;
// emulate.h defines the same names for a CPU. Functions named "collective" are called by all 32 threads of a warp together.
// Pointers to registers (`dst_local`, `a`, `b`, `r`) are local arrays aligned to four bytes.

#define EC_DEVICE __device__ __forceinline__

// ---- Types ----------------------------------------------------------------------------------------------------------
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#endif

// Kernels that begin before the one that writes what they read has ended: then no memory is what `__restrict__` says,
// unchanged while the kernel runs, and the compiler must not take it for that.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define EC_BEGINS_EARLY 1
#define __restrict__
#else
#define EC_BEGINS_EARLY 0
#endif

#ifndef CUDART_INF_F
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000ll)
#define CUDART_NAN __longlong_as_double(0xfff8000000000000ll)
#endif

// The bits of a value as another type of the same size.
template <class To, class From> EC_DEVICE To ec_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "another number of bits");
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}

// What TVM must not look through.
template <class T> EC_DEVICE T ec_same(T x) { return x; }

// IEEE binary16. Arithmetic goes through float: with 24 >= 2 * 11 + 2 bits the second rounding never differs.
struct half {
  unsigned short bits;
  half() = default;
  __device__ __forceinline__ half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  __device__ __forceinline__ half(double x) { asm("cvt.rn.f16.f64 %0, %1;" : "=h"(bits) : "d"(x)); }
  // From integers: exact below 65520, beyond it infinity, so that the float between does no harm.
  template <class T> __device__ __forceinline__ half(T x) : half((float)x) {}
  __device__ __forceinline__ float widened() const {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
  }
  template <class T> __device__ __forceinline__ explicit operator T() const { return (T)widened(); }
};
#define EC_HALF_OPERATOR(op)                                                                                            \
  EC_DEVICE half operator op(half a, half b) { return half(a.widened() op b.widened()); }                               \
  EC_DEVICE half &operator op##=(half & a, half b) { return a = a op b; }
#define EC_HALF_COMPARISON(op) \
  EC_DEVICE bool operator op(half a, half b) { return a.widened() op b.widened(); }
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
EC_DEVICE half operator-(half a) {
  a.bits ^= 0x8000;
  return a;
}
EC_DEVICE half __float2half_rn(float x) { return half(x); }
EC_DEVICE float __half2float(half x) { return x.widened(); }

// What TVM's LLVM generator makes of max and min: with a NaN on either side the second operand.
template <class T> EC_DEVICE T ec_max(T a, T b) { return a > b ? a : b; }
template <class T> EC_DEVICE T ec_min(T a, T b) { return a < b ? a : b; }
template <class A, class B> EC_DEVICE auto ec_max(A a, B b) -> decltype(a + b) { return a > b ? a : b; }
template <class A, class B> EC_DEVICE auto ec_min(A a, B b) -> decltype(a + b) { return a < b ? a : b; }
#define max ec_max
#define min ec_min

// The same bits as a signed or unsigned integer of that width.
#define EC_AS(width)                                                                                                   \
  template <class T> EC_DEVICE int##width##_t ec_as_int##width(T x) { return (int##width##_t)x; }                      \
  template <class T> EC_DEVICE uint##width##_t ec_as_uint##width(T x) { return (uint##width##_t)x; }
EC_AS(8)
EC_AS(16)
EC_AS(32)
EC_AS(64)

// ---- Vector accesses: one of so many bytes, aligned to as many --------------------------------------------------------
EC_DEVICE void ec_load16(void *dst_local, const void *src) {
  uint4 v = *(const uint4 *)src;
  unsigned *d = (unsigned *)dst_local;
  d[0] = v.x, d[1] = v.y, d[2] = v.z, d[3] = v.w;
}
EC_DEVICE void ec_load8(void *dst_local, const void *src) {
  uint2 v = *(const uint2 *)src;
  unsigned *d = (unsigned *)dst_local;
  d[0] = v.x, d[1] = v.y;
}
EC_DEVICE void ec_load4(void *dst_local, const void *src) { *(unsigned *)dst_local = *(const unsigned *)src; }
// Through the read-only cache: global memory that nobody writes while the kernel runs. Kernels that begin early (see
// ec_wait_previous) must not: such a load may be moved before the wait, and finds what was there when the kernel began.
#if EC_BEGINS_EARLY
EC_DEVICE void ec_load16_nc(void *dst_local, const void *src) { ec_load16(dst_local, src); }
EC_DEVICE void ec_load8_nc(void *dst_local, const void *src) { ec_load8(dst_local, src); }
EC_DEVICE void ec_load4_nc(void *dst_local, const void *src) { ec_load4(dst_local, src); }
#else
EC_DEVICE void ec_load16_nc(void *dst_local, const void *src) {
  unsigned *d = (unsigned *)dst_local;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "l"(src));
}
EC_DEVICE void ec_load8_nc(void *dst_local, const void *src) {
  unsigned *d = (unsigned *)dst_local;
  asm("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(d[0]), "=r"(d[1]) : "l"(src));
}
EC_DEVICE void ec_load4_nc(void *dst_local, const void *src) {
  asm("ld.global.nc.u32 %0, [%1];" : "=r"(*(unsigned *)dst_local) : "l"(src));
}
#endif
EC_DEVICE void ec_store16(void *dst, const void *src_local) {
  const unsigned *s = (const unsigned *)src_local;
  *(uint4 *)dst = make_uint4(s[0], s[1], s[2], s[3]);
}
EC_DEVICE void ec_store8(void *dst, const void *src_local) {
  const unsigned *s = (const unsigned *)src_local;
  *(uint2 *)dst = make_uint2(s[0], s[1]);
}
EC_DEVICE void ec_store4(void *dst, const void *src_local) { *(unsigned *)dst = *(const unsigned *)src_local; }

// ---- Asynchronous copies from global to shared memory -----------------------------------------------------------------
EC_DEVICE unsigned ec_shared_address(const void *shared) { return (unsigned)__cvta_generic_to_shared(shared); }
EC_DEVICE void ec_cp16(void *shared, const void *global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(ec_shared_address(shared)), "l"(global) : "memory");
}
// Zeros instead of `global`, which then is not read, unless `valid`.
EC_DEVICE void ec_cp16_if(void *shared, const void *global, int valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(ec_shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
EC_DEVICE void ec_cp8_if(void *shared, const void *global, int valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(ec_shared_address(shared)), "l"(global),
               "r"(valid ? 8 : 0)
               : "memory");
}
// The first bytes of eight, and zeros after them.
EC_DEVICE void ec_cp8_first(void *shared, const void *global, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(ec_shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}
EC_DEVICE void ec_cp4_if(void *shared, const void *global, int valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(ec_shared_address(shared)), "l"(global),
               "r"(valid ? 4 : 0)
               : "memory");
}
EC_DEVICE void ec_cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Of the calling thread's groups at most so many are still in flight; other threads' need a barrier after it.
EC_DEVICE void ec_cp_wait0() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }
EC_DEVICE void ec_cp_wait1() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }
EC_DEVICE void ec_cp_wait2() { asm volatile("cp.async.wait_group 2;" ::: "memory"); }
EC_DEVICE void ec_cp_wait3() { asm volatile("cp.async.wait_group 3;" ::: "memory"); }

// ---- Matrix fragments (collective; layouts: PTX ISA, "Warp Level Matrix Instructions") --------------------------------
// Lane l gives the address of row l % 8 of matrix l / 8: eight halves, aligned to 16 bytes.
#define EC_LDMATRIX4(name, form)                                                                                       \
  EC_DEVICE void name(void *r, const void *shared_row) {                                                               \
    unsigned *d = (unsigned *)r;                                                                                       \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" form ".shared.b16 {%0, %1, %2, %3}, [%4];"                            \
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])                                                      \
                 : "r"(ec_shared_address(shared_row))                                                                  \
                 : "memory");                                                                                          \
  }
#define EC_LDMATRIX2(name, form)                                                                                       \
  EC_DEVICE void name(void *r, const void *shared_row) {                                                               \
    unsigned *d = (unsigned *)r;                                                                                       \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" form ".shared.b16 {%0, %1}, [%2];"                                    \
                 : "=r"(d[0]), "=r"(d[1])                                                                              \
                 : "r"(ec_shared_address(shared_row))                                                                  \
                 : "memory");                                                                                          \
  }
EC_LDMATRIX4(ec_ldmatrix4, "")
EC_LDMATRIX4(ec_ldmatrix4_t, ".trans")
EC_LDMATRIX2(ec_ldmatrix2, "")
EC_LDMATRIX2(ec_ldmatrix2_t, ".trans")

// d += a * b
#define EC_MMA(name, form, type, letter)                                                                               \
  EC_DEVICE void name(type *d, const void *a4, const void *b2) {                                                       \
    const unsigned *a = (const unsigned *)a4, *b = (const unsigned *)b2;                                               \
    asm("mma.sync.aligned." form " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                    \
        : "+" letter(d[0]), "+" letter(d[1]), "+" letter(d[2]), "+" letter(d[3])                                       \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                           \
  }
EC_MMA(ec_mma_f16, "m16n8k16.row.col.f32.f16.f16.f32", float, "f")
EC_MMA(ec_mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32", float, "f")
EC_MMA(ec_mma_s8, "m16n8k32.row.col.s32.s8.s8.s32", int, "r")
EC_MMA(ec_mma_u8s8, "m16n8k32.row.col.s32.u8.s8.s32", int, "r")

EC_DEVICE unsigned ec_tf32(float x) {
  unsigned r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
}

// ---- Within a warp (collective) -----------------------------------------------------------------------------------------
EC_DEVICE void ec_syncwarp() { __syncwarp(0xffffffffu); }
EC_DEVICE float ec_shfl_xor_f32(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask, 32); }
EC_DEVICE int ec_shfl_xor_i32(int x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask, 32); }
EC_DEVICE float ec_shfl_f32(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane, 32); }
EC_DEVICE int ec_shfl_i32(int x, int lane) { return __shfl_sync(0xffffffffu, x, lane, 32); }
// Every lane gets the result of one tree: partners 16, 8, 4, 2, 1 away.
EC_DEVICE float ec_warp_sum(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) x = x + ec_shfl_xor_f32(x, mask);
  return x;
}
EC_DEVICE float ec_warp_max(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) x = fmaxf(x, ec_shfl_xor_f32(x, mask));
  return x;
}

// ---- Arithmetic -----------------------------------------------------------------------------------------------------------
// c plus four products of bytes
EC_DEVICE int ec_dp4a_s8(int a, int b, int c) {
  int d;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
EC_DEVICE int ec_dp4a_u8s8(int a, int b, int c) {
  int d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
EC_DEVICE unsigned ec_half2_pack(float lo, float hi) {
  unsigned r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
EC_DEVICE float ec_half2_lo(unsigned x) {
  half h;
  h.bits = (unsigned short)x;
  return h.widened();
}
EC_DEVICE float ec_half2_hi(unsigned x) {
  half h;
  h.bits = (unsigned short)(x >> 16);
  return h.widened();
}
// Approximate: 2 ulp, denormals are zero.
EC_DEVICE float ec_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
EC_DEVICE float ec_rcp(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// ---- Between kernels ----------------------------------------------------------------------------------------------------
// Where the device and the driver know of it, a kernel begins while the one before it still runs. Every thread calls
// both: the next kernel may begin; whatever any kernel before this one wrote is there, and none of them runs any more.
// Before ec_wait_previous a thread touches constants and shared memory only.
#if EC_BEGINS_EARLY
EC_DEVICE void ec_let_next() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
EC_DEVICE void ec_wait_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
#else
EC_DEVICE void ec_let_next() {}
EC_DEVICE void ec_wait_previous() {}
#endif

// ---- Between blocks ---------------------------------------------------------------------------------------------------------
// One thread of a block, after a barrier that follows the block's writes: 1 in the last of `total` arrivals, which sees
// what all others wrote, and for which the counter is zero again.
EC_DEVICE int ec_arrive_last(void *counter, unsigned total) {
  __threadfence();
  const int last = atomicAdd((unsigned *)counter, 1u) == total - 1;
  if (last) atomicExch((unsigned *)counter, 0u);
  __threadfence();
  return last;
}
