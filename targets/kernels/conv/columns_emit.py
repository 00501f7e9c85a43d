"""TensorIR of Col2Im: the sums of one row of pixels, the runs of columns that they are made of, their weaving."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd, prod
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype

from ... import tir
from ...conversions import narrow, widen
from ...tir import Expr, Stmt
from ..plain import Tensors
from ..plain_lines import AT_ONCE, swept
from .columns_rows import Shape, shape_of

Row = tuple[list[Expr], list[Expr]]  # the place on each axis before the last, and its first tap
MOST_WOVEN = 8  # strides up to here are woven by shuffles of as many vectors


def rows(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    """A task: the pixels of one row."""
    s = shape_of(t.node, t.problem.target.cpu)
    outer = s.image[:-1]
    planes = prod(t.node.types[0].shape[:2])
    sums = t.scratch[0]
    size, stride = s.strides[-1] * s.run, s.strides[-1]
    zero = tir.lit(0, str(sums.dtype))

    def task(number: Expr) -> Stmt:
        plane, *place = tir.split(number, planes, *outer)
        line = t.scratch[0] if stride == 1 else t.scratch[1]
        out, name = t.out(), dtype(t.node.types[0].dtype).tvm

        def write(j: Expr) -> Stmt:
            return out.store(narrow(tir.load(line, j + s.pads[len(outer)]), name), number * s.image[-1] + j)

        first, find = _first_taps(s, place)
        return tir.seq(
            find,
            swept(size, s.lanes, lambda j: tir.store(sums, zero, j), "zero"),
            _sums(t, s, plane, (place, first)),
            _woven(t, s) if stride > 1 else None,
            swept(s.image[-1], s.lanes, write, "pixel"),
        )

    return planes * prod(outer), task


def _first_taps(s: Shape, place: list[Expr]) -> tuple[list[Expr], Stmt]:
    """Of each axis before the last, the first tap that may lie on the row (its number of taps where none does)."""
    found = []
    for k, pixel in enumerate(place):
        g, step = gcd(s.strides[k], s.dilations[k]), s.step(k)
        padded = pixel + s.pads[k]
        # dilation / g has an inverse modulo the step: what it makes of the place is the first tap
        first = (padded // g * pow(s.dilations[k] // g, -1, step)) % step if step > 1 else tir.i32(0)
        first = first if g == 1 else tirx.Select((padded % g).equal(0), first, tir.i32(s.block[k]))
        found.append(tir.let(first, "first"))
    return [x for x, _ in found], tir.seq(bind for _, bind in found)


def _sums(t: Tensors, s: Shape, plane: Expr, row: Row) -> Stmt:
    """Each tap of the last axis in turn, as its columns lie a step further: loads just after stores must match them."""
    wide, stride = AT_ONCE * s.lanes, s.strides[-1]

    def tap(x: Expr) -> Stmt:
        shift = x * s.dilations[-1]
        to, name = tir.let((shift % stride) * s.run + shift // stride if stride > 1 else shift, "to")
        whole = s.counts[-1] // wide
        rest = s.counts[-1] - whole * wide
        return tir.seq(
            name,
            tir.loop(whole, lambda c: _run(t, s, plane, row, x, to, c * wide, wide), "c") if whole else None,
            _run(t, s, plane, row, x, to, tir.i32(whole * wide), rest) if rest else None,
        )

    return tir.loop(s.block[-1], tap, "x")


def _run(t: Tensors, s: Shape, plane: Expr, row: Row, x: Expr, to: Expr, first: Expr, width: int) -> Stmt:
    """Add columns of one tap of the last axis: `width` from the first on, of all taps of other axes on this row."""
    sums, columns = t.scratch[0], t.line(0)
    kind = str(sums.dtype)
    totals = [tir.local((min(s.lanes, width - j),), kind) for j in range(0, width, s.lanes)]

    def each(fn: Callable[[Any, Expr, Expr], Stmt]) -> Stmt:
        """`fn(total, lane, number of the column)`."""

        def one(k: int) -> Stmt:
            total = totals[k][0]
            return tir.vectorized(int(total.shape[0]), lambda v: fn(total, v, k * s.lanes + v))

        return tir.seq(one(k) for k in range(len(totals)))

    def add(tap: Expr, window: Expr) -> Stmt:
        source = (plane * prod(s.block) + tap * s.block[-1] + x) * prod(s.counts) + window * s.counts[-1] + first
        at, name = tir.let(source, "source")

        def more(total: Any, v: Expr, j: Expr) -> Stmt:
            column = narrow(widen(columns.load(at + j)), kind)
            return tir.store(total, tir.load(total, v) + column, v)

        return tir.seq(name, each(more))

    return tir.seq(
        [alloc for _, alloc in totals],
        each(lambda total, v, j: tir.store(total, tir.load(sums, to + first + j), v)),
        _taps(s, row, 0, tir.i32(0), tir.i32(0), add),
        each(lambda total, v, j: tir.store(sums, tir.load(total, v), to + first + j)),
    )


def _taps(s: Shape, row: Row, k: int, tap: Expr, window: Expr, then: Callable[[Expr, Expr], Stmt]) -> Stmt:
    """`then(tap, window)` for what lies on the row: numbers over all axes before the last."""
    place, first_taps = row
    if k == len(place):
        return then(tap, window)

    def one(turn: Expr) -> Stmt:
        y, name = tir.let(first_taps[k] + turn * s.step(k), "y")
        reached, bind = tir.let(place[k] + (s.pads[k] - y * s.dilations[k]), "reached")
        number = reached // s.strides[k]
        inside = tirx.And(tirx.And(reached >= 0, number < s.counts[k]), y < s.block[k])
        inner = _taps(s, row, k + 1, tap * s.block[k] + y, window * s.counts[k] + number, then)
        return tir.seq(name, bind, tir.when(inside, inner))

    return tir.loop(s.covering(k), one, "turn")


def _woven(t: Tensors, s: Shape) -> Stmt:
    """Sums of all remainders in turn, as pixels lie."""
    sums, line, stride, run, lanes = t.scratch[0], t.scratch[1], s.strides[-1], s.run, s.lanes

    def shuffled(c: Expr) -> Stmt:
        vectors = [tir.load(sums, tir.ramp(r * run + c * lanes, lanes)) for r in range(stride)]
        order = [tir.i32(r * lanes + v) for v in range(lanes) for r in range(stride)]
        woven: Any = tirx.Shuffle(vectors, order)
        return tir.store(line, woven, tir.ramp(c * lanes * stride, lanes * stride))

    def single(j: Expr) -> Stmt:
        return tir.loop(stride, lambda r: tir.store(line, tir.load(sums, r * run + j), j * stride + r), "r")

    if lanes > 1 and stride <= MOST_WOVEN:
        return tir.loop(run // lanes, shuffled, "weave")
    return tir.loop(run, single, "weave")
