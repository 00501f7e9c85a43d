"""What kernels mean on a CPU: halves, matrix fragments, asynchronous copies, barriers, blocks; and what the checks find."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cuda_emulated import Emulated, Fault

from edgec.compiler.errors import EdgecError
from edgec.targets.cuda import emulation
from edgec.targets.cuda.emulation import emulated_library, kernel_signatures, sanitizer_environment

RNG = np.random.default_rng(5)


def kernel(name: str, parameters: str, body: str, threads: int = 32) -> str:
    """A kernel as the generator writes it."""
    return f'extern "C" __global__ void __launch_bounds__({threads}) {name}({parameters}) {{\n{body}\n}}\n'


def same(got: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bits, but any NaN for a NaN."""
    nan = np.isnan(expected)
    return bool(np.array_equal(np.isnan(got), nan) and got[~nan].tobytes() == expected[~nan].tobytes())


# ---- Text -----------------------------------------------------------------------------------------------------------
def test_signatures_are_read_from_the_text() -> None:
    text = kernel("one", "half* __restrict__ a_ptr, int n", "a_ptr[n] = (half)0.0f;", 128) + kernel(
        "two", "", "__syncthreads();"
    )
    one, two = kernel_signatures(text)
    assert (one.name, one.parameters, one.threads, one.waits) == ("one", ("half*", "int"), 128, False)
    assert (two.name, two.parameters, two.threads, two.waits) == ("two", (), 32, True)


def test_declarations_before_a_definition_do_no_harm() -> None:
    text = kernel("k", "int* a", "a[blockIdx.x * 32 + threadIdx.x] = blockDim.x * 100 + gridDim.x;")
    out = np.zeros(96, np.int32)
    Emulated(text.split("{")[0] + ";\n" + text).launch("k", (3,), 32, out)
    assert (out == 3203).all()


def test_what_the_emulation_does_not_know_is_refused() -> None:
    with pytest.raises(EdgecError, match=r"does not understand: __shared__ int a\[2\]\[3\]"):
        emulated_library(kernel("k", "int* a", "__shared__ int a[2][3];"))


def test_without_a_compiler_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EdgecError, match=r"needs a C\+\+ compiler \(tried no-such-compiler\)"):
        emulated_library(kernel("k", "int* a", "a[0] = 1;"))


def test_what_the_compiler_refuses_is_quoted() -> None:
    with pytest.raises(EdgecError, match="refuses an emulated kernel: .*nowhere"):
        emulated_library(kernel("k", "int* a", "a[0] = nowhere;"))


# ---- Halves -----------------------------------------------------------------------------------------------------------
HALVES = "".join(
    kernel(name, f"{source}* __restrict__ x, {to}* __restrict__ y, int n", f"int i = blockIdx.x * 256 + threadIdx.x;\nif (i < n) {{ {body} }}", 256)
    for name, source, to, body in [
        ("widen", "half", "float", "y[i] = ((float)x[i]);"),
        ("narrow", "float", "half", "y[i] = ((half)x[i]);"),
        ("narrow_double", "double", "half", "y[i] = ((half)x[i]);"),
        ("narrow_int", "int64_t", "half", "y[i] = ((half)x[i]);"),
        ("to_int", "half", "int", "y[i] = ((int)x[i]);"),
        ("pack", "float", "uint", "y[i] = ec_half2_pack(x[2 * i], x[2 * i + 1]);"),
        ("unpack", "uint", "float", "y[2 * i] = ec_half2_lo(x[i]); y[2 * i + 1] = ec_half2_hi(x[i]);"),
        ("add", "half", "half", "y[i] = x[i] + x[n + i];"),
        ("subtract", "half", "half", "y[i] = x[i] - x[n + i];"),
        ("multiply", "half", "half", "y[i] = x[i] * x[n + i];"),
        ("divide", "half", "half", "y[i] = x[i] / x[n + i];"),
        ("greatest", "half", "half", "y[i] = max(x[i], max(x[n + i], __float2half_rn(-0x1p+0f)));"),
        ("negated", "half", "half", "half v_ = -x[i]; *(ushort *)(y + i) = (*(ushort *)(&(v_)));"),
        ("less", "half", "bool", "y[i] = (x[i] < x[n + i]);"),
    ]
)  # fmt: skip
ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


@pytest.fixture(scope="module", params=["instructions", "software"])
def halves(request: pytest.FixtureRequest) -> Emulated:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "software":
            patch.setattr(emulation, "_machine", lambda: [])
        return Emulated(HALVES)


