"""Results whose size depends on data: what is there, how much, and outputs that are cut to that."""

from __future__ import annotations

import numpy as np

from edgec.compiler.ir import Type, Value
from edgec.compiler.ops.common import ORDERED

from ..draw import Draw, Unsuitable
from . import recipe
from .maps import tensor


def cut(d: Draw, value: Value, count: Value, axis: int) -> None:
    """An output of as many entries as there are, or a mask of them."""
    if d.flag():
        d.end("Edgec.Sized", value, count, axis=axis)
    if d.flag(0.4):
        d.emit("Edgec.Below", count, size=value.shape[axis])


@recipe("Edgec.NonZero", weight=0.6)
def non_zero(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    if not x.type.size:
        raise Unsuitable("nothing there")
    where, count = d.emit_all(op, x)
    cut(d, where, count, 1)


@recipe("Edgec.Compress", weight=0.6)
def compress(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    axis = d.axis(x)
    if not x.type.size:
        raise Unsuitable("nothing there")
    kept, count = d.emit_all(op, x, d.fresh(Type("bool", (d.integer(1, x.shape[axis]),)), constant=0.2), axis=axis)
    cut(d, kept, count, axis)


@recipe("Edgec.Unique", weight=0.6)
def unique(d: Draw, op: str) -> None:
    x = d.pick(
        lambda t: bool(t.shape) and t.dtype in ORDERED and 0 < t.size < 500,
        lambda: Type(d.dtype({"i32", "i64", "bool", "f32"}), d.shape(d.choice((1, 2)), 60)),
    )
    if not x.type.size:
        raise Unsuitable("nothing there")
    axis = d.axis(x)
    values, *_, count = d.emit_all(op, x, axis=axis, sorted=d.integer(0, 1))
    cut(d, values, count, axis)


@recipe("Edgec.NonMaxSuppression", weight=0.6)
def suppression(d: Draw, op: str) -> None:
    batches, classes, boxes, kind = d.integer(1, 2), d.integer(1, 3), d.integer(1, 20), d.choice(("f32", "f32", "f64"))
    corners = d.arrays.uniform(0, 4, (batches, boxes, 4)).astype("f4" if kind == "f32" else "f8")
    scores = d.fresh(Type(kind, (batches, classes, boxes)), constant=0.1)
    limits = [d.constant(0.4, kind), *([d.constant(0.1, kind)] if d.flag() else [])]
    most = d.constant(np.asarray(d.integer(1, boxes), np.int64))
    size = d.integer(1, boxes)
    kept, counts = d.emit_all(op, d.hold(corners, 0.2), scores, most, *limits, size=size, center=d.integer(0, 1))
    if d.flag():
        listed, count = d.emit_all("Edgec.Listed", kept, counts)
        cut(d, listed, count, 0)
