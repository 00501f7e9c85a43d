"""Products with weights of 4 and 8 bits in blocks: kernels give the interpreter's numbers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_generic_harness import TARGETS, chain, check

from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Problem, choices, laid_out

FEW, PANEL = "matmul_few_bits", "matmul_few_bits_panel"
CASES = [  # rows, inner, columns, block
    (1, 64, 130, 32),
    (1, 70, 40, 16),
    (2, 1024, 70, 32),
    (3, 40, 1, 8),
    (8, 96, 33, 64),
    (5, 640, 96, 128),
    (17, 1200, 50, 32),
]


def product(m: int, k: int, n: int, block: int, kind: str, scale: str, zeros: bool, where: str) -> Problem:
    blocks = -(-k // block)

    def body(x: Value, w: Value, s: Value, *more: Value) -> Value:
        zero = more[0] if zeros else const(np.asarray(1 << dtype(kind).bits - 1, dtype(kind).numpy))
        real = build("DequantizeLinear", w, s, zero, axis=0, block=block, to="f32")
        return build("Add", build("MatMul", x, real), more[-1])

    numbers = [f"{kind}[{blocks}, {n}]"] if zeros else []
    inputs = [f"f32[{m}, {k}]", f"{kind}[{k}, {n}]", f"{scale}[{blocks}, {n}]", *numbers, f"f32[{n}]"]
    p = chain(inputs, body, [], where)
    return replace(p, constants=frozenset(range(1, len(inputs))))


def whole(p: Problem) -> list[Any]:
    """All codes, and scales that are powers of two: every sum is exact in f32."""
    rng = np.random.default_rng(0)

    def of(v: Value) -> Any:
        row = dtype(v.type.dtype)
        if row.is_whole:
            return rng.integers(0, 1 << row.bits, v.shape).astype(row.numpy)
        if v.type.dtype == "f16" or (len(v.shape) == 2 and v.name == "a2"):
            return (2.0 ** rng.integers(-3, 2, v.shape)).astype(row.numpy)
        return rng.integers(-4, 5, v.shape).astype(np.float32)

    return [of(v) for v in p.body.inputs]


def same(p: Problem, row: str, folder: Path) -> None:
    assert ROWS[row].accepts(p) is True, ROWS[row].accepts(p)
    for c in ROWS[row].choices(p):
        layouts = [text or "" for text in c.layouts_in]
        laid = replace(p, body=laid_out(p.body, layouts, c.layouts_out))
        check(laid, row, folder, whole(p), tolerance=0.0)
        break


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("m", "k", "n", "block"), CASES)
def test_products(m: int, k: int, n: int, block: int, zeros: bool, where: str, tmp_path: Path) -> None:
    p = product(m, k, n, block, "u4", "f32", zeros, where)
    same(p, FEW, tmp_path)
    same(p, PANEL, tmp_path)
    if m == 3:
        same(p, "generic_contract", tmp_path)
