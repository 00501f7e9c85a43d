"""Operators whose result's size depends on data, and elementwise ones that read it, answer as ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.support.counts import FOUND, X, check, model

pytest.importorskip("onnxruntime")

UNARY = """Abs Neg Ceil Floor Round Sign Sqrt Exp Log Reciprocal Sin Cos Tan Atan Sinh Cosh Tanh Asinh Erf Sigmoid Relu
HardSwish Softplus Softsign Mish IsNaN IsInf LeakyRelu Elu Selu Celu HardSigmoid ThresholdedRelu Gelu Acosh Shrink"""
BINARY = "Add Sub Mul Div Pow Sum Min Max Mean PRelu"
COMPARISONS = "Equal Less LessOrEqual Greater GreaterOrEqual"
LOGIC = "And Or Xor"
BITS = "BitwiseAnd BitwiseOr BitwiseXor"


def test_elementwise_operators() -> None:
    text = [f"{op.lower()} = {op}(up)" for op in UNARY.split()]
    text += [f"{op.lower()} = {op}(up, v)" for op in (BINARY + " " + COMPARISONS).split()]
    text += [f"{op.lower()} = {op}(b, one)" for op in LOGIC.split()]
    text += [f"{op.lower()} = {op}(i, [3])" for op in BITS.split()]
    text += [f"{op.lower()} = {op}(small)" for op in ("Asin", "Acos", "Atanh")]
    text += [
        "not = Not(b)",
        "bitwisenot = BitwiseNot(i)",
        "mod = Mod(i, [3])",
        "bitshift = BitShift(u, w) direction=LEFT",
    ]
    first = """
    up = Add(v, 0.6f)
    small = Div(v, 9f)
    b = Greater(v, 1.5f)
    one = Cast([1]) to=9
    i = Cast(v) to=7
    u = Cast(v) to=12
    w = Cast([2]) to=12
    """
    names = " ".join(line.split(" = ")[0] for line in text)
    check(f"{FOUND}{first}" + "\n".join(text), {"x": X}, names)


def test_operators_whose_size_depends_on_data() -> None:
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 2, (2, 3, 4)).astype(np.float32)
    check("y = NonZero(a)", {"a": grid})
    check("y = NonZero(a)", {"a": grid[0, 0] > 0})
    check("y = Compress(a, c) axis=-2", {"a": grid, "c": np.asarray([True, False, True])})
    check("y = Compress(a, c)", {"a": grid, "c": rng.random(17) < 0.5})
    check("c = Cast([1, 0, 1]) to=9\ny = Compress(a, c) axis=1", {"a": grid})
    for attrs in ("", "axis=0", "axis=-1", "axis=1 sorted=0", "sorted=0"):
        check(f"y, i, v, n = Unique(a) {attrs}".strip(), {"a": grid.round()}, "y i v n", opset=17)
    check("y, i, v, n = Unique(a)\nt = Gather(y, v)", {"a": grid}, "t")


def test_an_argument_does_not_take_the_count_of_a_result() -> None:
    """One entry at most: the result has the argument's shape, and its count along another axis."""
    text = """
    n = NonZero(a)
    t = Reshape(n, [-1, 1])
    y = Neg(t)
    z = Neg(n)
    s = Shape(t)
    e = Expand(b, s)
    f = Add(b, 1f)
    """
    feeds = {"a": np.float32([0]), "b": np.float32([[7]])}
    for value in (0, 1):
        check(text, feeds | {"a": np.float32([value])}, "y z e f")


def test_a_scalar_has_no_coordinates() -> None:
    """ONNX: (0, N); ONNX Runtime gives (1, N)."""
    made = model("y = NonZero(a)", {"a": np.float32(1)}, "y")
    graph = import_model(made)
    assert interpret(graph, {"a": np.float32(1)})["y"].shape == (0, 1)
    assert interpret(graph, {"a": np.float32(0)})["y"].shape == (0, 0)


BOXES = np.float32([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [0, 100, 1, 101]]])
SCORES = np.float32([[[0.9, 0.75, 0.6, 0.95, 0.5], [0.1, 0.8, 0.2, 0.2, 0.7]]])


@pytest.mark.parametrize("opset", [10, 11])
@pytest.mark.parametrize("center", [0, 1])
def test_non_max_suppression(opset: int, center: int) -> None:
    feeds = {"b": BOXES, "s": SCORES}
    for limits in ("", ", 3", ", 2, 0.5f", ", [2], [0.5]f, [0.4]f", ", 9, none, 0.6f", ", 9, 1f, none", ", 0", ", -1"):
        check(f"y = NonMaxSuppression(b, s{limits}) center_point_box={center}", feeds, opset=opset)
    computed = feeds | {"most": np.int64([2]), "iou": np.asarray(0.4, np.float32), "score": np.float32([0.3])}
    check(f"y = NonMaxSuppression(b, s, most, iou, score) center_point_box={center}", computed, opset=opset)


def test_suppression_of_boxes_that_were_selected() -> None:
    text = """
    t = Squeeze(s, [0])
    best = ReduceMax(t, [0]) keepdims=0
    good = Greater(best, limit)
    p = NonZero(good)
    i = Squeeze(p, [0])
    bb = Gather(b, i) axis=1
    ss = Gather(s, i) axis=2
    k = NonMaxSuppression(bb, ss, 3, 0.5f)
    last = Gather(k, 2) axis=1
    kept = Gather(bb, last) axis=1
    y = Gather(i, last) axis=0
    """
    for limit in (0.0, 0.6, 0.85, 2.0):
        check(text, {"b": BOXES, "s": SCORES, "limit": np.asarray(limit, np.float32)}, "y kept")
