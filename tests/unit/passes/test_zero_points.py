"""Zero points become part of biases where every output has all products, and the answers stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session

RNG = np.random.default_rng(2)


def graph(op: str, x: tuple[int, ...], w: tuple[int, ...], outputs: int, constant: bool = True, **attrs: Any) -> Graph:
    a = Value(Node("Input", (), (Type("i8", x),), {}, "x"))
    b = ops.const(RNG.integers(-128, 128, w).astype(np.int8), "w")
    bias = ops.const(RNG.integers(-(2**31), 2**31, outputs).astype(np.int32), "bias")
    given = Value(Node("Input", (), (bias.type,), {}, "bias"))
    y = ops.build(op, a, b, bias if constant else given, **attrs)
    return Graph("g", (a,) if constant else (a, given), (y,))


def moved(g: Graph) -> Graph:
    return run_pipeline(g, parse_pipeline("zero-points"), Session(verify=3))


@pytest.mark.parametrize(
    "g",
    [
        graph("Edgec.MatMulInteger", (3, 17), (17, 5), 5, a_zero=-128),
        graph("Edgec.MatMulInteger", (2, 3, 17), (17, 5), 1, a_zero=127, b_zero=9),
        graph("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), 4, zero=-7, strides=(2, 2)),
        graph("Edgec.ConvInteger", (1, 6, 5, 5), (6, 1, 3, 3), 6, zero=11, group=6),
    ],
)
def test_a_zero_point_becomes_part_of_the_bias(g: Graph) -> None:
    new = moved(g)
    attrs = full_attrs(new.outputs[0].node)
    assert not attrs.get("zero", 0) and not attrs.get("a_zero", 0)
    x = RNG.integers(-128, 128, g.inputs[0].shape).astype(np.int8)
    np.testing.assert_array_equal(run(new, [x])[0], run(g, [x])[0])


@pytest.mark.parametrize(
    "g",
    [
        graph("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), 4, zero=-7, pads=(0, 0, 0, 1)),
        graph("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), 4, constant=False, zero=-7),
        graph("Edgec.MatMulInteger", (3, 17), (17, 5), 5, constant=False, a_zero=3),
    ],
)
def test_it_stays_where_it_is_needed(g: Graph) -> None:
    assert full_attrs(moved(g).outputs[0].node) == full_attrs(g.outputs[0].node)
