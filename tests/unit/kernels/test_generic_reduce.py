"""Reductions, softmax and normalizations over any axes, in any layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import dtype
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Problem
from tests.support.harness import chain, check, one, scalar

N, B = "f32[2, 24, 5, 19]", "f32[2, 24, 5, 19]@NCHW16c"
REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSumExp")


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes, keepdims", [((2, 3), 1), ((1,), 0), ((0, 1, 2, 3), 0), ((3,), 0)])
def test_reductions(op: str, axes: Any, keepdims: int, tmp_path: Path) -> None:
    for kind in (N, B):
        check(one(f"Reduce{op}", kind, axes=axes, keepdims=keepdims), "generic_reduce", tmp_path)


@pytest.mark.parametrize("kind", ["f64", "i32", "i64", "u8", "f16", "bf16"])
@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "L2", "LogSumExp"])
def test_reductions_of_other_types(op: str, kind: str, tmp_path: Path) -> None:
    check(one(f"Reduce{op}", f"{kind}[3, 4, 21]", axes=(2,)), "generic_reduce", tmp_path)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("kind", [N, B, "i32[2, 24, 5, 19]"])
@pytest.mark.parametrize("axis, last", [(1, 0), (3, 0), (3, 1)])
def test_positions_of_extremes(op: str, kind: str, axis: int, last: int, tmp_path: Path) -> None:
    check(one(op, kind, axis=axis, keepdims=last, select_last_index=last), "generic_reduce", tmp_path)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("kind", ["f32[4, 5]", "f64[4, 5]", "f16[4, 5]"])
@pytest.mark.parametrize("axis, last", [(0, 0), (1, 0), (1, 1)])
def test_positions_of_nan(op: str, kind: str, axis: int, last: int, tmp_path: Path) -> None:
    p = one(op, kind, axis=axis, keepdims=1, select_last_index=last)
    x = np.arange(20.0).reshape(4, 5).astype(dtype(kind[:3]).numpy)
    x[0, 1] = x[0, 3] = x[2, 1] = x[3] = np.nan
    check(p, "generic_reduce", tmp_path, [x])


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("kind", ["f32[3, 7, 40]", "i32[3, 7, 40]", "f32[3, 7, 40]@NCW16c"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_positions_among_equals_and_the_worst_of_all(op: str, kind: str, axis: int, tmp_path: Path) -> None:
    """The first of equals, also where all are what a search starts from."""
    p, real = one(op, kind, axis=axis, keepdims=1), kind.startswith("f")
    x = np.random.default_rng(0).integers(0, 2, (3, 7, 40)).astype(np.float32 if real else np.int32)
    edge = (np.inf if real else np.iinfo(np.int32).max) * (-1 if op == "ArgMax" else 1)
    x[:, :, 5] = x[:, 2, :] = x[1, :, :] = edge if real or op == "ArgMin" else np.iinfo(np.int32).min
    check(p, "generic_reduce", tmp_path, [x])


def test_maps_before_and_after_a_reduction(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        y = build("ReduceMean", build("Relu", build("Mul", x, scalar(2.0))), axes=(2, 3), keepdims=1)
        return build("Reshape", build("Add", y, scalar(1.0)), shape=(2, 24))

    check(chain([B], body), "generic_reduce", tmp_path)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("kind, out", [(N, ""), (B, "NCHW16c"), (N, "NCHW16c")])
def test_softmax(op: str, axis: int, kind: str, out: str, tmp_path: Path) -> None:
    check(one(op, kind, layouts=(out,), axis=axis), "softmax", tmp_path)


@pytest.mark.parametrize("kind", ["f32[1, 1000]", "f64[3, 21]", "f16[3, 21]"])
def test_softmax_of_rows(kind: str, tmp_path: Path) -> None:
    check(one("Softmax", kind), "softmax", tmp_path)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
@pytest.mark.parametrize("row", [1, 2, 7, 15, 17, 49, 197, 1000, 1025])
def test_softmax_of_rows_of_any_length(op: str, where: str, row: int, tmp_path: Path) -> None:
    """The last row ends where the memory does."""
    x = (3 * np.random.default_rng(row).standard_normal((8, row))).astype("f4")
    x[1, -1], x[2, 0], x[3, row // 2], x[4], x[5] = np.nan, np.inf, -np.inf, -np.inf, np.inf
    x[6] -= 200.0 * np.arange(row) / row  # down to what vanishes
    with np.errstate(invalid="ignore"):
        check(one(op, f"f32[8, {row}]", where=where), "softmax", tmp_path, [x])


def exponentials(p: Problem) -> int:
    """How many vectors of exponentials a softmax's code has."""
    from edgec.targets import built_for

    with built_for.core(p.target.cpu):
        code = str(ROWS["softmax"].emit(p, ROWS["softmax"].choices(p)[0], "kern").function)
    return code.count("T.float32(-87.0)")


