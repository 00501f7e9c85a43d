"""Resizing of blocked channels gives the operator's meaning in every mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.registry import ROWS, Problem
from edgec.compiler.target import read_target, target_files


def problem_of(shape: tuple[int, ...], size: tuple[int, ...], on: str, then: str = "", **attrs: Any) -> Problem:
    x = Value(Node("Input", (), (Type("f32", shape),), {}, "x"))
    scales = tuple(float(b / a) for a, b in zip(shape, (*shape[:2], *size), strict=True))
    y = ops.build("Resize", x, sizes=(*shape[:2], *size), scales=scales, **attrs)
    inputs = [x]
    if then == "Add":
        inputs.append(Value(Node("Input", (), (Type("f32", y.shape),), {}, "other")))
        y = ops.build("Add", y, inputs[-1])
    elif then:
        y = ops.build(then, y)
    return Problem(Graph("body", tuple(inputs), (y,)), read_target(target_files()[on].read_text(), on), 2)


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize(
    ("shape", "size", "attrs"),
    [
        ((1, 20, 5, 6), (10, 12), {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}),
        ((2, 16, 5, 6), (7, 4), {"mode": "nearest"}),
        ((1, 20, 5, 6), (10, 12), {"mode": "linear"}),
        ((1, 9, 5, 6), (8, 5), {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
        ((1, 16, 5, 6), (5, 12), {"mode": "linear"}),
        ((1, 16, 5, 6), (15, 6), {"mode": "linear"}),
        ((1, 20, 5, 6), (9, 13), {"mode": "cubic"}),
        ((1, 20, 7), (13,), {"mode": "linear"}),
        ((2, 37, 5, 6), (10, 32), {"mode": "linear"}),
        ((1, 3, 5, 6), (6, 21), {"mode": "cubic"}),
        ((1, 20, 7), (19,), {"mode": "nearest"}),
    ],
    ids=str,
)
def test_modes(shape: tuple[int, ...], size: tuple[int, ...], attrs: dict[str, Any], on: str) -> None:
    check(problem_of(shape, size, on, **attrs))


@pytest.mark.parametrize("then", ["Relu", "Add"])
def test_elementwise_operators_follow(then: str) -> None:
    check(problem_of((1, 20, 5, 6), (10, 12), "x86", then, mode="linear"))


def check(problem: Problem) -> None:
    from edgec.targets.measure import Measured

    row = ROWS["resize_f32_blocked"]
    assert row.accepts(problem) is True
    arrays = [np.random.default_rng(2).standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]
    want, lanes = run(problem.body, arrays)[0], problem.target.cpu.lanes(32)
    offers = row.choices(problem)
    wide = want.shape[-1] >= lanes and len(arrays) == 1 and "Relu" not in [n.op for n in problem.body.nodes()]
    assert [c.layouts_out[0] == "" for c in offers] == ([False, True] if wide else [False])
    for choice in offers:
        np.testing.assert_allclose(Measured(problem, choice, arrays).run(parts=2), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_bytes_are_resized_where_channels_lie_in_lanes(mode: str, on: str) -> None:
    """There a position serves a whole vector, and what the row offers says so: int8 is not given up for it."""
    from edgec.targets.measure import Measured

    x = Value(Node("Input", (), (Type("f32", (1, 20, 9, 7)),), {}, "x"))
    y = ops.build("Resize", x, sizes=(1, 20, 18, 14), scales=(1.0, 1.0, 2.0, 2.0), mode=mode)
    y = ops.build("QuantizeLinear", y, ops.const(np.asarray(0.02, np.float32)), ops.const(np.asarray(120, np.uint8)))
    problem = Problem(Graph("body", (x,), (y,)), read_target(target_files()[on].read_text(), on), 1)
    offers = {c.layouts_out: c for c in ROWS["generic_map"].choices(problem) if c.layouts_in[0] or not c.layouts_out[0]}
    blocks, rows = offers[("NHWC16c",)], offers[("",)]
    assert blocks.layouts_in == ((f"NCHW{problem.target.cpu.lanes(32)}c"),)
    assert blocks.cost_us < rows.cost_us / 2
    values = np.random.default_rng(2).standard_normal((1, 20, 9, 7)).astype(np.float32)
    got = Measured(problem, blocks, [values]).run().astype(int)
    np.testing.assert_allclose(got, run(problem.body, [values])[0].astype(int), atol=1)


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("kind", ["u8", "i8"])
@pytest.mark.parametrize("channels", [3, 9, 20, 32])
@pytest.mark.parametrize(("size", "attrs"), [((10, 12), {"mode": "linear"}), ((8, 5), {"mode": "cubic"})], ids=str)
def test_bytes_of_what_is_resized_are_the_interpreters(
    size: tuple[int, int], attrs: dict[str, Any], channels: int, kind: str, on: str
) -> None:
    from edgec.targets.measure import Measured

    (x,), (y,) = (g := problem_of((1, channels, 5, 6), size, on, **attrs).body).inputs, g.outputs
    low, high, zero = (0, 255, 120) if kind == "u8" else (-128, 127, -8)
    q = ops.build("Edgec.Rescale", y, ops.const(np.float32(40)), zeros=(0,), to=kind, zero=zero, low=low, high=high)
    problem = Problem(Graph("body", (x,), (q,)), read_target(target_files()[on].read_text(), on), 2)
    row = ROWS["resize_f32_blocked"]
    assert row.accepts(problem) is True
    (choice,) = row.choices(problem)
    assert choice.layouts_out == (("NHWC4c" if channels == 3 else "NHWC16c"),)
    values = np.random.default_rng(2).standard_normal(x.shape).astype(np.float32)
    got = Measured(problem, choice, [values]).run(parts=2)
    np.testing.assert_array_equal(got, run(problem.body, [values])[0])


def test_a_resize_of_channels_has_no_such_offer() -> None:
    x = Value(Node("Input", (), (Type("f32", (1, 16, 6, 6)),), {}, "x"))
    y = ops.build("Resize", x, sizes=(1, 32, 6, 6), scales=(1.0, 2.0, 1.0, 1.0), mode="linear")
    problem = Problem(Graph("body", (x,), (y,)), read_target(target_files()["x86"].read_text(), "x86"), 1)
    assert all(c.layouts_in == (None,) for c in ROWS["generic_map"].choices(problem))
