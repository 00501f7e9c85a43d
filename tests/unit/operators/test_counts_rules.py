"""Operators that read values whose size depends on data answer as ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.counts import X, check, whole

pytest.importorskip("onnxruntime")

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
t = Concat(r) axis=0 ; y = Add(t, r)
s = Shape(v) ; e = Add([0], s) ; t = Slice(v, [0], e, [0], [1]) ; y = Add(t, v)
s = Shape(v) ; a = Squeeze(s, [0]) ; e = Add(a, [0]) ; t = Slice(r, [0], e, [0]) ; y = Add(t, r)
y = Concat(r, x) axis=0
y = Concat(x, r) axis=0
y = Concat(r, x, r) axis=0
s = Abs(r) ; t = Concat(r, x, r) axis=0 ; u = Concat(s, x, s) axis=0 ; y = Add(t, u)
s = Abs(r) ; t = Concat(r, s, r, r, s, s, r, s) axis=0 ; u = Concat(s, r, s, r, r, s, r, s) axis=0 ; y = Add(t, u)
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
i = NonZero(r) ; j = Transpose(i) perm=1,0 ; y = GatherND(r, j)
i = NonZero(r) ; j = Transpose(i) perm=1,0 ; k = Sub(j, 1) ; y = GatherND(r, k)
a = Mul(p, 0) ; b = Sub(a, 1) ; t = Transpose(r) ; y = GatherND(t, b)
y = ScatterElements(r, rr, r) axis=1
a = Mul(p, 0) ; i = Sub(a, 1) ; u = Slice(r, [0], [2], [1]) ; y = ScatterElements(r, i, u) axis=0
rr1 = Mul(rr, 0) ; y = ScatterElements(r, rr1, r) axis=0 reduction=add
rr1 = Mul(rr, 0) ; i = Sub(rr1, 1) ; y = ScatterElements(r, i, r) axis=0 reduction=add
some: o = Mul(r, 0f) ; y = ScatterElements(o, [[0, 0, 0, 0, 0]], [[1, 2, 3, 4, 5]]f) axis=0
some: o = Mul(r, 0f) ; y = ScatterElements(o, [[-1, 0, 0, -1, 0]], [[1, 2, 3, 4, 5]]f) axis=0 reduction=add
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
s = Shape(v) ; d = Concat([2], s) axis=0 ; k = ReduceMin(d) keepdims=0 ; l = Reshape(k, [1]) ; y, z = TopK(v, l)
s = Shape(v) ; d = Concat([2], s) axis=0 ; k = ReduceMin(d) ; y, z = TopK(v, k) largest=0 ; w = Gather(v, z)
s = Shape(r) end=1 ; k = Min(s, [3]) ; t = Abs(r) ; y, z = TopK(t, k) axis=0
s = Shape(v) ; k = Min(s, 2) ; y, z = TopK(n, k) axis=1
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
y = Resize(im, none, [1, 1, 2, 2]f) mode=linear
y = Resize(im, none, [1, 1, 1, 3]f) mode=nearest
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


def lines(text: str) -> list[str]:
    return [line for line in text.strip().split("\n") if line]


@pytest.mark.parametrize("line", lines(RULES))
def test_what_is_there_is_computed_as_without_padding(line: str) -> None:
    feeds = {"x": X} | {name: value for name, value in EXTRA.items() if name in line}
    text = line.removeprefix("some: ")
    names = "y z w c" if "y, z, w, c" in text else "y z" if "y, z" in text else "y"
    check(whole(text), feeds, names, empty=text == line)


def test_group_normalization() -> None:
    line = "y = GroupNormalization(im, [1, 1, 2, 1]f, [0, 1, 0, 0]f) num_groups=2"
    check(whole(line), {"x": X}, opset=21, empty=False)
