"""What exporters write and passes look for: composites of several nodes, exact or with something off."""

from __future__ import annotations

from math import sqrt

from edgec.compiler.ir import Type, Value
from edgec.compiler.ops.common import FLOATS

from ..arrays import array_of
from ..draw import Draw, Unsuitable
from . import RECIPES, recipe
from .folds import real
from .maps import image
from .windows import conv, float_type, weights


def scalar(d: Draw, x: Value, number: float) -> Value:
    """A constant of the type of `x`; now and then another number."""
    return d.constant(number if d.flag(0.95) else number * 1.5 + 0.1, x.type.dtype)


def per_channel(d: Draw, x: Value, axis: int) -> Value:
    rank = len(x.shape)
    shape = tuple(x.shape[axis] if k == axis % rank else 1 for k in range(rank))
    if axis in (-1, rank - 1) and d.flag():
        shape = shape[-1:]
    return d.constant(array_of(d.arrays, Type(x.type.dtype, shape)))


@recipe("convolution, scaled and shifted", family="patterns", weight=2)
def normalized_conv(d: Draw, op: str) -> None:
    conv(d, "Conv")
    y = d.values[-1]
    for _ in range(d.integer(1, 3)):
        y = d.emit(d.choice(("Mul", "Add", "Mul", "Sub", "Div")), y, per_channel(d, y, 1))
    if d.flag():
        d.emit(d.choice(("Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Neg")), y)


@recipe("scaled, shifted, then a convolution", family="patterns")
def conv_of_normalized(d: Draw, op: str) -> None:
    x = d.pick(
        lambda t: len(t.shape) == 4 and t.dtype in FLOATS and 0 not in t.shape, lambda: Type(float_type(d), d.shape(4))
    )
    y = d.emit(d.choice(("Mul", "Add")), x, per_channel(d, x, 1))
    pads = (0, 0, 0, 0) if d.flag() else (1, 1, 1, 1)
    out = d.choice((1, 4, 8, 16))
    w = weights(d, x.type.dtype, (out, x.shape[1], 3, 3) if min(x.shape[2:]) > 2 else (out, x.shape[1], 1, 1))
    d.emit("Conv", y, w, d.fresh(Type(x.type.dtype, (out,)), constant=0.9), pads=pads if w.shape[2] == 3 else ())


@recipe("residual block", family="patterns", weight=2)
def residual(d: Draw, op: str) -> None:
    x = image(d, FLOATS)
    c = x.shape[1]
    if 0 in x.shape or c > 40:
        raise Unsuitable("too large")
    y = x
    for _ in range(d.integer(1, 2)):
        bias = d.fresh(Type(x.type.dtype, (c,)), constant=1)
        y = d.emit("Conv", y, weights(d, x.type.dtype, (c, c, 3, 3)), bias, pads=(1, 1, 1, 1))
        y = d.emit(d.choice(("Relu", "Sigmoid", "Clip")), y) if d.flag() else y
    y = d.emit("Add", *((x, y) if d.flag() else (y, x)))
    if d.flag():
        d.emit("Relu", y)


@recipe("gate", family="patterns")
def gate(d: Draw, op: str) -> None:
    """x * sigmoid(x), and its piecewise relatives."""
    x = real(d, 0)
    kind = d.choice(("Sigmoid", "HardSigmoid", "Tanh", "clip"))
    if kind == "clip":
        clipped = d.emit("Clip", d.emit("Add", x, scalar(d, x, 3)), min=0.0, max=6.0)
        g = d.emit("Mul", clipped, scalar(d, x, 1 / 6)) if d.flag() else d.emit("Div", clipped, scalar(d, x, 6))
    else:
        g = d.emit(kind, x)
    d.emit("Mul", *((x, g) if d.flag() else (g, x)))


@recipe("gelu", family="patterns")
def gelu(d: Draw, op: str) -> None:
    x = real(d)
    if d.flag():
        f = d.emit(
            "Erf", d.emit("Div", x, scalar(d, x, sqrt(2))) if d.flag() else d.emit("Mul", x, scalar(d, x, sqrt(0.5)))
        )
    else:
        cubic = d.emit("Mul", d.emit("Pow", x, scalar(d, x, 3)), scalar(d, x, 0.044715))
        f = d.emit("Tanh", d.emit("Mul", d.emit("Add", x, cubic), scalar(d, x, sqrt(2 / 3.141592653589793))))
    one = d.emit("Add", f, scalar(d, x, 1))
    if d.flag():
        d.emit("Mul", d.emit("Mul", x, scalar(d, x, 0.5)), one)
    else:
        d.emit("Mul", d.emit("Mul", x, one), scalar(d, x, 0.5))