def over(module: Emulated, name: str, x: np.ndarray, dtype: type, n: int | None = None) -> np.ndarray:
    n = len(x) if n is None else n
    out = np.zeros(n if name != "unpack" else 2 * n, dtype)
    module.launch(name, (-(-n // 256),), 256, x, out, n)
    return out


def test_every_half_widens_and_narrows_back(halves: Emulated) -> None:
    wide = over(halves, "widen", ALL, np.float32)
    assert same(wide, ALL.astype(np.float32))
    assert same(over(halves, "narrow", wide, np.float16), ALL)
    assert same(over(halves, "unpack", ALL.view(np.uint32), np.float32), ALL.astype(np.float32))


def near_halves(dtype: type) -> np.ndarray:
    """Numbers around every half, the halfway points between two, and beyond both ends."""
    finite = np.sort(ALL[np.isfinite(ALL)].astype(dtype))
    points = np.concatenate(
        [finite, (finite[1:] + finite[:-1]) / 2, np.array([65520, -65520, 65519.99, 1e30, 1e-30], dtype)]
    )
    around = [points, np.nextafter(points, dtype(np.inf)), np.nextafter(points, dtype(-np.inf))]
    special = np.array([np.inf, -np.inf, np.nan, -0.0], dtype)
    return np.concatenate([*around, special, RNG.standard_normal(10000).astype(dtype) * dtype(1000)])


def test_floats_round_to_the_nearest_half_ties_to_even(halves: Emulated) -> None:
    x = near_halves(np.float32)
    with np.errstate(over="ignore"):
        assert same(over(halves, "narrow", x, np.float16), x.astype(np.float16))
        x = x[: len(x) // 2 * 2]
        assert same(over(halves, "pack", x, np.uint32, len(x) // 2).view(np.float16), x.astype(np.float16))


def test_doubles_are_rounded_once(halves: Emulated) -> None:
    x = near_halves(np.float64)
    with np.errstate(over="ignore"):
        assert same(over(halves, "narrow_double", x, np.float16), x.astype(np.float16))
        assert not same(x.astype(np.float32).astype(np.float16), x.astype(np.float16)), "the test shows nothing"


def test_halves_and_integers(halves: Emulated) -> None:
    x = np.array([0, 1, -1, 2047, 2049, 2051, 65504, 65519, 65520, -65520, 2**24 + 1, 2**40, -(2**62)], np.int64)
    with np.errstate(over="ignore"):
        assert same(over(halves, "narrow_int", x, np.float16), x.astype(np.float16))
    finite = ALL[np.isfinite(ALL)].copy()
    assert np.array_equal(over(halves, "to_int", finite, np.int32), finite.astype(np.int32))


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_arithmetic_of_halves_is_correctly_rounded(halves: Emulated, name: str) -> None:
    x = RNG.permutation(np.concatenate([ALL, ALL]))
    n = len(x) // 2
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x[:n], x[n:])
    assert same(over(halves, name, x, np.float16, n), expected)


def test_comparisons_and_signs_of_halves(halves: Emulated) -> None:
    x = RNG.permutation(np.concatenate([ALL, ALL]))
    n = len(x) // 2
    a, b = x[:n].astype(np.float32), x[n:].astype(np.float32)
    assert np.array_equal(over(halves, "less", x, np.bool_, n), a < b)
    second = np.where(b > -1, b, -1)  # max(a, b) is `a > b ? a : b`
    assert same(over(halves, "greatest", x, np.float16, n), np.where(a > second, a, second).astype(np.float16))
    assert np.array_equal(over(halves, "negated", ALL, np.uint16), ALL.view(np.uint16) ^ 0x8000)


# ---- Numbers ------------------------------------------------------------------------------------------------------------
NUMBERS = "".join(
    kernel(name, f"{source}* x, {to}* y, int n", f"int i = blockIdx.x * 32 + threadIdx.x;\nif (i < n) {{ {body} }}")
    for name, source, to, body in [
        ("tf32", "float", "uint", "y[i] = ec_tf32(x[i]);"),
        ("dp4a", "int", "int", "y[i] = ec_dp4a_s8(x[i], x[n + i], x[2 * n + i]);"),
        ("dp4a_u", "int", "int", "y[i] = ec_dp4a_u8s8(x[i], x[n + i], x[2 * n + i]);"),
        ("bytes", "uchar", "int64_t", "y[i] = (int64_t)ec_as_int8(x[i]) + max((int64_t)ec_as_uint32(-1), (int64_t)3);"),
        ("bits", "float", "int", "y[i] = __float_as_int(x[i]) + (__clz(1) << 1) + min(3, 4) + __float_as_int(CUDART_INF_F);"),
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def numbers() -> Emulated:
    return Emulated(NUMBERS)


def test_tf32_rounds_ties_away_from_zero(numbers: Emulated) -> None:
    x = np.array([1, 1 + 2**-11, -1 - 2**-11, 1 + 2**-12, 1 + 3 * 2**-12, np.inf, -np.inf, 3.4028235e38, 0], np.float32)
    out = np.zeros(len(x), np.uint32)
    numbers.launch("tf32", (1,), 32, x, out, len(x))
    expected = [1, 1 + 2**-10, -1 - 2**-10, 1, 1 + 2**-10, np.inf, -np.inf, np.inf, 0]
    assert np.array_equal(out.view(np.float32), np.array(expected, np.float32))


@pytest.mark.parametrize(("name", "first"), [("dp4a", np.int8), ("dp4a_u", np.uint8)])
def test_four_products_of_bytes(numbers: Emulated, name: str, first: type) -> None:
    x = RNG.integers(-(2**31), 2**31, (3, 64)).astype(np.int32)
    x[:, 0] = [-1, 0x7F7F7F7F, 2**31 - 1]  # wraps
    out = np.zeros(64, np.int32)
    numbers.launch(name, (2,), 32, x, out, 64)
    products = x[0].view(first).astype(np.int64) * x[1].view(np.int8)
    assert np.array_equal(out, (products.reshape(64, 4).sum(1) + x[2]).astype(np.int32))


def test_bits_and_bytes(numbers: Emulated) -> None:
    out = np.zeros(2, np.int64)
    numbers.launch("bytes", (1,), 32, np.array([200, 3], np.uint8), out, 2)
    assert list(out) == [200 - 256 + 2**32 - 1, 3 + 2**32 - 1]
    bits = np.zeros(1, np.int32)
    numbers.launch("bits", (1,), 32, np.array([1], np.float32), bits, 1)
    assert bits[0] == np.int32(np.int64(0x3F800000 + 62 + 3 + 0x7F800000) - 2**32)


# ---- Warps -----------------------------------------------------------------------------------------------------------------
WARPS = kernel(
    "warps", "float* x, float* y, int* z",
    """  int t = threadIdx.x;
  y[t] = ec_shfl_xor_f32(x[t], 5);
  y[64 + t] = ec_shfl_f32(x[t], t / 3);
  y[128 + t] = ec_warp_sum(x[t]);
  y[192 + t] = ec_warp_max(x[t]);
  z[t] = ec_shfl_xor_i32(t, 31);
  z[64 + t] = ec_shfl_i32(t, 40);
  if (t < 32) { z[t] += ec_shfl_i32(t, 7); }""", 64)  # fmt: skip


def test_shuffles_and_sums_stay_within_warps() -> None:
    x, y, z = RNG.standard_normal(64).astype(np.float32), np.zeros((4, 64), np.float32), np.zeros((2, 64), np.int32)
    Emulated(WARPS).launch("warps", (1,), 64, x, y, z)
    lane, first = np.arange(64) % 32, np.arange(64) // 32 * 32
    assert np.array_equal(y[0], x[first + (lane ^ 5)])
    assert np.array_equal(y[1], x[first + np.arange(64) // 3 % 32])
    tree = x
    for mask in (16, 8, 4, 2, 1):
        tree = tree + tree[first + (lane ^ mask)]
    assert np.array_equal(y[2], tree)
    assert np.array_equal(y[3], x.reshape(2, 32).max(1).repeat(32))
    assert np.array_equal(z[0], first + 31 - lane + np.where(first == 0, 7, 0))
    assert np.array_equal(z[1], first + 8)


# ---- Matrices ---------------------------------------------------------------------------------------------------------------
# One warp: A from shared memory by rows, B [n][k] by rows or [k][n] by transposed matrices.
LOADED = """  __shared__ alignas(64) half a_ptr[256];
  __shared__ alignas(64) half b_ptr[128];
  alignas(64) uint a[4]; alignas(64) uint b[2]; alignas(64) TYPE d[4];
  int t = threadIdx.x;
  ec_cp16(a_ptr + t * 8, (const half*)x + t * 8);
  ec_cp8_if(b_ptr + t * 4, (const half*)w + t * 4, 1);
  ec_cp_commit();
  ec_cp_wait0();
  __syncthreads();
  for (int i = 0; i < 4; ++i) { d[i] = c[(t / 4 + i / 2 * 8) * 8 + t % 4 * 2 + i % 2]; }
  LOAD
  MMA((&(d[0])), (&(a[0])), (&(b[0])));
  for (int i = 0; i < 4; ++i) { c[(t / 4 + i / 2 * 8) * 8 + t % 4 * 2 + i % 2] = d[i]; }"""
BY_ROWS = "ec_ldmatrix4(a, a_ptr + t % 16 * 16 + t / 16 * 8); ec_ldmatrix2(b, b_ptr + t % 8 * 16 + t / 8 % 2 * 8);"
TURNED = "ec_ldmatrix4(a, a_ptr + t % 16 * 16 + t / 16 * 8); ec_ldmatrix2_t(b, b_ptr + t % 16 * 8);"
A_TURNED = (  # A is [k][m]: matrices in the order (k 0, m 0), (k 0, m 8), (k 8, m 0), (k 8, m 8)
    "ec_ldmatrix4_t(a, a_ptr + (t % 8 + t / 16 * 8) * 16 + t / 8 % 2 * 8); ec_ldmatrix2(b, b_ptr + t % 8 * 16 + t / 8 % 2 * 8);"
)
MATRICES = "".join(
    kernel(name, f"void* x, void* w, {kind}* c", LOADED.replace("TYPE", kind).replace("LOAD", load).replace("MMA", mma))
    for name, kind, load, mma in [
        ("f16", "float", BY_ROWS, "ec_mma_f16"),
        ("f16_turned", "float", TURNED, "ec_mma_f16"),
        ("f16_a_turned", "float", A_TURNED, "ec_mma_f16"),
        ("tf32", "float", BY_ROWS, "ec_mma_tf32"),
        ("s8", "int", BY_ROWS, "ec_mma_s8"),
        ("u8s8", "int", BY_ROWS, "ec_mma_u8s8"),
    ]
)


@pytest.fixture(scope="module")
def matrices() -> Emulated:
    return Emulated(MATRICES)


def summed(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """c + a b in f32, products by rising k."""
    for k in range(a.shape[1]):
        c = c + a[:, k : k + 1].astype(np.float32) * b[k : k + 1].astype(np.float32)
    return c


@pytest.mark.parametrize("form", ["f16", "f16_turned", "f16_a_turned"])
def test_halves_multiply_as_matrices(matrices: Emulated, form: str) -> None:
    a, b = RNG.standard_normal((16, 16)).astype(np.float16), RNG.standard_normal((16, 8)).astype(np.float16)
    c = RNG.standard_normal((16, 8)).astype(np.float32)
    expected = summed(c, a, b)
    x, w = (a.T if form == "f16_a_turned" else a), (b if form == "f16_turned" else b.T)
    matrices.launch(form, (1,), 32, np.ascontiguousarray(x), np.ascontiguousarray(w), c)
    assert np.array_equal(c, expected)


def test_tf32_multiplies_what_its_bits_say(matrices: Emulated) -> None:
    a, b = RNG.standard_normal((16, 8)).astype(np.float32), RNG.standard_normal((8, 8)).astype(np.float32)
    c = RNG.standard_normal((16, 8)).astype(np.float32)
    cut = [(v.view(np.uint32) & 0xFFFFE000).view(np.float32) for v in (a, b)]
    expected = summed(c, *cut)
    matrices.launch("tf32", (1,), 32, a, np.ascontiguousarray(b.T), c)
    assert np.array_equal(c, expected)


@pytest.mark.parametrize(("name", "first"), [("s8", np.int8), ("u8s8", np.uint8)])
def test_bytes_multiply_exactly(matrices: Emulated, name: str, first: type) -> None:
    a = RNG.integers(0, 256, (16, 32)).astype(np.uint8).view(first)
    b = RNG.integers(-128, 128, (32, 8)).astype(np.int8)
    c = RNG.integers(-(2**31), 2**31, (16, 8)).astype(np.int32)
    expected = (a.astype(np.int64) @ b.astype(np.int64) + c).astype(np.int32)
    matrices.launch(name, (1,), 32, a, np.ascontiguousarray(b.T), c)
    assert np.array_equal(c, expected)


# ---- Shared memory, asynchronous copies, blocks --------------------------------------------------------------------------------
def copied(name: str, wait: str, threads: int = 64) -> str:
    """Every thread copies one vector and reads its neighbour's."""
    return kernel(name, "float* __restrict__ x, float* __restrict__ y", f"""  __shared__ alignas(64) float s_ptr[256];
  int t = threadIdx.x;
  ec_cp16_if(s_ptr + t * 4, x + t * 4, t != 5);
  {wait}
  for (int i = 0; i < 4; ++i) {{ y[t * 4 + i] = s_ptr[(t * 4 + i + 4) % 256]; }}""", threads)  # fmt: skip


WAITS = ["__syncthreads();", "ec_cp_commit(); __syncthreads();", "ec_cp_wait0(); __syncthreads();",
         "ec_cp_commit(); ec_cp_wait1(); __syncthreads();"]  # fmt: skip


def test_copies_land_when_they_are_waited_for() -> None:
    right = copied("right", "ec_cp_commit(); ec_cp_wait0(); __syncthreads();")
    module = Emulated(right + "".join(copied(f"wrong{i}", wait) for i, wait in enumerate(WAITS)))
    x, y = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
    module.launch("right", (1,), 64, x, y)
    expected = x.copy()
    expected[20:24] = 0  # not valid
    assert np.array_equal(y, np.roll(expected, -4))
    for i in range(len(WAITS)):
        module.launch(f"wrong{i}", (1,), 64, x, y)
        assert np.isnan(y).all()


def test_shared_memory_holds_nan_in_every_block() -> None:
    text = kernel("k", "float* y", """  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  __shared__ alignas(64) float s_ptr[32];
  int t = threadIdx.x;
  if (t % 2 == 0) { s_ptr[t] = 1.0f; ((float*)buf_dyn_shmem_ptr)[t] = 2.0f; }
  __syncthreads();
  y[blockIdx.x * 32 + t] = s_ptr[t ^ (int)blockIdx.y] + ((float*)buf_dyn_shmem_ptr)[t];""")  # fmt: skip
    y = np.zeros((3, 32), np.float32)
    Emulated(text).launch("k", (3,), 32, y, shared=128)
    assert (y[:, ::2] == 3).all() and np.isnan(y[:, 1::2]).all()


# Tiles of 32 x 32, each thread 4 results; `stages` copies ahead.
MATMUL = kernel("plain", "float* __restrict__ a, float* __restrict__ b, float* __restrict__ c, int n, int k", """
  __shared__ alignas(64) float sa[1024];
  __shared__ alignas(64) float sb[1024];
  alignas(64) float acc[4];
  int t = threadIdx.x; int row = t / 8; int column = t % 8 * 4;
  for (int i = 0; i < 4; ++i) { acc[i] = 0.0f; }
  for (int k0 = 0; k0 < k; k0 += 32) {
    for (int i = 0; i < 4; ++i) {
      sa[row * 32 + column + i] = a[((int)blockIdx.y * 32 + row) * k + k0 + column + i];
      sb[row * 32 + column + i] = b[(k0 + row) * n + (int)blockIdx.x * 32 + column + i];
    }
    __syncthreads();
    for (int kk = 0; kk < 32; ++kk) {
      for (int i = 0; i < 4; ++i) { acc[i] = acc[i] + sa[row * 32 + kk] * sb[kk * 32 + column + i]; }
    }
    SECOND
  }
  ec_store16(c + ((int)blockIdx.y * 32 + row) * n + (int)blockIdx.x * 32 + column, acc);""", 256)  # fmt: skip
PIPELINE = kernel("staged", "float* __restrict__ a, float* __restrict__ b, float* __restrict__ c, int n, int k", """
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  float* sa = (float*)buf_dyn_shmem_ptr; float* sb = sa + 3 * 1024;
  alignas(64) float acc[4];
  int t = threadIdx.x; int row = t / 8; int column = t % 8 * 4; int tiles = k / 32;
  for (int i = 0; i < 4; ++i) { acc[i] = 0.0f; }
  for (int s = 0; s < AHEAD; ++s) {
    if (s < tiles) {
      ec_cp16(sa + s * 1024 + row * 32 + column, a + ((int)blockIdx.y * 32 + row) * k + s * 32 + column);
      ec_cp16(sb + s * 1024 + row * 32 + column, b + (s * 32 + row) * n + (int)blockIdx.x * 32 + column);
    }
    ec_cp_commit();
  }
  for (int tile = 0; tile < tiles; ++tile) {
    ec_cp_wait1();
    __syncthreads();
    int ahead = tile + AHEAD; int at = ahead % 3;
    if (ahead < tiles) {
      ec_cp16(sa + at * 1024 + row * 32 + column, a + ((int)blockIdx.y * 32 + row) * k + ahead * 32 + column);
      ec_cp16(sb + at * 1024 + row * 32 + column, b + (ahead * 32 + row) * n + (int)blockIdx.x * 32 + column);
    }
    ec_cp_commit();
    at = tile % 3;
    for (int kk = 0; kk < 32; ++kk) {
      for (int i = 0; i < 4; ++i) {
        acc[i] = fmaf(sa[at * 1024 + row * 32 + kk], sb[at * 1024 + kk * 32 + column + i], acc[i]);
      }
    }
  }
  ec_store16(c + ((int)blockIdx.y * 32 + row) * n + (int)blockIdx.x * 32 + column, acc);""", 256)  # fmt: skip
TILED = MATMUL.replace("SECOND", "__syncthreads();")
STAGED = PIPELINE.replace("AHEAD", "2")


def product(module: Emulated, name: str, shared: int = 0) -> bool:
    """Whether a 64 x 96 x 160 product of small integers is right."""
    a, b = RNG.integers(-8, 8, (64, 160)).astype(np.float32), RNG.integers(-8, 8, (160, 96)).astype(np.float32)
    c = np.zeros((64, 96), np.float32)
    module.launch(name, (3, 2), 256, a, b, c, 96, 160, shared=shared)
    return bool(np.array_equal(c, a @ b))


@pytest.mark.parametrize("check", ["none", "race"])
def test_tiled_matrix_products(check: emulation.Check) -> None:
    module = Emulated(TILED + STAGED, check)
    assert product(module, "plain")
    assert product(module, "staged", 6 * 4096)


def test_the_last_of_a_grid_adds_what_the_others_left() -> None:
    text = kernel("k", "float* x, float* partial, float* y, uint* zeros", """  __shared__ alignas(64) int last[1];
  int t = threadIdx.x;
  partial[(int)blockIdx.x * 32 + t] = ec_warp_sum(x[(int)blockIdx.x * 32 + t]);
  __syncthreads();
  if (t == 0) { last[0] = ec_arrive_last((&(zeros[0])), (uint)7); }
  __syncthreads();
  if (last[0] == 0) { return; }
  float sum = 0.0f;
  for (int i = 0; i < 7; ++i) { sum = sum + partial[i * 32 + t]; }
  y[t] = y[t] + sum;""")  # fmt: skip
    for check in ("none", "race"):
        module = Emulated(text, check)
        x, partial, y = np.arange(224, dtype=np.float32), np.zeros((7, 32), np.float32), np.zeros(32, np.float32)
        zeros = np.zeros(1, np.uint32)
        for _ in range(2):
            module.launch("k", (7,), 32, x, partial, y, zeros)
        assert (y == 2 * x.sum()).all() and zeros[0] == 0
        with pytest.raises(Fault, match=r"k, block \(0, 0, 0\), thread 0: ec_arrive_last: .* counter was not zero"):
            module.launch("k", (7,), 32, x, partial, y, np.full(1, 9, np.uint32))


def test_atomics() -> None:
    text = kernel("k", "int* n, float* sum, int* most", """  int i = blockIdx.x * 32 + threadIdx.x;
  atomicAdd(n, i); atomicAdd(sum, 0.5f); atomicMax(most, i * 37 % 101);""")  # fmt: skip
    n, total, most = np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros(1, np.int32)
    Emulated(text).launch("k", (4,), 32, n, total, most)
    assert (n[0], total[0], most[0]) == (127 * 64, 64, max(i * 37 % 101 for i in range(128)))


def test_grids_of_three_dimensions() -> None:
    text = kernel("k", "int* y", "y[((int)(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * 8 + threadIdx.x] += 1 + (int)blockIdx.z;", 8)  # fmt: skip
    for text_ in (text, text.replace("{\n", "{\n__syncthreads();\n", 1)):
        y = np.zeros((4, 3, 2, 8), np.int32)
        Emulated(text_).launch("k", (2, 3, 4), 8, y)
        assert np.array_equal(y, np.broadcast_to(np.arange(1, 5)[:, None, None, None], y.shape))


# ---- Faults ----------------------------------------------------------------------------------------------------------------------
FAULTS = [
    ("if (threadIdx.x < 5) { __syncthreads(); } else { ec_syncwarp(); }", "thread 0 waits for ever at __syncthreads, thread 5 at __syncwarp"),
    ("if (threadIdx.x < 5) { return; } x[0] = ec_warp_sum(1.0f);", "thread 5 waits for ever at ec_warp_sum: other threads have ended"),
    ("if (threadIdx.x < 5) { x[0] = ec_warp_sum(1.0f); } else { ec_syncwarp(); }", "__syncwarp, while others of its warp wait at ec_warp_sum"),
    ("alignas(64) float v[4]; ec_load16(v, x + 1);", "ec_load16 at an address that is no multiple of 16"),
    ("__shared__ float s[8]; ec_cp16(s + 1, x);", "the address in shared memory is no multiple of 16"),
    ("__shared__ float s[8]; ec_cp16(s, x + 1);", "the address in global memory is no multiple of 16"),
    ("__shared__ float s[8]; ec_cp16(s + 8, x);", "outside of the block's shared memory"),
    ("__shared__ float s[8]; uint r[4]; ec_ldmatrix4(r, s + 2);", "ldmatrix: the address in shared memory is no multiple of 16"),
    ("__shared__ float s[8]; uint r[4]; ec_ldmatrix4(r, x);", "ldmatrix: an address outside of the block's shared memory"),
]  # fmt: skip


def test_faults_end_the_launch_with_a_message() -> None:
    text = "".join(kernel(f"bad{i}", "float* x", body) for i, (body, _) in enumerate(FAULTS))
    module = Emulated(text + kernel("good", "float* x", "__syncthreads(); x[threadIdx.x] = 3.0f;"))
    x = np.zeros(64, np.float32)
    x = x[-x.ctypes.data // 4 % 4 :][:32]
    for i, (_, what) in enumerate(FAULTS):
        x[:] = 0
        with pytest.raises(Fault, match=f"bad{i}.*{what}"):
            module.launch(f"bad{i}", (1,), 32, x)
        module.launch("good", (1,), 32, x)
        assert (x == 3).all()


def test_blocks_that_are_too_large_are_refused() -> None:
    module = Emulated(
        kernel("k", "float* x", "x[threadIdx.x] = 1.0f;", 16) + kernel("w", "float* x", "__syncthreads();", 16)
    )
    for name in ("k", "w"):
        with pytest.raises(Fault, match="launched with 17 threads in a block, made for at most 16"):
            module.launch(name, (1,), 17, np.zeros(17, np.float32))


def test_without_a_handler_a_fault_ends_the_process() -> None:
    code = (
        "import numpy as np; from cuda_emulated import Emulated\n"
        "module = Emulated('extern \"C\" __global__ void k(float* x) { if (threadIdx.x) { __syncthreads(); ec_syncwarp(); } }')\n"
        "module.library.ec_emulated_on_fault(None); module.launch('k', (1,), 32, np.zeros(1, np.float32))"
    )
    done = run(code)
    assert done.returncode < 0 and "emulated kernel k, block (0, 0, 0), thread" in done.stderr


def run(code: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, **(extra or {})},
        capture_output=True,
        text=True,
        check=False,
    )


# ---- Races -----------------------------------------------------------------------------------------------------------------------
RACES = [
    ("s[t] = x[t]; y[t] = s[63 - t];", "race in shared memory: thread .* byte .* of s, which thread .*; epoch 0"),
    ("s[t] = x[t]; __syncthreads(); y[t] = s[63 - t]; s[t] = 3.0f;", "race in shared memory: .*; epoch 1"),
    ("s[t / 2] = t;", "race in shared memory: thread 1 writes byte 0 of s, which thread 0 wrote; epoch 0"),
    ("s[t] = x[t]; ec_syncwarp(); y[t] = s[63 - t];", "race in shared memory"),
    ("ec_cp16(s + t * 4, x + t * 4); ec_cp_commit(); ec_cp_wait0(); y[t] = s[(t * 4 + 4) % 256];", "race|under way"),
    ("ec_cp16(s + t * 4, x + t * 4); ec_cp_commit(); __syncthreads(); y[t] = s[t];", "while a cp.async of thread .* into it is under way"),
    ("s[t] = x[t]; __syncthreads(); y[t] = s[63 - t]; ec_cp4_if(s + t, x + t, 1); ec_cp_commit(); ec_cp_wait0();", "race in shared memory"),
    ("uint r[4]; ((half*)s)[t] = x[t]; ec_ldmatrix4(r, s + t % 32 * 4);", "race in shared memory"),
    ("x[t / 2] = 1.0f;", "race in global memory: thread 1 writes .* which thread 0 wrote"),
    ("y[t] = x[0]; if (t == 9) { x[0] = 1.0f; }", "race in global memory"),
    ("if (t == 0) { x[0] = blockIdx.x; }", "race in global memory: .* in another block thread 0 wrote"),
    ("if (blockIdx.x == 0) { y[t] = x[t]; } if (blockIdx.x == 2) { x[t] = 1.0f; }", "race in global memory"),
    ("*(float4*)(x + 1 + 4 * t) = make_float4(1.0f, 1.0f, 1.0f, 1.0f);", "an access at an address that is no multiple of 16"),
]  # fmt: skip
ORDERED = [
    "s[t] = x[t]; __syncthreads(); y[t] = s[63 - t]; __syncthreads(); s[t] = 1.0f;",
    "s[t] = x[t]; ec_syncwarp(); float v = s[t ^ 3]; ec_syncwarp(); s[t] = v;",
    "if (t == 0) { s[0] = 1.0f; } __syncthreads(); y[t] = s[0]; __syncthreads(); if (t == 1) { s[0] = s[0] + 1.0f; }",
    "s[t] = x[t]; s[t] = s[t] + 1.0f;",
    "ec_cp16(s + t * 4, x + t * 4); ec_cp_commit(); ec_cp_wait0(); __syncthreads(); y[t] = s[(t * 4 + 4) % 256];",
    "uint r[4]; ((half*)s)[t] = x[t]; __syncthreads(); ec_ldmatrix4(r, s + t % 32 * 4);",
    "atomicAdd(x, 1.0f);",
    "x[t] = 1.0f; __syncthreads(); y[t] = x[63 - t];",
]  # fmt: skip


@pytest.fixture(scope="module")
def raced() -> Emulated:
    start = "  __shared__ alignas(64) float s[256];\n  int t = threadIdx.x;\n"
    bodies = [(f"race{i}", body) for i, (body, _) in enumerate(RACES)]
    bodies += [(f"ordered{i}", body) for i, body in enumerate(ORDERED)]
    return Emulated("".join(kernel(name, "float* x, float* y", start + body, 64) for name, body in bodies), "race")


@pytest.mark.parametrize("i", range(len(RACES)))
def test_the_check_finds_races(raced: Emulated, i: int) -> None:
    with pytest.raises(Fault, match=RACES[i][1]):
        raced.launch(f"race{i}", (3,), 64, np.zeros(4096, np.float32), np.zeros(4096, np.float32))


@pytest.mark.parametrize("i", range(len(ORDERED)))
def test_the_check_passes_what_barriers_order(raced: Emulated, i: int) -> None:
    raced.launch(f"ordered{i}", (1,), 64, np.zeros(4096, np.float32), np.zeros(4096, np.float32))


def test_the_check_knows_a_tile_that_is_overwritten_too_early() -> None:
    module = Emulated(MATMUL.replace("SECOND", "") + PIPELINE.replace("AHEAD", "3").replace("wait1", "wait2"), "race")
    with pytest.raises(Fault, match=r"plain, block \(0, 0, 0\).*race in shared memory: thread .* of s[ab]"):
        product(module, "plain")
    with pytest.raises(Fault, match="reads shared memory while a cp.async of thread .* into it is under way"):
        product(module, "staged", 6 * 4096)


# ---- AddressSanitizer ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("body", "what"), [
    ("y[t] = x[t + 1];", "heap-buffer-overflow"),  # of the caller's buffer
    ("s[t + 1] = x[t]; __syncthreads(); y[t] = s[t];", "heap-buffer-overflow"),
    ("s[t] = x[t]; __syncthreads(); y[t] = s[t]; if (t == 3) { float l[4]; for (int i = 0; i < t + 2; ++i) { l[i] = y[i]; } ec_store16(y, l); }", "stack-buffer-overflow"),
    ("s[t] = x[t]; __syncthreads(); y[t] = ec_warp_sum(s[t]);", ""),
    ("y[t] = x[t];", ""),
])  # fmt: skip
def test_address_sanitizer(body: str, what: str) -> None:
    shared = "__shared__ alignas(64) float s[32]; " if "s[" in body else ""
    text = kernel("k", "float* x, float* y", f"{shared}int t = threadIdx.x; {body}")
    code = (
        "import ctypes as c; from cuda_emulated import Emulated\n"
        f"module = Emulated({text!r}, 'address')\n"
        "libc = c.CDLL(None); libc.malloc.restype = c.c_void_p\n"
        "values = [c.c_void_p(libc.malloc(128)) for _ in range(2)]\n"
        "params = (c.c_void_p * 2)(*(c.addressof(v) for v in values))\n"
        "for _ in range(3): module.library.k_emulated(2, 1, 1, 32, 0, params)\n"
        "print('ran')"
    )
    done = run(code, sanitizer_environment())
    if what:
        assert done.returncode != 0 and f"AddressSanitizer: {what}" in done.stderr, done.stderr
    else:
        assert done.stdout == "ran\n" and not done.stderr, done.stderr
