"""What a block does together on a CPU: shared memory, asynchronous copies, barriers, grids; and how faults end it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgec.targets.cuda import emulation
from edgec.targets.cuda.emulation import Check
from tests.support.cuda_emulated import Emulated, Fault, kernel

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(7)


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
def test_tiled_matrix_products(check: Check) -> None:
    module = Emulated(TILED + STAGED, check)
    assert product(module, "plain")
    assert product(module, "staged", 6 * 4096)


def test_fibers_of_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "_machine", lambda: ["-DEC_UCONTEXT"])
    assert product(Emulated(STAGED), "staged", 6 * 4096)


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
    text = kernel("k", "int* y", """  int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  y[block * 8 + threadIdx.x] += 1 + (int)blockIdx.z;""", 8)  # fmt: skip
    for text_ in (text, text.replace("{\n", "{\n__syncthreads();\n", 1)):
        y = np.zeros((4, 3, 2, 8), np.int32)
        Emulated(text_).launch("k", (2, 3, 4), 8, y)
        assert np.array_equal(y, np.broadcast_to(np.arange(1, 5)[:, None, None, None], y.shape))


# ---- Faults ---------------------------------------------------------------------------------------------------------
FAULTS = [
    ("if (threadIdx.x < 5) { __syncthreads(); } else { ec_syncwarp(); }",
     "thread 0 waits for ever at __syncthreads, thread 5 at __syncwarp"),
    ("if (threadIdx.x < 5) { return; } x[0] = ec_warp_sum(1.0f);",
     "thread 5 waits for ever at ec_warp_sum: other threads have ended"),
    ("if (threadIdx.x < 5) { x[0] = ec_warp_sum(1.0f); } else { ec_syncwarp(); }",
     "__syncwarp, while others of its warp wait at ec_warp_sum"),
    ("alignas(64) float v[4]; ec_load16(v, x + 1);", "ec_load16 at an address that is no multiple of 16"),
    ("__shared__ float s[8]; ec_cp16(s + 1, x);", "the address in shared memory is no multiple of 16"),
    ("__shared__ float s[8]; ec_cp16(s, x + 1);", "the address in global memory is no multiple of 16"),
    ("__shared__ float s[8]; ec_cp16(s + 8, x);", "outside of the block's shared memory"),
    ("__shared__ float s[8]; uint r[4]; ec_ldmatrix4(r, s + 2);",
     "ldmatrix: the address in shared memory is no multiple of 16"),
    ("__shared__ float s[8]; uint r[4]; ec_ldmatrix4(r, x);",
     "ldmatrix: an address outside of the block's shared memory"),
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
        "import numpy as np; from tests.support.cuda_emulated import Emulated\n"
        "from tests.support.cuda_emulated import kernel\n"
        "module = Emulated(kernel('k', 'float* x', 'if (threadIdx.x) { __syncthreads(); ec_syncwarp(); }'))\n"
        "module.library.ec_emulated_on_fault(None); module.launch('k', (1,), 32, np.zeros(1, np.float32))"
    )
    done = run(code)
    assert done.returncode < 0 and "emulated kernel k, block (0, 0, 0), thread" in done.stderr


def run(code: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **(extra or {})},
        capture_output=True,
        text=True,
        check=False,
    )
