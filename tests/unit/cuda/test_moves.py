"""Rows of the GPU that transpose, cut, join and resize: under emulation they give the operators' meaning."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler import op as ops
from edgec.compiler.ir import Array, Value
from edgec.compiler.registry import Problem
from tests.support.cuda_rows_run import agrees, arrays_for, offers, problem, value

TURNS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((70, 40), (1, 0)),
    ((2, 33, 65), (0, 2, 1)),
    ((1, 24, 5, 8), (0, 2, 3, 1)),
    ((2, 9, 4, 16), (0, 2, 1, 3)),
    ((9, 64, 64), (2, 1, 0)),
]


def numbers_for(of: Problem) -> list[Array]:
    rng = np.random.default_rng(1)
    from edgec.compiler.dtypes import dtype

    return [(rng.standard_normal(v.shape) * 50).astype(dtype(v.type.dtype).numpy) for v in of.body.inputs]


@pytest.mark.parametrize("kind", ["f32", "f16", "i8", "bool"])
def test_transposes(kind: str) -> None:
    for shape, perm in TURNS:
        x = value(kind, *shape)
        of = problem(ops.build("Transpose", x, perm=perm), x)
        agrees(of, "turn__cuda", numbers_for(of))


def test_layouts_and_what_stands_around_a_transpose() -> None:
    x = value("f16", 2, 24, 9, 8)
    of = problem(ops.build("Transpose", x, perm=(0, 1, 3, 2)), x)
    assert {(c.layouts_in[0], c.layouts_out[0]) for c in offers(of, "turn__cuda")} >= {("", "NHWC"), ("NHWC", "")}
    agrees(of, "turn__cuda")
    x, y, z = value("f16", 40, 24), value("f16", 24, 40), value("f16", 40)
    turned = ops.build("Transpose", ops.build("Relu", x), perm=(1, 0))
    agrees(problem(ops.build("Mul", ops.build("Add", turned, y), z), x, y, z), "turn__cuda")


def test_slices_and_repeats_in_stretches() -> None:
    x = value("f16", 4, 6, 48)
    sliced = ops.build("Slice", x, starts=(8, 1), axes=(2, 1), steps=(1, 2), ends=(40, 6))
    agrees(problem(sliced, x), "turn__cuda")
    x = value("f32", 4, 1, 20)
    agrees(problem(ops.build("Expand", x, shape=(4, 3, 20)), x), "turn__cuda")


def test_numbers_that_move_do_not_race() -> None:
    x = value("f16", 70, 72)
    agrees(problem(ops.build("Transpose", x, perm=(1, 0)), x), "turn__cuda", check="race")


def resized(x: Value, mode: str, height: int, width: int) -> Value:
    n, c, h, w = x.shape
    scales = (1.0, 1.0, height / h, width / w)
    return ops.build("Resize", x, sizes=(n, c, height, width), scales=scales, mode=mode)


@pytest.mark.parametrize("kind", ["f32", "f16", "i8"])
def test_joining_along_neighbours_and_across(kind: str) -> None:
    x, y, z = value(kind, 2, 16, 3, 5), value(kind, 2, 32, 3, 5), value(kind, 2, 8, 3, 5)
    of = problem(ops.build("Concat", x, y, z, axis=1), x, y, z)
    assert ("NHWC", "NHWC", "NHWC") in {c.layouts_in for c in offers(of, "map_runs__cuda")}
    agrees(of, "map_runs__cuda", numbers_for(of))
    x, y = value(kind, 3, 2, 16), value(kind, 3, 5, 16)
    of = problem(
        ops.build("Relu", ops.build("Concat", x, y, axis=1)) if kind != "i8" else ops.build("Concat", x, y, axis=1),
        x,
        y,
    )
    agrees(of, "map_runs__cuda", numbers_for(of))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_with_channels_side_by_side(mode: str) -> None:
    for kind in ("f32", "f16"):
        x, y = value(kind, 1, 16, 5, 6), value(kind, 1, 16, 9, 13)
        of = problem(ops.build("Add", resized(x, mode, 9, 13), y), x, y)
        assert {c.layouts_in for c in offers(of, "map_runs__cuda")} == {("NHWC", "NHWC")}
        agrees(of, "map_runs__cuda")


def test_padding_gathering_and_repeating() -> None:
    for mode in ("constant", "reflect"):
        x = value("f16", 2, 8, 4, 5)
        padded = ops.build("Pad", x, pads=(0, 0, 1, 2, 0, 0, 0, 1), mode=mode)
        agrees(problem(padded, x), "map_runs__cuda")
    table, at, more = value("f16", 30, 24), value("i64", 2, 7), value("f16", 7, 24)
    of = problem(ops.build("Add", ops.build("Gather", table, at), more), table, at, more)
    arrays = arrays_for(of)
    arrays[1] = np.random.default_rng(2).integers(-30, 30, (2, 7))
    agrees(of, "map_runs__cuda", arrays)
    x, scale = value("f16", 4, 6, 16), value("f16", 1, 16)
    cut = ops.build("Slice", x, starts=(8, 1), axes=(2, 1), steps=(1, 1), ends=(16, 5))
    agrees(problem(ops.build("Tile", cut, repeats=(2, 1, 1)), x), "map_runs__cuda")
    agrees(problem(ops.build("Mul", ops.build("Expand", scale, shape=(4, 6, 16)), x), scale, x), "map_runs__cuda")
