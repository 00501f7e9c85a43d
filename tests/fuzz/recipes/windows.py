"""Convolutions, pooling and matrix products: shapes that make the fast templates compete, and awkward ones."""

from __future__ import annotations

from typing import Any

from edgec.compiler.ir import Type, Value
from edgec.compiler.ops.common import FLOATS, NUMBERS

from ..draw import Draw, Unsuitable
from . import recipe

Ints = tuple[int, ...]
_CHANNELS = {1: 2, 2: 1, 3: 4, 4: 3, 6: 1, 8: 3, 12: 1, 16: 4, 17: 1, 24: 2, 32: 3, 48: 1, 64: 1}
FLOATS_OFTEN = {"f32": 88, "f16": 5, "bf16": 4, "f64": 3}


def float_type(d: Draw) -> str:
    return d.main if d.main in FLOATS else d.weighted(FLOATS_OFTEN)


def windowed(d: Draw, kinds: frozenset[str] = FLOATS) -> Value:
    """An image, mostly; signals and volumes too."""

    def otherwise() -> Type:
        rank = d.choice((1, 2, 2, 2, 2, 2, 2, 3))
        sizes = tuple(d.integer(1, {1: 40, 2: 14, 3: 6}[rank]) for _ in range(rank))
        kind = d.dtype(kinds) if kinds != FLOATS else float_type(d)
        return Type(kind, (d.choice((1, 1, 1, 2, 3)), d.weighted(_CHANNELS), *sizes))

    return d.pick(lambda t: len(t.shape) in (3, 4, 5) and t.dtype in kinds and 0 not in t.shape, otherwise)


def window(d: Draw, sizes: Ints, most: int = 5) -> dict[str, Any]:
    """Kernel, strides, dilations and pads that fit."""
    rank = len(sizes)
    square = d.flag(0.7)

    def each(values: tuple[int, ...]) -> Ints:
        one = d.choice(values)
        return tuple(one if square else d.choice(values) for _ in range(rank))

    kernel = each((1, 2, 3, 3, 3, 5) if most >= 5 else (1, 2, 3))
    dilations = each((1, 1, 1, 1, 2))
    strides = each((1, 1, 1, 2, 2, 3))
    pads = [d.integer(0, (k - 1) * t) if d.flag(0.6) else 0 for k, t in zip(kernel * 2, dilations * 2, strict=True)]
    if d.flag(0.4):
        pads = [(k - 1) * t // 2 for k, t in zip(kernel * 2, dilations * 2, strict=True)]
    return {"kernel": kernel, "strides": strides, "dilations": dilations, "pads": tuple(pads)}


def weights(d: Draw, kind: str, shape: Ints) -> Value:
    return d.fresh(Type(kind, shape), "weights", constant=0.9)


@recipe("Conv", family="windows", weight=4)
def conv(d: Draw, op: str) -> None:
    x = windowed(d) if d.flag(0.93) else windowed(d, frozenset({"i32"}))
    w = window(d, x.shape[2:])
    channels = x.shape[1]
    group = d.choice([g for g in range(1, channels + 1) if channels % g == 0]) if d.flag(0.2) else 1
    if d.flag(0.2):
        group = channels
    out = group * (d.choice((1, 1, 2)) if group > 1 else d.weighted(_CHANNELS))
    if out > 64 or out * channels // group > 1500:
        raise Unsuitable("too large")
    filters = weights(d, x.type.dtype, (out, channels // group, *w.pop("kernel")))
    d.emit(op, x, filters, _bias(d, x.type.dtype, out), group=group, **w)


def _bias(d: Draw, kind: str, out: int) -> Value:
    return d.fresh(Type(kind, (out,)), d.choice(("", "", "zeros")), constant=0.9)


@recipe("ConvTranspose", family="windows", weight=1.5)
def conv_transpose(d: Draw, op: str) -> None:
    x = windowed(d)
    w = window(d, x.shape[2:])
    channels = x.shape[1]
    group = d.choice([g for g in range(1, channels + 1) if channels % g == 0]) if d.flag(0.2) else 1
    each = d.choice((1, 2, 3, 4, 8, 16))
    if each * channels > 1000:
        raise Unsuitable("too large")
    filters = weights(d, x.type.dtype, (channels, each, *w.pop("kernel")))
    extra = tuple(d.integer(0, s - 1) if d.flag(0.2) else 0 for s in w["strides"])
    d.emit(op, x, filters, _bias(d, x.type.dtype, each * group), group=group, output_padding=extra, **w)


@recipe("MaxPool", "AveragePool", family="windows", weight=1.2)
def pool(d: Draw, op: str) -> None:
    x = windowed(d, NUMBERS) if op == "MaxPool" and d.flag(0.2) else windowed(d)
    w = window(d, x.shape[2:], 3)
    if d.flag(0.2):
        w = {"kernel": x.shape[2:], "strides": (), "pads": (), "dilations": ()}  # over the whole image
    kernel = w.pop("kernel")
    if any(p >= k for p, k in zip(w["pads"], kernel * 2, strict=False)) and d.flag(0.9):
        w["pads"] = tuple(min(p, k - 1) for p, k in zip(w["pads"], kernel * 2, strict=True))
    attrs: dict[str, Any] = {"kernel_shape": kernel, **w, "ceil_mode": int(d.flag(0.2))}
    if op == "AveragePool":
        attrs["count_include_pad"] = d.integer(0, 1)
    d.emit(op, x, **attrs)


def matrix(d: Draw) -> Value:
    def otherwise() -> Type:
        kind = float_type(d) if d.flag(0.9) else d.dtype(NUMBERS)
        return Type(kind, (*d.shape(d.choice((0, 0, 1, 1, 2)), most=8), d.size(33), d.size(64)))

    return d.pick(lambda t: len(t.shape) >= 2 and t.dtype in NUMBERS and 0 not in t.shape, otherwise)


@recipe("MatMul", family="windows", weight=3)
def matmul(d: Draw, op: str) -> None:
    a = matrix(d)
    inner, kind = a.shape[-1], a.type.dtype

    def fits(t: Type) -> bool:
        return t.dtype == kind and len(t.shape) >= 2 and t.shape[-2] == inner

    if d.flag(0.6):
        batch = a.shape[:-2] if d.flag(0.3) else tuple(n if d.flag() else 1 for n in a.shape[:-2])[d.integer(0, 2) :]
        d.emit(op, a, weights(d, kind, (*batch, inner, d.size(64))))
        return
    if d.flag(0.4):
        rank = len(a.shape)
        b = d.emit("Transpose", a, perm=(*range(rank - 2), rank - 1, rank - 2))
        d.emit(op, *((a, b) if d.flag() else (b, a)))
        return
    d.emit(op, a, d.pick(fits, lambda: Type(kind, (*a.shape[:-2], inner, d.size(33)))))