@recipe("layer normalization written out", family="patterns")
def layer_norm(d: Draw, op: str) -> None:
    x = real(d, 2)
    rank = len(x.shape)
    axes = (rank - 1,) if d.flag(0.85) else (1,)
    centred = d.emit("Sub", x, d.emit("ReduceMean", x, axes=axes, keepdims=1))
    square = d.emit("Mul", centred, centred) if d.flag() else d.emit("Pow", centred, scalar(d, x, 2))
    variance = d.emit("Add", d.emit("ReduceMean", square, axes=axes, keepdims=1), scalar(d, x, 1e-3))
    root = d.emit("Sqrt", variance)
    y = d.emit("Div", centred, root) if d.flag(0.7) else d.emit("Mul", centred, d.emit("Reciprocal", root))
    if d.flag():
        y = d.emit("Mul", y, per_channel(d, y, -1))
    if d.flag():
        d.emit("Add", y, per_channel(d, y, -1))


@recipe("softmax written out", family="patterns")
def softmax(d: Draw, op: str) -> None:
    x = real(d)
    axes = (d.axis(x),)
    e = d.emit("Exp", d.emit("Sub", x, d.emit("ReduceMax", x, axes=axes, keepdims=1)))
    d.emit("Div", e, d.emit("ReduceSum", e, axes=axes, keepdims=1))


@recipe("attention", family="patterns", weight=2)
def attention(d: Draw, op: str) -> None:
    """One or several heads, from projections or from values that are there; masks of several shapes."""
    heads, size, steps = d.choice((1, 2, 3, 4)), d.choice((4, 8, 16)), d.choice((1, 3, 8, 17))
    width = heads * size
    kind = "f32" if d.flag(0.9) else float_type(d)
    x = d.pick(lambda t: t.dtype == kind and t.shape[1:] == (steps, width), lambda: Type(kind, (1, steps, width)))
    if not 0 < len(x.shape) == 3:
        raise Unsuitable("no sequence")
    batch = x.shape[0]

    def projected(perm: tuple[int, ...]) -> Value:
        y = d.emit("MatMul", x, weights(d, kind, (width, width)))
        if d.flag(0.4):
            y = d.emit("Add", y, d.fresh(Type(kind, (width,)), constant=1))
        return d.emit("Transpose", d.emit("Reshape", y, shape=(batch, steps, heads, size)), perm=perm)

    q, v = projected((0, 2, 1, 3)), projected((0, 2, 1, 3))
    k = projected((0, 2, 3, 1)) if d.flag() else d.emit("Transpose", projected((0, 2, 1, 3)), perm=(0, 1, 3, 2))
    if d.flag(0.3):
        q = d.emit("Mul", q, scalar(d, q, size**-0.5))
    scores = d.emit("MatMul", q, k)
    if d.flag(0.7):
        scores = d.emit(d.choice(("Mul", "Div")), scores, scalar(d, scores, sqrt(size)))
    if d.flag(0.4):
        shape = d.choice(((steps, steps), (1, 1, steps, steps), (batch, 1, 1, steps), (1, heads, steps, steps)))
        scores = d.emit("Add", scores, d.fresh(Type(kind, shape)))
    out = d.emit("MatMul", d.emit("Softmax", scores, axis=-1 if d.flag(0.9) else 2), v)
    d.emit("Reshape", d.emit("Transpose", out, perm=(0, 2, 1, 3)), shape=(batch, steps, width))


