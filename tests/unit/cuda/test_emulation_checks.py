"""The checks of emulated kernels: races that no barrier orders, and AddressSanitizer."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler.errors import EdgecError
from edgec.targets.cuda.emulation import sanitizer_environment
from tests.support.cuda_emulated import Emulated, Fault, kernel
from tests.unit.cuda.test_emulation_blocks import MATMUL, PIPELINE, product, run

RACES = [
    ("s[t] = x[t]; y[t] = s[63 - t];", "race in shared memory: thread .* byte .* of s, which thread .*; epoch 0"),
    ("s[t] = x[t]; __syncthreads(); y[t] = s[63 - t]; s[t] = 3.0f;", "race in shared memory: .*; epoch 1"),
    ("s[t / 2] = t;", "race in shared memory: thread 1 writes byte 0 of s, which thread 0 wrote; epoch 0"),
    ("s[t] = x[t]; ec_syncwarp(); y[t] = s[63 - t];", "race in shared memory"),
    ("ec_cp16(s + t * 4, x + t * 4); ec_cp_commit(); ec_cp_wait0(); y[t] = s[(t * 4 + 4) % 256];", "race|under way"),
    ("ec_cp16(s + t * 4, x + t * 4); ec_cp_commit(); __syncthreads(); y[t] = s[t];",
     "while a cp.async of thread .* into it is under way"),
    ("s[t] = x[t]; __syncthreads(); y[t] = s[63 - t]; ec_cp4_if(s + t, x + t, 1); ec_cp_commit(); ec_cp_wait0();",
     "race in shared memory"),
    ("uint r[4]; ((half*)s)[t] = x[t]; ec_ldmatrix4(r, s + t % 32 * 4);", "race in shared memory"),
    ("x[t / 2] = 1.0f;", "race in global memory: thread 1 writes .* which thread 0 wrote"),
    ("y[t] = x[0]; if (t == 9) { x[0] = 1.0f; }", "race in global memory"),
    ("if (t == 0) { x[0] = blockIdx.x; }", "race in global memory: .* in another block thread 0 wrote"),
    ("if (blockIdx.x == 0) { y[t] = x[t]; } if (blockIdx.x == 2) { x[t] = 1.0f; }", "race in global memory"),
    ("*(int64_t*)(x + 1 + 2 * t) = (int64_t)3;", "an access at an address that is no multiple of 8"),
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


@pytest.mark.parametrize(("body", "what"), [
    ("y[t] = x[t + 1];", "heap-buffer-overflow"),  # of the caller's buffer
    ("s[t + 1] = x[t]; __syncthreads(); y[t] = s[t];", "heap-buffer-overflow"),
    ("s[t] = x[t]; __syncthreads(); y[t] = s[t]; "
     "if (t == 3) { float l[4]; for (int i = 0; i < t + 2; ++i) { l[i] = y[i]; } ec_store16(y, l); }",
     "stack-buffer-overflow"),
    ("s[t] = x[t]; __syncthreads(); y[t] = ec_warp_sum(s[t]);", ""),
    ("y[t] = x[t];", ""),
])  # fmt: skip
def test_address_sanitizer(body: str, what: str) -> None:
    try:
        environment = sanitizer_environment()
    except EdgecError as error:
        pytest.skip(str(error))
    shared = "__shared__ alignas(64) float s[32]; " if "s[" in body else ""
    text = kernel("k", "float* x, float* y", f"{shared}int t = threadIdx.x; {body}")
    code = (
        "import ctypes as c; from tests.support.cuda_emulated import Emulated\n"
        f"module = Emulated({text!r}, 'address')\n"
        "libc = c.CDLL(None); libc.malloc.restype = c.c_void_p\n"
        "values = [c.c_void_p(libc.malloc(128)) for _ in range(2)]\n"
        "params = (c.c_void_p * 2)(*(c.addressof(v) for v in values))\n"
        "for _ in range(3): module.library.k_emulated(2, 1, 1, 32, 0, params)\n"
        "print('ran')"
    )
    done = run(code, environment)
    if what:
        assert done.returncode != 0 and f"AddressSanitizer: {what}" in done.stderr, done.stderr
    else:
        assert done.stdout == "ran\n" and not done.stderr, done.stderr
