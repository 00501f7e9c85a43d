"""Rows of the GPU that fold rows and columns of numbers: under emulation they give the operators' meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler import op as ops
from edgec.compiler.ir import Value
from tests.support.cuda_rows_run import agrees, arrays_for, offers, problem, source, value

BYTES = np.random.default_rng(1).integers(0, 256, (5, 64)).astype(np.uint8)
ROWS = [(128, 96), (3, 1000), (5, 7), (2, 3, 40), (1, 2049), (7, 1), (600, 33), (9, 20, 12)]


@pytest.mark.parametrize("shape", [s for s in ROWS if s[-1] > 1], ids=str)
@pytest.mark.parametrize("kind", ["f32", "f16"])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax(shape: tuple[int, ...], kind: str, op: str) -> None:
    x = value(kind, *shape)
    agrees(problem(ops.build(op, x, axis=-1), x), "softmax_lines__cuda")


@pytest.mark.parametrize("shape", [s for s in ROWS if s[-1] > 1], ids=str)
@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_layer_normalization_and_what_follows(shape: tuple[int, ...], kind: str) -> None:
    x, scale, bias, more = value(kind, *shape), value(kind, shape[-1]), value(kind, 1), value(kind, *shape)
    y = ops.build("LayerNormalization", x, scale, bias)
    y = ops.build("Add", ops.build("Mul", ops.build("Relu", y), more), x)
    agrees(problem(y, x, scale, bias, more), "norm_lines__cuda")


def test_normalization_over_several_axes() -> None:
    x, w, b = value("f16", 3, 4, 5, 8), value("f16", 5, 1), value("f16", 4, 5, 8)
    agrees(problem(ops.build("LayerNormalization", x, w, b, axis=1), x, w, b), "norm_lines__cuda")
    x, w, b = value("f32", 3, 4, 5, 9), value("f32", 4), value("f32", 4)
    agrees(problem(ops.build("InstanceNormalization", x, w, b), x, w, b), "norm_lines__cuda")
    x = value("f32", 3, 4, 40)
    for p in (1, 2):
        agrees(problem(ops.build("LpNormalization", x, p=p), x), "norm_lines__cuda")


def test_bytes_and_halves_in_one_kernel() -> None:
    """Sixteen bytes at once are two accesses of halves."""
    x, w, b = value("f16", 5, 64), value("f16", 64), value("f16", 64)
    y = ops.build("Relu", ops.build("LayerNormalization", x, w, b))
    agrees(problem(ops.build("Cast", ops.build("Mul", y, y), to="u8"), x, w, b), "norm_lines__cuda")
    q = value("u8", 5, 64)
    total = ops.build("Add", ops.build("LayerNormalization", x, w, b), ops.build("Cast", q, to="f16"))
    agrees(problem(total, x, w, b, q), "norm_lines__cuda", [*arrays_for(problem(y, x, w, b)), BYTES])


def test_rows_too_long_for_registers() -> None:
    for kind in ("f32", "f16"):
        x, w, b = value(kind, 2, 20001), value(kind, 20001), value(kind, 20001)
        agrees(problem(ops.build("LayerNormalization", x, w, b), x, w, b), "norm_lines__cuda")
        agrees(problem(ops.build("Softmax", x), x), "softmax_lines__cuda")
        x = value(kind, 1, 20480)
        agrees(problem(ops.build("Add", ops.build("Softmax", x), x), x), "softmax_lines__cuda")


def test_rows_do_not_race() -> None:
    x, w, b = value("f16", 5, 768), value("f16", 768), value("f16", 768)
    agrees(problem(ops.build("LayerNormalization", x, w, b), x, w, b), "norm_lines__cuda", check="race")


def test_softmax_of_infinities() -> None:
    x = value("f32", 3, 300)
    of = problem(ops.build("Softmax", x), x)
    array = arrays_for(of)[0]
    array[0, 5:], array[1, 7], array[2] = -np.inf, np.nan, -np.inf
    agrees(of, "softmax_lines__cuda", [array])


FOLDS = ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceProd", "ArgMax", "ArgMin"]


def reduced(op: str, x: Value, *axes: int, keepdims: int = 0, **attrs: int) -> Value:
    where: dict[str, Any] = {"axis": axes[0]} if op.startswith("Arg") else {"axes": axes}
    return ops.build(op, x, keepdims=keepdims, **where, **attrs)


@pytest.mark.parametrize("op", FOLDS)
def test_reductions_of_rows(op: str) -> None:
    for kind, shape in (("f32", (5, 49)), ("f16", (3, 2, 264)), ("f32", (1, 5000))):
        x = value(kind, *shape)
        agrees(problem(reduced(op, x, len(shape) - 1), x), "reduce_lines__cuda")


@pytest.mark.parametrize("op", [op for op in FOLDS if op != "ReduceLogSumExp"])
def test_reductions_of_columns(op: str) -> None:
    for kind, shape, axis in (("f32", (5, 49), 0), ("f16", (3, 20, 40), 1), ("f32", (2, 3, 5), 1)):
        x = value(kind, *shape)
        agrees(problem(reduced(op, x, axis, keepdims=1), x), "reduce_columns__cuda")


def test_what_stands_around_a_reduction() -> None:
    x, y, z = value("f16", 4, 6, 10), value("f16", 4, 6, 10), value("f16", 4, 6)
    total = reduced("ReduceSum", ops.build("Mul", x, y), 2)
    agrees(problem(ops.build("Relu", ops.build("Add", total, z)), x, y, z), "reduce_lines__cuda")
    turned = ops.build("Transpose", ops.build("Add", x, y), perm=(0, 2, 1))
    agrees(problem(ops.build("Sqrt", ops.build("Abs", reduced("ReduceMax", turned, 2))), x, y), "reduce_lines__cuda")
    z = value("f16", 4, 1, 10)
    total = reduced("ReduceSum", ops.build("Mul", x, y), 1, keepdims=1)
    agrees(problem(ops.build("Add", total, z), x, y, z), "reduce_columns__cuda")


def test_pooling_of_whole_images_in_both_layouts() -> None:
    for kind in ("f32", "f16"):
        x = value(kind, 2, 24, 5, 7)
        of = problem(reduced("ReduceMean", x, 2, 3, keepdims=1), x)
        assert {c.layouts_in for c in offers(of, "reduce_columns__cuda")} == {("NHWC",)}
        agrees(of, "reduce_columns__cuda")
        agrees(of, "reduce_lines__cuda")


def test_pooling_of_a_product_with_channels_side_by_side() -> None:
    """What is summed lies nowhere: its factors do, and say how many blocks count each other."""
    x, y = value("f16", 1, 16, 72, 128), value("f16", 1, 16, 72, 128)
    of = problem(reduced("ReduceMean", ops.build("Mul", x, y), 2, 3, keepdims=1), x, y)
    found = offers(of, "reduce_columns__cuda")
    assert {c.layouts_in for c in found} == {("NHWC", "NHWC")} and all(c.get("splits") > 1 for c in found)
    for choice in found:
        launch = source(of, choice)[1]
        assert launch.grid[0] * launch.grid[1] == choice.get("zeros")
    agrees(of, "reduce_columns__cuda", times=2)


def test_sums_of_bytes() -> None:
    x = value("i8", 2, 32, 5, 7)
    of = problem(ops.build("Edgec.Sum", x, axes=(2, 3), keepdims=0, zero=3), x)
    arrays = [np.random.default_rng(0).integers(-128, 128, (2, 32, 5, 7)).astype(np.int8)]
    for row in ("reduce_lines__cuda", "reduce_columns__cuda"):
        agrees(of, row, arrays)


def test_columns_that_blocks_share() -> None:
    for op, kind in (("ReduceMean", "f32"), ("ArgMax", "f16"), ("ReduceMax", "f16")):
        x = value(kind, 1, 5000, 12)
        of = problem(reduced(op, x, 1), x)
        assert all(c.get("splits") > 1 for c in offers(of, "reduce_columns__cuda"))
        agrees(of, "reduce_columns__cuda", times=2)
        agrees(of, "reduce_columns__cuda", check="race")
