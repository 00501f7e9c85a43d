"""What a warp does together on a CPU: shuffles, and matrices whose fragments lie as the PTX manual says."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.cuda_emulated import Emulated, kernel

RNG = np.random.default_rng(6)


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
    "ec_ldmatrix4_t(a, a_ptr + (t % 8 + t / 16 * 8) * 16 + t / 8 % 2 * 8); "
    "ec_ldmatrix2(b, b_ptr + t % 8 * 16 + t / 8 % 2 * 8);"
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
