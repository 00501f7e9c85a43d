"""Resize as arithmetic in the kernel: source positions and weights in f64, which equals the operator table's numbers.

Tables of nearest neighbours become integer arithmetic where they are a division of whole numbers, as most are.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.common import reach
from edgec.compiler.ops.resize import axis_taps, resized_length

from .conversions import narrow, widen
from .floats import at_least, at_most, rint
from .tir import Expr, Index, lit

Taps = list[tuple[Expr, Expr | None]]  # (source position, weight in f64; None: one)


def resize(body: Any, value: Value, index: Index) -> Expr:
    """One axis after the other, the first outermost, as in the operator table."""
    attrs: Any = full_attrs(value.node)
    argument = value.node.args[0]
    axes: list[tuple[int, Taps]] = []
    for axis, (n, out, scale) in enumerate(zip(argument.shape, attrs["sizes"], attrs["scales"], strict=True)):
        if out != n or scale != 1:
            axes.append((axis, axis_reads(body, index[axis], n, out, scale, attrs)))
    if attrs["mode"] == "nearest":
        source = list(index)
        for axis, taps in axes:
            source[axis] = taps[0][0]
        return body.at(argument, tuple(source))
    work = "float64" if dtype(argument.type.dtype).is_int or argument.type.dtype == "f64" else "float32"

    def total(level: int, at: Index) -> Expr:
        if level < 0:
            return tirx.Cast(work, widen(body.at(argument, at)))
        axis, taps = axes[level]
        terms = [total(level - 1, (*at[:axis], p, *at[axis + 1 :])) * tirx.Cast(work, w) for p, w in taps]
        return sum(terms[1:], terms[0])

    result = total(len(axes) - 1, index)
    if attrs["mode"] == "cubic" and dtype(value.type.dtype).is_int:
        low, high = reach(value.type.dtype)
        result = at_most(at_least(rint(result), f64(low)), f64(high))
    to = dtype(value.type.dtype).tvm
    return tirx.Cast(to, result) if work == "float64" else narrow(result, to)


def axis_reads(body: Any, i: Expr, n: int, out: int, scale: float, attrs: Any) -> Taps:
    """What output position `i` of an axis of `n` elements reads, to become `out` elements."""
    if attrs["mode"] == "nearest":
        table = [int(p) for p in axis_taps(n, out, scale, **attrs)[0][:, 0]]
        return [(_nearest(body, i, n, out, scale, table, attrs), None)]
    body.pin(i)
    at = _coordinate(i, scale, n, out, attrs["coordinate_transformation_mode"])
    base = tirx.floor(at)
    t = at - base
    first = tirx.Cast("int32", base)
    if attrs["mode"] == "linear":
        offsets: tuple[int, ...] = (0, 1)
        weights = [f64(1) - t, t]
    else:
        offsets, weights = (-1, 0, 1, 2), _cubic(t, float(attrs["cubic_coeff_a"]))
    if attrs["exclude_outside"]:
        inside = [tirx.And(first + o >= 0, first + o < n) for o in offsets]
        weights = [tirx.Select(c, w, f64(0)) for c, w in zip(inside, weights, strict=True)]
        total = sum(weights[1:], weights[0])
        weights = [w / total for w in weights]
    return [(body.within(first + o, 0, n - 1), w) for o, w in zip(offsets, weights, strict=True)]


def _nearest(body: Any, i: Expr, n: int, out: int, scale: float, table: list[int], attrs: Any) -> Expr:
    if (whole := integer_form(table, n, scale)) is not None:
        a, b, c = whole
        at = i * a + b
        return tirx.floordiv(at, c) if c > 1 and not isinstance(at, int) else at // c if isinstance(at, int) else at
    body.pin(i)
    at = _coordinate(i, scale, n, out, attrs["coordinate_transformation_mode"])
    at = tirx.Cast("float64", tirx.Cast("float32", at))
    rounded = {
        "round_prefer_floor": lambda p: f64(0) - tirx.floor(f64(0.5) - p),
        "round_prefer_ceil": lambda p: tirx.floor(p + f64(0.5)),
        "floor": tirx.floor,
        "ceil": tirx.ceil,
    }[attrs["nearest_mode"]](at)
    return body.within(tirx.Cast("int32", rounded), 0, n - 1)


def integer_form(table: Sequence[int], size: int, scale: float) -> tuple[int, int, int] | None:
    """(a, b, c) with table[i] == (a * i + b) // c for every i, in 32 bits; None where there are none."""
    steps = np.arange(len(table), dtype=np.int64)
    wanted = np.asarray(table, np.int64)
    for ratio in (Fraction(size, len(table)), Fraction(1 / scale).limit_denominator(1024)):
        for fine in (1, 2, 4):
            a, c = ratio.numerator * fine, ratio.denominator * fine
            least = int((wanted * c - steps * a).max())
            if 0 <= least <= int(((wanted + 1) * c - steps * a).min()) - 1 and a * len(table) + least < 1 << 31:
                return a, least, c
    return None


def f64(value: float) -> Expr:
    return lit(float(value), "float64")


def _coordinate(i: Expr, scale: float, n: int, out: int, mode: str) -> Expr:
    """The source position of output position i; the operations and their order are those of the operator table."""
    x = tirx.Cast("float64", i) if not isinstance(i, int) else f64(i)
    half = (x + f64(0.5)) / f64(scale)
    if mode == "asymmetric":
        return x / f64(scale)
    if mode == "tf_half_pixel_for_nn":
        return half
    if mode == "align_corners":
        return x * f64(n - 1) / f64(resized_length(n, out, scale) - 1) if out > 1 else f64(0)
    if mode == "half_pixel_symmetric":
        return f64(n / 2 * (1 - out / resized_length(n, out, scale))) + half - f64(0.5)
    return f64(0) if mode == "pytorch_half_pixel" and out <= 1 else half - f64(0.5)


def _cubic(t: Expr, a: float) -> list[Expr]:
    """Weights of the four neighbours of a position that lies `t` behind the second (Keys, 1981)."""

    def near(u: Expr) -> Expr:
        return (f64(a + 2) * u - f64(a + 3)) * u * u + f64(1)

    def far(u: Expr) -> Expr:
        return ((f64(a) * u - f64(5 * a)) * u + f64(8 * a)) * u - f64(4 * a)

    return [far(t + f64(1)), near(t), near(f64(1) - t), far(f64(2) - t)]
