"""The row of sums and maxima of bytes over windows on Helium: four channels of a pixel at a time, sixteen for maxima
alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .common import ceil_div, epilogue_fits, input_index
from .conv_shape import Window, window
from .mve_shape import BYTES, ENDS, QUAD, beside, channels_last, stored_channels

if TYPE_CHECKING:
    from ..tir import Expr, Stmt
    from .common_emit import Frame

NAME = "pool_int8_mve"


def match(problem: Problem) -> Literal[True] | str:
    x = problem.anchor.args[0]
    if x.type.dtype not in ("i8", "u8") or input_index(problem.body, x) < 0:
        return "reads bytes as they lie"
    shape = window(problem.anchor)
    if isinstance(shape, str):
        return shape
    if len(problem.anchor.types) != 1 or any(0 in t.shape for t in (x.type, problem.anchor.types[0])):
        return "makes one result that has elements"
    return epilogue_fits(problem)


def geometry(problem: Problem) -> Window:
    w = window(problem.anchor)
    assert isinstance(w, Window)
    return w


def whole_vectors(problem: Problem) -> bool:
    """Whether sixteen channels at a time are compared: where nothing follows."""
    x, out = problem.anchor.args[0], problem.body.outputs[0]
    few = x.shape[1] <= BYTES - QUAD
    return problem.anchor.op == "MaxPool" and out.node is problem.anchor and not few


def choices(problem: Problem) -> Sequence[Choice]:
    w, x = geometry(problem), problem.anchor.args[0]
    fixed = channels_last(len(x.shape), True)
    layouts = tuple(fixed if v == x else beside(problem, v) for v in problem.body.inputs)
    out = beside(problem, problem.body.outputs[0])
    each, many = 6.0 * w.taps + 10.0 * w.height.kernel + ENDS + 20.0, QUAD
    if whole_vectors(problem):
        each, many = 4.0 * w.taps + 10.0 * w.height.kernel + 10.0, BYTES
    us = w.batch * w.pixels * ceil_div(w.channels_out, many) * each / (problem.target.cpu.ghz * 1e3) + 0.2
    return [Choice(NAME, layouts, (out,), (), us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from tvm import tirx

    from .. import tir
    from .common_emit import emit_kernel, put, vector
    from .mve_vector import store_four
    from .mve_window import bounds

    w, x, anchor = geometry(problem), problem.anchor.args[0], problem.anchor.results[0]
    stored, greatest = stored_channels(x.type), problem.anchor.op == "MaxPool"
    attrs: Any = full_attrs(problem.anchor)
    wide, zero = f"int32x{QUAD}", int(attrs.get("zero", 0))

    def pixel(frame: Frame, image: Expr, row: Expr, column: Expr) -> Stmt:
        data, declared = tir.flat(frame.places[x].buffer)
        top, left = row * w.height.stride - w.height.pad, column * w.width.stride - w.width.pad
        ends = [tir.let(tir.expr(v), "bound") for v in (*bounds(w.height, top), *bounds(w.width, left))]
        low, high, first, last = (name for name, _ in ends)

        def four(q: Expr) -> Stmt:
            acc, alloc = tir.local((QUAD,), "int32")

            def tap(kh: Expr, kw: Expr) -> Stmt:
                line = (image * w.height.size + (top + kh * w.height.dilation)) * w.width.size
                at = (line + (left + kw * w.width.dilation)) * stored + q * QUAD
                value, now = tirx.Cast(wide, vector(data, QUAD, at)), vector(acc, QUAD, 0)
                return put(acc, tirx.max(now, value) if greatest else now + value, QUAD, 0)

            def line(kh: Expr) -> Stmt:
                return tir.loop(last - first, lambda kw: tap(kh, kw), "kw", start=first)

            # sums start from what the zero point of all their elements takes off
            start = tir.i32(-256) if greatest else (high - low) * (last - first) * -zero
            stage, room = tir.local((QUAD,), "int32", "stage")
            return tir.seq(
                alloc,
                room,
                put(acc, tir.broadcast(start, QUAD), QUAD, 0),
                tir.loop(high - low, line, "kh", start=low),
                put(stage, vector(acc, QUAD, 0), QUAD, 0),
                store_four(
                    frame, anchor, stage, q * QUAD, w.channels_out,
                    lambda c: (image, c, row, column) if len(anchor.shape) == 4 else (image, c, column),
                ),
            )  # fmt: skip

        def sixteen(v: Expr) -> Stmt:
            """The last vector lies before the end of the pixel."""
            first, bind = tir.let(tirx.min(v * BYTES, stored - BYTES), "first")
            acc, alloc = tir.local((BYTES,), str(data.dtype))

            def at(kh: Expr | int, kw: Expr | int) -> Expr:
                line = (image * w.height.size + (top + kh * w.height.dilation)) * w.width.size
                return vector(data, BYTES, (line + (left + kw * w.width.dilation)) * stored + first)

            def tap(kh: Expr, kw: Expr) -> Stmt:
                return put(acc, tirx.max(vector(acc, BYTES, 0), at(kh, kw)), BYTES, 0)

            def line(kh: Expr) -> Stmt:
                return tir.loop(last - start, lambda kw: tap(kh, kw), "kw", start=start)

            start = first_column
            out, declared_out = tir.flat(frame.place.buffer)
            target = ((image * w.height.out + row) * w.width.out + column) * stored + first
            begin = put(acc, at(low, start), BYTES, 0)
            end = put(out, vector(acc, BYTES, 0), BYTES, target)
            lines = tir.loop(high - low, line, "kh", start=low)
            return tir.seq(bind, alloc, declared_out, begin, lines, end)

        first_column = first
        if whole_vectors(problem):
            blocks = tir.loop(ceil_div(stored, BYTES) + frame.zero, sixteen, "v")
        else:
            blocks = tir.loop(ceil_div(w.channels_out, QUAD) + frame.zero, four, "q")
        return tir.seq(declared, [bind for _, bind in ends], blocks)

    def task(frame: Frame, number: Expr) -> Stmt:
        def one(n: Expr) -> Stmt:
            image, row, column = tir.split(n, w.batch, w.height.out, w.width.out)
            return pixel(frame, image if w.batch > 1 else tir.i32(0), row, column)

        return tir.loop(w.batch * w.pixels + frame.zero, one, "pixel")

    return emit_kernel(problem, choice, symbol, 1, task)


kernel(
    Row(
        NAME,
        frozenset({"MaxPool", "Edgec.SumPool"}),
        match,
        choices,
        emit,
        "sums and maxima of bytes over windows on Helium, four channels at a time",
        frozenset({"MVE"}),
    )
)