@recipe("channels shuffled", family="patterns")
def shuffle(d: Draw, op: str) -> None:
    x = image(d, FLOATS)
    n, c, h, w = x.shape
    groups = d.choice([g for g in (2, 3, 4) if c % g == 0])
    y = d.emit("Reshape", x, shape=(n, groups, c // groups, h, w))
    y = d.emit("Reshape", d.emit("Transpose", y, perm=(0, 2, 1, 3, 4)), shape=x.shape)
    if c % 2 == 0 and d.flag():
        a, b = d.emit_all("Split", y, axis=1, split=(c // 2, c // 2))
        d.emit("Concat", *((a, b) if d.flag() else (b, d.emit("Relu", a))), axis=1)


@recipe("joined along one axis again and again", family="patterns")
def dense(d: Draw, op: str) -> None:
    x = image(d, FLOATS)
    if 0 in x.shape or x.shape[1] > 40:
        raise Unsuitable("too large")
    y = x
    for _ in range(d.integer(1, 3)):
        c = y.shape[1]
        new = d.emit("Conv", y, weights(d, x.type.dtype, (8, c, 1, 1)), d.fresh(Type(x.type.dtype, (8,)), constant=1))
        y = d.emit("Concat", *((y, new) if d.flag() else (new, y)), axis=1)


@recipe("there and back", family="patterns", weight=1.5)
def there_and_back(d: Draw, op: str) -> None:
    """A transpose, something that may pass it, and its inverse."""
    x = image(d)
    y = d.emit("Transpose", x, perm=(0, 2, 3, 1))
    for _ in range(d.integer(0, 2)):
        names = [n for n, r in RECIPES.items() if r.family == "elementwise" or n in ("Concat", "Pad", "ReduceMean")]
        with d.attempt():
            name = d.choice(names)
            RECIPES[name].make(d, name)
        if d.values and len(d.values[-1].shape) == 4:
            y = d.values[-1]
    d.emit("Transpose", y, perm=(0, 3, 1, 2))


@recipe("padded window", family="patterns")
def padded_window(d: Draw, op: str) -> None:
    x = image(d, FLOATS)
    if d.flag():
        x = d.emit(d.choice(("Relu", "Sigmoid", "Abs")), x)
    value = d.choice((0.0, 0.0, 0.0, 1.0))
    y = d.emit(
        "Pad",
        x,
        pads=(0, 0, *(d.integer(0, 2) for _ in range(2)), 0, 0, *(d.integer(0, 2) for _ in range(2))),
        value=value,
    )
    kind = d.choice(("MaxPool", "AveragePool", "Conv"))
    if kind == "Conv":
        bias = d.fresh(Type(x.type.dtype, (4,)), constant=1)
        d.emit("Conv", y, weights(d, x.type.dtype, (4, x.shape[1], 3, 3)), bias, strides=(d.integer(1, 2),) * 2)
    else:
        own = (1, 1, 1, 1) if d.flag(0.2) else (0, 0, 0, 0)
        attrs = {"count_include_pad": d.integer(0, 1)} if kind == "AveragePool" else {}
        d.emit(kind, y, kernel_shape=(d.integer(1, 3),) * 2, strides=(d.integer(1, 2),) * 2, pads=own, **attrs)


@recipe("arithmetic with constants", family="patterns", weight=1.5)
def arithmetic(d: Draw, op: str) -> None:
    """Chains that rules merge."""
    y = real(d, 0)
    for _ in range(d.integer(2, 4)):
        number = d.choice((0.0, 1.0, 2.0, 0.5, -1.0, 3.0))
        kind = d.choice(("Add", "Mul", "Sub", "Div", "Max", "Min", "Pow"))
        if (kind == "Div" and number == 0) or (kind == "Pow" and number < 0):
            number = 2.0
        if kind == "Pow" and number == 0.5:
            y = d.emit("Abs", y)
        c = d.constant(number, y.type.dtype)
        if y.shape and d.flag(0.3):
            c = per_channel(d, y, d.axis(y))
            kind = d.choice(("Add", "Mul", "Sub"))
        y = d.emit(kind, *((y, c) if kind in ("Div", "Pow") or d.flag(0.8) else (c, y)))


@recipe("squeeze and excite", family="patterns")
def squeeze(d: Draw, op: str) -> None:
    x = image(d, FLOATS)
    n, c, _, _ = x.shape
    mean = d.emit("ReduceMean", x, axes=(2, 3), keepdims=d.integer(0, 1))
    flat = d.emit("Reshape", mean, shape=(n, c))
    hidden = d.emit("Relu", d.emit("MatMul", flat, weights(d, x.type.dtype, (c, 4))))
    g = d.emit("Sigmoid", d.emit("MatMul", hidden, weights(d, x.type.dtype, (4, c))))
    d.emit("Mul", x, d.emit("Reshape", g, shape=(n, c, 1, 1)))
