"""Sums of convolutions of one value become one convolution, and keep their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session

RNG = np.random.default_rng(5)


def data(*shape: int) -> Value:
    return const(RNG.standard_normal(shape).astype(np.float32))


def source(*shape: int) -> Value:
    return Value(Node("Input", (), (Type("f32", shape),), {}, "x"))


def conv(x: Value, outputs: int, *kernel: int, group: int = 1, **attrs: Any) -> Value:
    return build("Conv", x, data(outputs, x.shape[1] // group, *kernel), data(outputs), group=group, **attrs)


def normalized(x: Value) -> Value:
    return build("Add", build("Mul", x, data(x.shape[1], 1, 1)), data(x.shape[1], 1, 1))


def joined(x: Value, *outputs: Value) -> list[str]:
    """What computes the outputs afterwards, which are equal to those before."""
    g = Graph("g", (x,), outputs, tuple(f"y{k}" for k in range(len(outputs))))
    new = run_pipeline(g, parse_pipeline("canonicalize"), Session(verify=2))
    feed = RNG.standard_normal(x.shape).astype(np.float32)
    for have, want in zip(run(new, [feed]), run(g, [feed]), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)
    return [n.op for n in new.nodes() if n.args]


PAD = {"pads": (1, 1, 1, 1)}
WIDE: list[tuple[Any, Any]] = [  # attributes of the larger window and of the other
    (((3, 3), PAD), ((1, 1), {})),
    (((3, 3), PAD), ((3, 3), PAD)),
    (((3, 3), PAD | {"strides": (2, 2)}), ((1, 1), {"strides": (2, 2)})),
    (((5, 3), {"pads": (2, 1, 2, 1)}), ((3, 1), {"pads": (1, 0, 1, 0)})),
    (((3, 3), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}), ((1, 1), {})),
    (((4, 4), {"pads": (1, 2, 2, 1)}), ((2, 2), {"pads": (0, 1, 1, 0)})),
]


@pytest.mark.parametrize("group", [1, 2, 6])
@pytest.mark.parametrize(("large", "small"), WIDE, ids=str)
def test_a_window_within_another_is_added_to_it(large: Any, small: Any, group: int) -> None:
    for first, second in ((large, small), (small, large)):
        x = source(2, 6, 9, 10)
        a, b = (conv(x, 6, *kernel, group=group, **attrs) for kernel, attrs in (first, second))
        assert joined(x, build("Add", a, b)) == ["Conv"]


@pytest.mark.parametrize("group", [1, 3, 6])
def test_a_normalization_beside_is_the_middle(group: int) -> None:
    x = source(1, 6, 5, 7)
    whole = build("Add", conv(x, 6, 3, 3, group=group, **PAD), conv(x, 6, 1, 1, group=group))
    assert joined(x, build("Relu", build("Add", normalized(x), whole))) == ["Conv", "Relu"]
    assert joined(x, build("Add", conv(x, 6, 1, 1, group=group), build("Mul", data(6, 1, 1), x))) == ["Conv"]


def test_on_lines() -> None:
    x = source(1, 4, 12)
    assert joined(x, build("Add", conv(x, 4, 3, pads=(1, 1)), conv(x, 4, 1))) == ["Conv"]


def test_what_stays() -> None:
    x = source(1, 6, 8, 8)
    three, one = conv(x, 6, 3, 3, **PAD), conv(x, 6, 1, 1)
    relu = build("Relu", x)
    stay = {
        "crossed": (conv(x, 6, 3, 1, pads=(1, 0, 1, 0)), conv(x, 6, 1, 3, pads=(0, 1, 0, 1))),
        "other groups": (three, conv(x, 6, 1, 1, group=2)),
        "other values": (three, conv(relu, 6, 1, 1)),
        "moved": (conv(x, 6, 3, 3, pads=(0, 0, 2, 2)), conv(x, 6, 3, 3, pads=(2, 2, 0, 0))),
        "dilated otherwise": (conv(x, 6, 5, 5, pads=(2,) * 4), conv(x, 6, 3, 3, pads=(2,) * 4, dilations=(2, 2))),
        "the value itself": (three, x),
        "scaled by place": (three, build("Mul", x, data(8))),
        "not around its place": (conv(x, 6, 2, 2, pads=(1,) * 4, dilations=(2, 2)), build("Mul", x, data(6, 1, 1))),
    }
    for name, (a, b) in stay.items():
        assert joined(x, build("Add", a, b))[-1] == "Add", name
    assert joined(x, build("Add", three, one), one).count("Conv") == 2  # which is read elsewhere too
    halved = conv(x, 3, 3, 3, **PAD)
    assert joined(x, build("Add", halved, conv(x, 1, 1, 1)))[-1] == "Add"  # one channel, to each of the others


@pytest.mark.parametrize("scaled", ["constants per channel", "one number"])
def test_a_normalization_behind_joined_convolutions_goes_into_them(scaled: str) -> None:
    x = source(1, 6, 5, 5)
    one, other = conv(x, 4, 1, 1), conv(x, 6, 3, 3, group=2, **PAD)
    whole = build("Concat", one, other, axis=1)
    y = normalized(whole) if scaled != "one number" else build("Add", build("Mul", whole, data()), data())
    assert joined(x, build("Relu", y)) == ["Conv", "Conv", "Concat", "Relu"]


@pytest.mark.parametrize("why", ["another reader", "no convolution", "per pixel"])
def test_a_normalization_stays_behind_joined_values(why: str) -> None:
    x = source(1, 6, 5, 5)
    one, other = conv(x, 4, 1, 1), build("Tanh", x) if why == "no convolution" else conv(x, 6, 1, 1)
    whole = build("Concat", one, other, axis=1)
    scaled = build("Mul", whole, data(1, 5) if why == "per pixel" else data(10, 1, 1))
    more = (build("Tanh", other),) if why == "another reader" else ()
    assert "Mul" in joined(x, scaled, *more)