@pytest.mark.parametrize("row", [1000, 1040, 30000])
def test_exponentials_are_computed_once(row: int) -> None:
    """A long row keeps them in the result."""
    vectors = 4 + -(-row // 16) % 4  # a turn of the loop, and what is left
    assert exponentials(one("Softmax", f"f32[8, {row}]")) == vectors
    halved = chain([f"f32[8, {row}]"], lambda x: build("Mul", build("Softmax", x, axis=-1), scalar(0.5)))
    assert exponentials(halved) == (vectors if row <= 1024 else 2 * vectors)


def test_exponentials_of_channels_are_computed_once_unless_they_crowd_a_cache_set() -> None:
    once = exponentials(one("Softmax", "f32[1, 21, 65, 64]", axis=1))
    assert exponentials(one("Softmax", "f32[1, 21, 64, 64]", axis=1)) == 2 * once * 4  # vectors side by side


def accumulators(p: Problem, row: str) -> int:
    """How many vectors of totals lie side by side, at most."""
    from edgec.targets import built_for

    with built_for.core(p.target.cpu):
        code = str(ROWS[row].emit(p, ROWS[row].choices(p)[0], "kern").function)
    return max((int(n) // p.target.cpu.lanes(32) for n in re.findall(r"alloc_local\(\((\d+),\)", code)), default=1)


@pytest.mark.parametrize(("size", "vectors"), [(64, 4), (63, 1)], ids=["one set", "many sets"])
def test_planes_that_crowd_a_cache_set_are_read_some_vectors_at_a_time(size: int, vectors: int) -> None:
    """Of each plane a line or more: alone it would be gone before its neighbours are read."""
    for op, row in (("Softmax", "softmax"), ("LpNormalization", "norm")):
        assert accumulators(one(op, f"f32[1, 21, {size}, 64]", axis=1), row) == vectors


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMean"])
def test_reductions_over_outer_axes_fold_vectors_side_by_side(op: str) -> None:
    assert accumulators(one(op, "f32[1, 21, 63, 63]", axes=[1]), "generic_reduce") == 4
    assert accumulators(one(op, "f32[1, 21, 4, 5]", axes=[1]), "generic_reduce") == 1
    assert accumulators(one(op, "f32[1, 21, 63, 63]", axes=[1], where="cortex-m7"), "generic_reduce") == 1  # no cache


@pytest.mark.parametrize("shape, axis", [("4, 21, 33", 1), ("2, 21, 16, 64", 1), ("37, 5, 16", 0), ("3, 2, 1100", 2)])
def test_softmax_over_any_axis_and_length(shape: str, axis: int, tmp_path: Path) -> None:
    check(one("Softmax", f"f32[{shape}]", axis=axis), "softmax", tmp_path)


@pytest.mark.parametrize("kind, out", [(N, ""), (B, "NCHW16c")])
def test_normalizations(kind: str, out: str, tmp_path: Path) -> None:
    check(one("LayerNormalization", kind, "f32[19]", "f32[19]", layouts=(out,)), "norm", tmp_path)
    check(one("LayerNormalization", kind, "f32[24, 5, 19]", "f32[5, 19]", layouts=(out,), axis=1), "norm", tmp_path)
    check(one("InstanceNormalization", kind, "f32[24]", "f32[24]", layouts=(out,)), "norm", tmp_path)
    check(one("LpNormalization", kind, layouts=(out,), axis=1, p=2), "norm", tmp_path)
    check(one("LpNormalization", kind, layouts=(out,), axis=-1, p=1), "norm", tmp_path)


@pytest.mark.parametrize("row", [28, 49, 1000, 1024])
def test_vectors_lie_along_reduced_rows(row: int) -> None:
    """Across rows each lane would be a load of its own, also where a row is no whole number of vectors."""
    from edgec.targets import built_for

    p = one("ReduceSum", f"f32[64, {row}]", axes=(1,))
    kernel = ROWS["generic_reduce"]
    with built_for.core(p.target.cpu):
        code = str(kernel.emit(p, kernel.choices(p)[0], "kern").function)
    assert "T.vectorized(16)" in code
    assert f"v * {row}" not in code
