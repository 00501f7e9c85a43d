"""Products with weights of 4 and 8 bits in blocks: kernels give the interpreter's numbers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Problem, choices, laid_out
from edgec.targets.kernels.few_bits import rows as few_bits_rows
from tests.support.harness import TARGETS, chain, check

FEW, PANEL = "matmul_few_bits", "matmul_few_bits_panel"
CASES = [  # rows, inner, columns, block
    (1, 64, 130, 32),
    (1, 70, 40, 16),
    (1, 96, 3, 32),
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
        if v.name == "x2":
            return (2.0 ** rng.integers(-3, 2, v.shape)).astype(row.numpy)
        return rng.integers(-4, 5, v.shape).astype(np.float32)

    return [of(v) for v in p.body.inputs]


def same(p: Problem, row: str, folder: Path) -> None:
    assert ROWS[row].accepts(p) is True, ROWS[row].accepts(p)
    c = ROWS[row].choices(p)[0]
    layouts = [text or "" for text in c.layouts_in]
    check(replace(p, body=laid_out(p.body, layouts, c.layouts_out)), row, folder, whole(p), tolerance=0.0)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("m", "k", "n", "block"), CASES)
def test_products(m: int, k: int, n: int, block: int, zeros: bool, where: str, tmp_path: Path) -> None:
    p = product(m, k, n, block, "u4", "f32", zeros, where)
    same(p, FEW, tmp_path)
    same(p, PANEL, tmp_path)
    if m == 3:
        same(p, "generic_contract", tmp_path)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize(("kind", "scale", "zeros"), [("u8", "f32", True), ("u4", "f16", False), ("u2", "f16", True)])
def test_other_bits_and_scales(kind: str, scale: str, zeros: bool, where: str, tmp_path: Path) -> None:
    for row in (FEW, PANEL):
        same(product(2, 200, 70, 32, kind, scale, zeros, where), row, tmp_path)


@pytest.mark.parametrize("tile", few_bits_rows.TILES)
def test_every_tile(tile: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that fill no tile, and columns that fill no vectors."""
    monkeypatch.setattr(few_bits_rows, "TILES", (tile,))
    p = product(11, 200, 150, 32, "u4", "f32", True, "x86-avx512")
    assert [(c.get("rows"), c.get("vectors")) for c in ROWS[FEW].choices(p)] == [tile]
    same(p, FEW, tmp_path)


def test_rows_that_displace_each_other_are_copied(tmp_path: Path) -> None:
    """In several blocks of rows, the last of which is not full."""
    p = product(150, 1024, 40, 128, "u4", "f32", False, "x86-avx512")
    (offer,) = ROWS[PANEL].choices(p)
    assert offer.get("apart") > 1024 and 1 < offer.get("tiles") < 150 // offer.get("rows")
    same(p, PANEL, tmp_path)


def test_many_rows_take_a_panel() -> None:
    """Widened once for all rows; few rows widen in registers."""
    for m, row in ((1, FEW), (8, FEW), (64, PANEL), (512, PANEL)):
        assert choices(product(m, 1024, 1024, 32, "u4", "f32", False, "x86-avx512"))[0].row == row


@pytest.mark.arm
@pytest.mark.parametrize("m", [1, 5, 40])
@pytest.mark.parametrize("where", ["arm", "rpi5"])
def test_products_on_arm(m: int, where: str) -> None:
    from edgec.targets.measure import Built

    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if not compiler or not emulator:
        pytest.skip("needs a cross compiler and an emulator for aarch64")
    p = product(m, 72, 37, 16, "u4", "f16", True, where)
    for offer in (c for c in choices(p) if c.row in (FEW, PANEL)):
        arrays = whole(p)
        np.testing.assert_array_equal(Built(p, offer, arrays).emulate(compiler, emulator), run(p.body, arrays)[0])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"block": 12}, "no whole words"),
        ({"kind": "i4"}, "weights are i4"),
        ({"where": "cortex-m7"}, "needs vector registers"),
    ],
)
def test_what_is_refused(change: dict[str, Any], why: str) -> None:
    given = {"m": 1, "k": 48, "n": 8, "block": 16, "kind": "u4", "scale": "f32", "zeros": True, "where": "x86"} | change
    assert why in str(ROWS[FEW].accepts(product(**given)))
