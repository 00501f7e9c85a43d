"""Operator rows refuse what cannot be applied, and our own operators keep values and layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler import ops  # noqa: F401
from edgec.compiler.errors import EdgecError, IRError
from edgec.compiler.interpret import interpret, run, trace
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import OPS, build, const, evaluate, infer

F = "f32"


def source(*shape: int, name: str = "x", dtype: str = F, layout: str = "") -> Value:
    return Value(Node("Input", (), (Type(dtype, shape, layout),), {}, name))


RNN = [Type(F, (4, 1, 5)), Type(F, (1, 5, 1, 5)), Type(F, (1, 1, 5))]
REFUSED: list[tuple[str, list[Type], dict[str, Any], str]] = [
    ("Add", [Type(F, (2, 3)), Type(F, (2,))], {}, "do not broadcast"),
    ("Add", [Type(F, (2,)), Type("i32", (2,))], {}, "expected one element type"),
    ("Sqrt", [Type("i32", (2,))], {}, "argument is i32; expected one of f32"),
    ("Reshape", [Type(F, (2, 3))], {"shape": (7,)}, "does not reshape"),
    ("Transpose", [Type(F, (2, 3))], {"perm": (0, 0)}, "not an order of the axes"),
    ("Concat", [Type(F, (2, 3)), Type(F, (3, 3))], {"axis": 1}, "differ outside axis 1"),
    ("Slice", [Type(F, (4,))], {"starts": (0,), "ends": (5,), "axes": (0,), "steps": (1,)}, "is outside axis 0"),
    ("Pad", [Type(F, (4,))], {"pads": (1,)}, "expected 2"),
    ("Pad", [Type(F, (4,))], {"pads": (-3, -2)}, "cut more than all"),
    ("Split", [Type(F, (4,))], {"axis": 0, "split": (1, 2)}, "do not add up"),
    ("Gather", [Type(F, (4,)), Type(F, (1,))], {"axis": 0}, "indices is f32"),
    ("Conv", [Type(F, (1, 3, 8, 8)), Type(F, (4, 2, 3, 3)), Type(F, (4,))], {}, "do not fit"),
    ("Conv", [Type(F, (1, 2, 2, 2)), Type(F, (4, 2, 3, 3)), Type(F, (4,))], {}, "larger than the padded input"),
    ("Conv", [Type(F, (1, 2, 8, 8)), Type(F, (4, 2, 3, 3)), Type(F, (3,))], {}, "does not fit 4 output channels"),
    ("Conv", [Type(F, (1, 2, 8, 8)), Type(F, (4, 2, 3, 3)), Type(F, (4,))], {"strides": (1,)}, "expected 2"),
    ("MatMul", [Type(F, (2, 3)), Type(F, (2, 3))], {}, "no stacks of matrices"),
    ("ReduceSum", [Type(F, (2, 3))], {"axes": (2,)}, "do not name different axes"),
    ("Softmax", [Type(F, (2, 3))], {"axis": 2}, "axis 2 is outside"),
    ("MaxPool", [Type(F, (1, 1, 2, 2))], {"kernel_shape": (3, 3)}, "larger than the padded input"),
    ("QuantizeLinear", [Type(F, (2, 3)), Type(F, (2,)), Type("i8", (2,))], {"axis": 1}, "does not fit axis 1"),
    ("DequantizeLinear", [Type("i8", (2,)), Type(F, ()), Type("u8", ())], {}, "zero point is u8; expected i8"),
    ("Resize", [Type(F, (2,))], {"sizes": (4,), "scales": (2.0,), "mode": "area"}, "mode 'area' is unknown"),
    ("Cast", [Type(F, (2,))], {"to": "f31"}, "did you mean"),
    ("Edgec.RNN", [Type(F, (4, 1, 6)), Type(F, (1, 5, 1, 5)), Type(F, (1, 1, 5))], {}, "has no 1 times 1 times 5"),
    ("Edgec.RNN", [Type(F, (4, 1, 5)), Type(F, (1, 5, 2, 5)), Type(F, (1, 1, 5))], {}, r"are no \[steps, batch"),
    ("Edgec.RNN", [Type(F, (4, 1, 5)), Type("f64", (1, 5, 1, 5)), Type(F, (1, 1, 5))], {}, "R is f64; expected one of"),
    ("Edgec.RNN", [Type(F, (4, 1, 5)), Type(F, (1, 5, 1, 5)), Type(F, (1, 2, 5))], {}, r"expected shape \[1, 1, 5\]"),
    ("Edgec.GRU", [Type(F, (4, 1, 15)), Type(F, (1, 5, 3, 5)), Type(F, (1, 1, 5))], {}, "3 arguments; expected 4"),
    ("Edgec.RNN", [*RNN, Type("i64", (1,))], {}, r"lengths are i64\[1\]; expected i32\[1\]"),
    ("Edgec.RNN", RNN, {"reverse": (0, 1)}, "for each of 1 direction"),
    ("Edgec.RNN", RNN, {"activations": ("Tanh", "Tanh")}, "activations has 2 entries; expected 1"),
    ("Edgec.RNN", RNN, {"activations": ("Sine",)}, "activation 'Sine' is unknown"),
    (
        "Edgec.Attention",
        [Type(F, (1, 1))] * 3,
        {"sizes": (1, 1, 1, 1), "shape": (1, 1), "out": (1, 1), "zero_masked": 1, **dict.fromkeys("qkv", (0, 1, 1))},
        "zero_masked is set without a mask",
    ),
    ("Edgec.Blend", [Type(F, (2, 3)), Type("i64", (1, 4)), Type(F, (1, 4))], {"axis": 0}, "positions is i64"),
    ("Edgec.Blend", [Type(F, (2, 3)), Type("i32", (1, 4)), Type(F, (1, 5))], {"axis": 0}, "do not blend"),
    ("ArgMin", [Type(F, (3, 0))], {"axis": -1}, r"axis 1 of f32\[3, 0\] has no elements"),
]


@pytest.mark.parametrize(("op", "types", "attrs", "text"), REFUSED)
def test_inference_refuses(op: str, types: list[Type], attrs: dict[str, Any], text: str) -> None:
    with pytest.raises(IRError, match=text):
        infer(op, types, attrs)


OF_NO_IMAGE = [
    ("GridSample", [(0, 2, 4, 4), (0, 3, 3, 2)], {}),
    ("ConvTranspose", [(0, 2, 4, 4), (2, 3, 1, 1), (3,)], {}),
    ("Col2Im", [(0, 4, 9)], {"image_shape": (4, 4), "block_shape": (2, 2)}),
    ("ArgMax", [(0, 0)], {"axis": 1, "keepdims": 0}),
    (
        "Edgec.DeformColumns",
        [(0, 2, 4, 4), (0, 2, 4, 4)],
        {"kernel_shape": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)},
    ),
]


@pytest.mark.parametrize(("op", "shapes", "attrs"), OF_NO_IMAGE)
def test_what_has_no_elements(op: str, shapes: list[tuple[int, ...]], attrs: dict[str, Any]) -> None:
    y = build(op, *(source(*shape, name=f"x{k}") for k, shape in enumerate(shapes)), **attrs)
    (found,) = evaluate(y.node, [np.zeros(shape, np.float32) for shape in shapes])
    assert (found.shape, found.dtype.kind) == (y.shape, "i" if op == "ArgMax" else "f")


def test_every_row_has_a_kind_and_defaults_that_it_accepts() -> None:
    assert len(OPS) > 100
    assert {row.kind for row in OPS.values()} == {
        "source",
        "elementwise",
        "map",
        "reduce",
        "contract",
        "window",
        "other",
        "control",
    }


def test_integer_convolution_accumulates_exactly_in_the_type_of_the_bias() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, (1, 64, 5, 5), np.int8), rng.integers(-128, 128, (2, 64, 3, 3), np.int8)
    y = build("Conv", source(1, 64, 5, 5, dtype="i8"), const(w), const(np.asarray([1 << 30, -5], np.int32)))
    (got,) = run(Graph("g", (y.node.args[0],), (y,)), [x])
    assert y.type == Type("i32", (1, 2, 3, 3))
    window = x[0, :, 1:4, 2:5].astype(np.int64)
    assert got[0, 0, 1, 2] == (window * w[0]).sum() + (1 << 30)


def test_empty_convolution_attributes_are_ones_and_zeros() -> None:
    types = [Type(F, (1, 2, 8, 8)), Type(F, (4, 2, 3, 3)), Type(F, (4,))]
    assert infer("Conv", types, {}) == (Type(F, (1, 4, 6, 6)),)


def test_kernel_runs_its_body() -> None:
    a, b = source(2, 3, name="a"), source(3, name="b")
    total = build("Add", a, b)
    body = Graph("body", (a, b), (total, build("Relu", total)))
    x, y = source(2, 3, name="x"), source(3, name="y")
    kernel = build("Edgec.Kernel", x, y, body=body, row="generic").node
    feeds = {"x": np.full((2, 3), -2, np.float32), "y": np.asarray([1, 2, 3], np.float32)}
    graph = Graph("g", (x, y), kernel.results, ("sum", "positive"))
    out = interpret(graph, feeds)
    np.testing.assert_array_equal(out["sum"][0], [-1, 0, 1])
    np.testing.assert_array_equal(out["positive"][0], [0, 0, 1])
    with pytest.raises(IRError, match=r"does not fit the body's input 'b'"):
        build("Edgec.Kernel", x, x, body=body)


def test_own_operators_keep_values_and_set_layouts() -> None:
    x = source(1, 20, 2, 2, layout="NHWC")
    blocked = build("Edgec.Layout", x, to="NCHW16c")
    part = build("Edgec.Part", blocked, axis=1, start=4, size=3)
    joined = build("Edgec.Join", part, part, axis=1)
    view = build("Edgec.View", joined, shape=(1, 24), to="")
    assert (str(blocked.type), str(part.type)) == ("f32[1, 20, 2, 2]@NCHW16c", "f32[1, 3, 2, 2]@NCHW16c")
    assert (str(joined.type), str(view.type)) == ("f32[1, 6, 2, 2]@NCHW16c", "f32[1, 24]")
    data = np.random.default_rng(0).standard_normal((1, 20, 2, 2)).astype(np.float32)
    (got,) = run(Graph("g", (x,), (view,)), [data])
    np.testing.assert_array_equal(got, np.concatenate([data[:, 4:7]] * 2, 1).reshape(1, 24))
    with pytest.raises(IRError, match="does not fit a tensor of 4 axes"):
        build("Edgec.Layout", x, to="NC")
    with pytest.raises(IRError, match=r"part 18:23 is outside axis 1"):
        build("Edgec.Part", x, axis=1, start=18, size=5)


def test_trace_keeps_every_value() -> None:
    x = source(3)
    y = build("Relu", build("Neg", x, label="minus"), label="y")
    values = trace(Graph("g", (x,), (y,)), {"x": np.asarray([1, -2, 3], np.float32)})
    assert {v.name: list(a) for v, a in values.items()} == {"x": [1, -2, 3], "minus": [-1, 2, -3], "y": [0, 2, 0]}


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({"z": np.zeros(3, "f4")}, r"'z' is not an input; known: x"),
        ({}, r"input 'x' is not fed; it is f32\[3\]"),
        ({"x": np.zeros(4, "f4")}, r"input 'x' is fed f32\[4\]; expected f32\[3\]"),
        ({"x": np.zeros(3, "f8")}, r"input 'x' is fed f64\[3\]; expected f32\[3\]"),
    ],
)
def test_interpreter_checks_its_feeds(feeds: dict[str, Any], text: str) -> None:
    x = source(3)
    with pytest.raises(EdgecError, match=text):
        interpret(Graph("g", (x,), (build("Relu", x, label="y"),)), feeds)


def test_a_result_that_is_read_later_is_kept() -> None:
    x = source(3)
    a = build("Neg", x)
    graph = Graph("g", (x,), (build("Add", build("Relu", a), build("Add", a, x), label="y"), a), ("y", "a"))
    out = interpret(graph, {"x": np.asarray([1, -2, 3], np.float32)})
    assert list(out["y"]) == [0, 2, 0] and list(out["a"]) == [-1, 2, -3]
