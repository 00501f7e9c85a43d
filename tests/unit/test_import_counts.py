"""Values whose size depends on data: operators that may read them answer as ONNX Runtime does, others are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from counts import FOUND, X, answers, model
from whole_file import run_alone, shared

from edgec.compiler.errors import UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.importer.sized import KEEPS
from edgec.compiler.importer.table import CONVERTERS
from edgec.compiler.interpret import interpret
from edgec.compiler.verify import verify

pytest.importorskip("onnxruntime")
SEEN: set[str] = set()
NONE, ALL = np.zeros_like(X), np.abs(X) + 1


def check(text: str, feeds: Any, outputs: str = "y", opset: int = 20, *, empty: bool = True) -> None:
    """The interpreter's answers are ONNX Runtime's, also with everything found in `x` and, if `empty`, nothing."""
    made = model(text, feeds, outputs, opset)
    graph = import_model(made)
    verify(graph, 2)
    SEEN.update(node.op_type for node in made.graph.node)
    found = "x" in feeds and feeds["x"] is X
    for case in [feeds, *([feeds | {"x": ALL}] if found else []), *([feeds | {"x": NONE}] if found and empty else [])]:
        got = interpret(graph, case)
        for name, want in answers(made, case).items():
            assert got[name].shape == want.shape and got[name].dtype == want.dtype, (name, got[name].shape, want.shape)
            np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-6, err_msg=name)


RULES = """
y = Neg(v)
y = Add(v, 1f)
y = Mul(v, v)
y = Add(r, [1, 2, 3, 4, 5]f)
c = Cast(n) to=1 ; y = Add(c, [[1], [2]]f)
c = Greater(v, 1.5f) ; y = Where(c, v, 0f)
y = Clip(v, 1f, 2f)
y = Identity(v)
y = Dropout(v)
c = Cast(n) to=1 ; y = CastLike(c, v)
y = CastLike(x, v)
s = Shape(x) ; y = CastLike(s, v)
y = QuantizeLinear(r, 0.1f, none)
y = QuantizeLinear(r, [0.1, 0.1, 0.2, 0.1, 0.1]f) axis=1
y = Transpose(r) perm=1,0
y = Transpose(r)
t = Unsqueeze(v, [0, 2]) ; y = Squeeze(t, [0])
t = Unsqueeze(r, [-1]) ; y = Squeeze(t, [-1])
image = Reshape(x, [1, 1, 4, 5]) ; box = Slice(r, [0], [4], [1]) ; at = Mul(rows, 0) ; y = RoiAlign(image, box, at)
y = Flatten(r) axis=1
y = Flatten(r) axis=0
t = Unsqueeze(r, [0, 3]) ; y = Flatten(t) axis=2
y = Reshape(r, [-1])
y = Reshape(r, [0, 1, 5])
y = Reshape(r, [-1, 5, 1])
t = Transpose(r) perm=1,0 ; y = Reshape(t, [5, -1])
t = Transpose(r) perm=1,0 ; y = Reshape(t, [5, 1, -1])
y = Tile(r, [1, 2])
y = Pad(r, [0, 1, 0, 2])
y = Pad(r, [1, 2], none, [1])
y = Pad(r, [2, 0, 1, 3])
y = Pad(r, [1, 1], 7f, [0])
y, z = Split(r, [2, 3]) axis=1
y = Slice(r, [1], [4], [1])
y = Slice(r, [0], [2], [0])
y = Slice(r, [1], [9], [0])
y = Slice(r, [1, 1], [3, -1], [0, 1])
y = Slice(r, [0], [-1], [0])
y = Slice(r, [1], [-2], [0])
y = Slice(v, [30], [40])
y = Concat(r, r) axis=1
y = Concat(r, x) axis=0
y = Concat(x, r) axis=0
y = Concat(r, x, r) axis=0
w = Slice(v, [1], [9], [0]) ; y = Concat(v, w, v, w) axis=0
y = Gather(r, [2, -1]) axis=1
y = Gather(n, 1) axis=0
t = Unsqueeze(x, [1]) ; y = Gather(t, rows) axis=0
t = Transpose(x) ; y = Gather(t, rows) axis=1
a = Add(rows, 0) ; b = Mul(a, 0) ; c = Sub(b, 1) ; y = Gather(x, c) axis=0
i = NonZero(v) ; j = Squeeze(i, [0]) ; y = Gather(v, j) axis=0
i = NonZero(v) ; j = Squeeze(i, [0]) ; k = Sub(j, 1) ; y = Gather(v, k) axis=0
y = GatherElements(r, rr) axis=1
t = Unsqueeze(r, [1]) ; y = GatherND(x, p)
t = Transpose(r) ; y = GatherND(t, [[1], [3]])
q = Slice(p, [0], [1], [1]) ; y = GatherND(x, q)
e = Slice(p, [1], [2], [1]) ; y = GatherND(r, e) batch_dims=1
y = OneHot(rows, 4, [0, 1]f)
y = OneHot(rows, 4, [0, 1]f) axis=0
i = NonZero(r) ; y = Transpose(i)
c = Greater(v, 2.5f) ; y = Compress(v, c) axis=0
c = Greater(v, 2.5f) ; y = Compress(r, c) axis=0
y = Compress(r, mm) axis=0
y = Compress(r, mm)
y = ReduceSum(r, [1])
y = ReduceSum(r, [1]) keepdims=0
y = ReduceMax(r, [0]) keepdims=0
y = ReduceSum(r)
y = ReduceSum(r, [-2])
y = ReduceMin(v, [0])
y = ReduceProd(r, [0, 1])
y = ReduceL1(r, [0])
y = ReduceL2(r, [0])
y = ReduceSumSquare(v)
y = ReduceMax(n, [1])
y = ReduceMean(r, [1])
y = ReduceMean(r)
y = ReduceMean(r, [0]) keepdims=0
some: y = ArgMax(r) axis=0
some: a = Neg(r) ; y = ArgMin(a) axis=0 keepdims=0
y = Softmax(r) axis=0
y = LogSoftmax(v) axis=0
y = LpNormalization(r) axis=0
y, z = TopK(r, [2]) axis=1
y = ScatterND(x, p, v)
y = ScatterND(x, p, v) reduction=add
a = Neg(v) ; y = ScatterND(x, p, a)
a = Sub(p, [4, 5]) ; b = Neg(v) ; y = ScatterND(x, a, b)
a = Unsqueeze(rows, [1]) ; b = Add(r, 1f) ; y = ScatterND(x, a, b) reduction=max
a = Neg(g) ; y = ScatterElements(flat, hit, a)
k = Sub(hit, 20) ; y = ScatterElements(flat, k, g) reduction=add
some: y, z = TopK(r, [1]) axis=0
some: y, z = TopK(r, [1]) axis=0 largest=0
y, z, w, c = Unique(v)
y, z, w, c = Unique(v) sorted=0
y, z, w, c = Unique(r)
y, z, w, c = Unique(r) axis=0
y, z, w, c = Unique(p) axis=0 sorted=0
y, z, w, c = Unique(rows) axis=0
y = ReduceMean(n, none) noop_with_empty_axes=1
y = ArgMax(r) axis=1
y = ArgMin(r) axis=1 keepdims=0
t = Transpose(r) ; y = ArgMax(t) axis=0 keepdims=0
y = Softmax(r) axis=1
y = LogSoftmax(r) axis=1
y = ReduceLogSumExp(r, [0])
some: y = ReduceLogSum(v)
a = Abs(r) ; b = Add(a, 1f) ; y = ReduceLogSum(b, [1])
y = Hardmax(r) axis=-1
y = LpNormalization(r) axis=1
y = LayerNormalization(r, [1, 1, 1, 1, 2]f)
y = CumSum(v, 0)
y = CumSum(v, 0) exclusive=1
y = CumSum(r, 1) reverse=1
y = CumSum(r, 0) reverse=1
y = CumSum(r, 0) reverse=1 exclusive=1
y = MatMul(r, w5)
t = Transpose(r) ; y = MatMul(w45, t)
y = MatMul(r, [1, 2, 3, 4, 5]f)
t = Transpose(r) ; y = MatMul([1, 2, 3, 4, 5]f, t)
t = Unsqueeze(r, [1]) ; y = MatMul(t, w5)
y = Gemm(r, w5)
y = Gemm(r, w5, [1, 2, 3]f)
t = Transpose(r) ; y = Gemm(t, w5) transA=1
y = Gemm(w45, r) transB=1
t = Unsqueeze(r, [1]) ; y = MaxPool(t) kernel_shape=2 strides=2
t = Unsqueeze(r, [1]) ; y = GlobalAveragePool(t)
t = Unsqueeze(r, [1]) ; y = GlobalMaxPool(t)
t = Unsqueeze(r, [1]) ; y = GlobalLpPool(t)
t = Unsqueeze(r, [1]) ; y = AveragePool(t) kernel_shape=2
t = Unsqueeze(r, [1]) ; y = LpPool(t) kernel_shape=2
y = LRN(im) size=3
y = SpaceToDepth(im) blocksize=2
y = DepthToSpace(im) blocksize=2
y = InstanceNormalization(im, [1, 1, 2, 1]f, [0, 1, 0, 0]f)
y = ConvTranspose(im, wt)
y = DequantizeLinear(q8, [0.1, 0.2, 1, 2, 3]f) axis=1
y = DequantizeLinear(q8, 0.1f)
t = Unsqueeze(r, [1]) ; y = Conv(t, [[[1, 2, -1]]]f) pads=1,1
y = BatchNormalization(r, [1, 1, 2, 1, 1]f, [1, 0, 0, 0, 0]f, [1, 0, 0, 0, 0]f, [1, 2, 1, 1, 1]f)
y = Shape(r)
y = Shape(r) start=1
y = Shape(n) start=0 end=1
y = Size(r)
s = Shape(rows) ; t = Concat(s, [5, 1]) axis=0 ; y = Reshape(r, t)
some: s = Shape(r) ; t = Gather(s, 0) ; u = Unsqueeze(t, [0]) ; w = Concat(u, [-1]) axis=0 ; y = Reshape(r, w)
s = Shape(r) ; t = Slice(s, [1], [2]) ; y = Expand([[1]], t)
s = Shape(rows) ; y = Expand(3f, s)
s = Shape(r) ; y = Expand([1, 2, 3, 4, 5]f, s)
s = Shape(r) ; y = Expand(v1, s)
y = Expand(r, [2, 1, 5])
s = Shape(r) ; o = ConstantOfShape(s) ; y = Add(o, r)
s = Shape(r) ; o = ConstantOfShape([2]) ; t = Cast(o) to=7 ; e = Equal(s, t) ; w = Where(e, t, s) ; y = Expand(v1, w)
s = Shape(rows) ; t = Squeeze(s, [0]) ; y = Range(0, t, 1)
s = Size(rows) ; y = Range(0, s, 1)
"""
EXTRA = {
    "w5": np.float32(np.arange(15).reshape(5, 3) - 4),
    "w45": np.float32(np.arange(20).reshape(4, 5) - 9),
    "wt": np.float32(np.arange(8).reshape(4, 2, 1, 1) - 3),
    "mm": np.asarray([True, False]),
}
DERIVED = """
rr0 = Cast(r) to=7
rr = Clip(rr0, 0, 4)
v1 = Unsqueeze(v, [1])
im0 = Gather(r, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]) axis=1
im = Reshape(im0, [-1, 4, 2, 2])
q8 = Cast(r) to=2
flat = Reshape(x, [-1])
hit0 = NonZero(flat)
hit = Squeeze(hit0, [0])
g = Gather(flat, hit) axis=0
"""


def lines(text: str) -> list[str]:
    return [line for line in text.strip().split("\n") if line]


def whole(line: str) -> str:
    """The lines of a model, with those of the beginning that it needs."""
    return f"{FOUND}{DERIVED}" + line.replace(" ; ", "\n")


@pytest.mark.parametrize("line", lines(RULES))
def test_what_is_there_is_computed_as_without_padding(line: str) -> None:
    if missing := [op for op in ("TopK", "ScatterND", "ScatterElements") if op in line and op not in CONVERTERS]:
        pytest.skip(f"no converter of {missing[0]}")
    feeds = {"x": X} | {name: value for name, value in EXTRA.items() if name in line}
    text = line.removeprefix("some: ")
    names = "y z w c" if "y, z, w, c" in text else "y z" if "y, z" in text else "y"
    check(whole(text), feeds, names, empty=text == line)


def test_group_normalization() -> None:
    line = "y = GroupNormalization(im, [1, 1, 2, 1]f, [0, 1, 0, 0]f) num_groups=2"
    check(whole(line), {"x": X}, opset=21, empty=False)


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
    check(f"{FOUND}y = Swish(v)", {"x": X}, opset=24) if "Swish" not in CONVERTERS else None


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


REFUSED = [
    ("y = EyeLike(r)", "argument 'r': its size depends on data .result of NonZero 'n'."),
    ("y = Unique(r) axis=1", "it is not along that axis"),
    ("y = Resize(r, none, none, [7, 5])", "end the model at 'r' and do the rest in your program"),
    ("y = Add(r, x4)", "and 'x4' has 4 entries there"),
    ("i = NonZero(x4) ; j = Gather(i, 0) axis=0 ; k = Gather(x4, j) axis=0 ; y = Add(r, k)", "which may differ"),
    ("t = Unsqueeze(v, [1]) ; y = Squeeze(t)", "the axes to remove must be named"),
    ("t = Transpose(r) ; y = Reshape(t, [-1])", "its new shape is -1"),
    ("y = Reshape(r, [20, 5])", "its new shape is 20x5"),
    ("y = Reshape(x4, s)", "is reshaped to nx5, which depends on data"),
    ("t = Transpose(r) ; y = Flatten(t) axis=2", "axes before it are merged"),
    ("y = Tile(r, [2, 1])", "it is repeated along that axis"),
    ("y = Pad(r, [1, 0, 0, 0]) mode=edge", "it is cut or mirrored along that axis"),
    ("y = Pad(r, [0, 0, -1, 0])", "it is cut or mirrored along that axis"),
    ("y, z = Split(r, [10, 10]) axis=0", "it is split along that axis"),
    ("y = Slice(r, [-2], [9], [0])", "cut from -2 in steps of 1"),
    ("y = Slice(r, [0], [9], [0], [2])", "in steps of 2"),
    ("t = Pad(x, [0, 0, 16, 0]) ; y = Concat(r, t) axis=1", "and 't' may have another size"),
    ("y = Expand(r, [20, 5])", "it is expanded to 20x5"),
    ("y = Expand(x4, s)", "is expanded to nx5, which depends on data"),
    ("y = ReduceMean(n, [1])", "it is reduced along that axis"),
    ("y = ArgMax(r) axis=0 select_last_index=1", "the last of equals is looked for"),
    ("y = Hardmax(r) axis=0", "its greatest element is looked for"),
    ("y = LayerNormalization(r, one) axis=0", "it is summed along that axis"),
    ("t = Transpose(r) ; y = MatMul(t, w205)", "it is summed along that axis"),
    ("y = Gemm(r, w53, w203)", "has 20 entries there"),
    ("t = Transpose(r) ; u = Unsqueeze(t, [1]) ; y = MaxPool(u) kernel_shape=1", "it is not the batch"),
    ("y = QuantizeLinear(r, w20) axis=0", "there is a scale for each entry"),
    ("i = Gather(n, 1) axis=0 ; t = Transpose(r) ; y = Gather(t, i) axis=0", "two axes of the result would"),
    (
        "box = Slice(r, [0], [4], [1]) ; y = RoiAlign(image, box, zeros)",
        "and that of its other arguments is not the same",
    ),
    ("y = GatherND(r, p)", "argument 'r': its size depends on data"),
    ("y = GatherElements(x4, p) axis=1", "and 'x4' has 4 entries there"),
    ("y = ScatterND(r, p, v)", "argument 'r': its size depends on data"),
    ("y = ScatterND(x, [[0, 1]], v)", "argument 'v': its size depends on data"),
    ("y = Compress(r, w5b) axis=1", "the number of those selected would too"),
    ("s2 = Shape(p) ; t = Concat(s2, s) axis=0 ; y = ConstantOfShape(t)", "several sizes of its shape nx2xnx5"),
    ("t = Squeeze(cnt) ; y = Range(1, t, 1)", "expected a range from 0 in steps of 1"),
]
OTHERS = {
    "image": np.zeros((1, 1, 4, 5), np.float32),
    "zeros": np.zeros(20, np.int64),
    "x4": np.zeros((4, 5), np.float32),
    "w205": np.zeros((20, 5), np.float32),
    "w203": np.zeros((20, 3), np.float32),
    "w53": np.zeros((5, 3), np.float32),
    "w20": np.ones(20, np.float32),
    "one": np.ones((20, 5), np.float32),
    "w5b": np.ones(5, np.bool_),
}


@pytest.mark.parametrize(("line", "why"), REFUSED)
def test_what_would_depend_on_padding_is_refused(line: str, why: str) -> None:
    if "ScatterND" in line and "ScatterND" not in CONVERTERS:
        pytest.skip("no converter")
    feeds = {"x": X} | {name: value for name, value in OTHERS.items() if name in line}
    text = whole("s = Shape(r) ; cnt = Shape(rows) ; " + line)
    with pytest.raises(UnsupportedModel, match=why) as caught:
        import_model(model(text, feeds, "y"))
    assert not any(entry.needs_value for entry in caught.value.entries)


def test_every_rule_was_met() -> None:
    """Runs last: the tests above went through the table, but for what has no converter."""
    if shared():
        run_alone(__file__)
    elif len(SEEN) > 100:  # not when a selection runs
        assert set(KEEPS) & set(CONVERTERS) <= SEEN | {"Swish", "Scatter"}
