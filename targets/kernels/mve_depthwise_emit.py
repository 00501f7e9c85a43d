"""TensorIR of depthwise convolutions of bytes on Helium (mve_depthwise_rows.py says how they are computed)."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .common import ceil_div
from .common_emit import Frame, emit_kernel, put, vector
from .conv_shape import Axis, Window
from .mve_depthwise_rows import plan_of, streams
from .mve_shape import QUAD, stored_channels

F32X4 = f"float32x{QUAD}"


class Depthwise:
    """Emits one kernel, which is one task: block by block of four channels, row by row."""

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        self.rank = len(self.anchor.shape)
        self.plan = plan_of(w, choice.get("mt"))
        self.stored = stored_channels(self.x.type)
        attrs: Any = full_attrs(problem.anchor)
        self.zero = int(attrs["zero"])

    def emit(self, symbol: str) -> Emitted:
        parts, at = [], 0
        for name, vectors in self.plan.room(self.w):
            parts.append((name, "int32" if name == "sums" else "float32", vectors * QUAD, at))
            at += vectors * QUAD * 4
        return emit_kernel(self.problem, self.choice, symbol, 1, self.task, parts=parts)

    def task(self, frame: Frame, number: Expr) -> Stmt:
        self.frame = frame
        self.rows, self.taps, self.sums = frame.parts
        self.data, declared_x = tir.flat(frame.places[self.x].buffer)
        self.weights, declared_w = tir.flat(frame.places[self.weight].buffer)
        blocks = ceil_div(self.w.channels_out, QUAD)

        def image(n: Expr) -> Stmt:
            return tir.loop(blocks + frame.zero, lambda b: self.block(n, b), "block")

        margin = self.blank(tir.i32(0), self.plan.slots * self.plan.width)
        return tir.seq(declared_x, declared_w, margin, tir.loop(self.w.batch, image, "n"))

    def blank(self, first: Expr, vectors: Expr | int) -> Stmt:
        zeros = tir.broadcast(tir.lit(0.0, "float32"), QUAD)
        return tir.loop(
            vectors + self.frame.zero, lambda i: put(self.rows, zeros, QUAD, first + i * QUAD), "i"
        )

    def block(self, image: Expr, block: Expr) -> Stmt:
        def tap(k: Expr) -> Stmt:
            value = vector(self.weights, QUAD, (block * self.w.taps + k) * QUAD)
            return put(self.taps, tirx.Cast(F32X4, value), QUAD, k * QUAD)

        def row(r: Expr) -> Stmt:
            return tir.seq(self.reach(image, block, r), self.products(r), self.finish(image, block, r))

        return tir.seq(
            tir.loop(self.w.taps + self.frame.zero, tap, "k"),
            tir.loop(self.w.height.out + self.frame.zero, row, "row"),
        )

    # -- rows of the input -----------------------------------------------------------------------------------------

    def reach(self, image: Expr, block: Expr, row: Expr) -> Stmt:
        """Widen the rows that the windows of an output row are the first to reach; rows count from the padding's."""
        h, span = self.w.height, self.plan.slots
        first = row * h.stride
        if span <= h.stride:
            return tir.loop(span, lambda r: self.widen(image, block, first + r), "r")
        seen = tirx.Select(row > 0, first + (span - h.stride), tir.i32(0))
        start, bind = tir.let(seen, "start")
        return tir.seq(bind, tir.loop(first + span - start, lambda r: self.widen(image, block, r), "r", start=start))

    def slot(self, row: Expr) -> Expr:
        """Where a row lies among those that are kept."""
        return tirx.floormod(row, self.plan.slots) * (self.plan.width * QUAD)

    def widen(self, image: Expr, block: Expr, row: Expr) -> Stmt:
        h, v = self.w.height, self.w.width
        count = min(v.size, self.plan.width - v.pad)
        first, bind = tir.let(self.slot(row) + v.pad * QUAD, "first")
        source = row - h.pad
        line, bind_line = tir.let(((image * h.size + source) * v.size) * self.stored + block * QUAD, "line")

        def one(i: Expr) -> Stmt:
            wide = tirx.Cast(f"int32x{QUAD}", vector(self.data, QUAD, line + i * self.stored))
            if self.zero:
                wide = wide - tir.broadcast(tir.i32(self.zero), QUAD)
            return put(self.rows, tirx.Cast(F32X4, wide), QUAD, first + i * QUAD)

        widened = tir.seq(bind_line, tir.loop(count + self.frame.zero, one, "i")) if count > 0 else None
        if _inside(h) or widened is None:
            return tir.seq(bind, widened)
        within = tirx.And(source >= 0, source < h.size)
        return tir.seq(bind, tir.when(within, widened, self.blank(first, count)))

    # -- products --------------------------------------------------------------------------------------------------

    def products(self, row: Expr) -> Stmt:
        """The sums of an output row. The last tile may repeat some of the one before."""
        v, columns = self.w.width, self.plan.columns

        def tile(t: Expr) -> Stmt:
            left = t * columns
            left, bind = tir.let(tirx.min(left, v.out - columns) if v.out % columns else left, "left")
            acc, alloc = tir.local((columns * QUAD,), "float32")
            none = tir.broadcast(tir.lit(0.0, "float32"), QUAD)
            taps = tir.loop(
                self.w.height.kernel + self.frame.zero if self.w.height.kernel > 1 else 1,
                lambda kh: self.line(acc, row, kh, left), "kh",
            )  # fmt: skip
            ends = [
                put(self.sums, tirx.Cast(f"int32x{QUAD}", vector(acc, QUAD, p * QUAD)), QUAD, (left + p) * QUAD)
                for p in range(columns)
            ]
            return tir.seq(bind, alloc, [put(acc, none, QUAD, p * QUAD) for p in range(columns)], taps, ends)

        return tir.loop(ceil_div(v.out, columns) + self.frame.zero, tile, "tile")

    def line(self, acc: Buffer, row: Expr, kh: Expr, left: Expr) -> Stmt:
        """A row of the window: weights in registers and each input once, or each weight once."""
        h, v, columns = self.w.height, self.w.width, self.plan.columns
        first, bind = tir.let(
            self.slot(row * h.stride + kh * h.dilation) + left * (v.stride * QUAD), "first"
        )
        taps, bind_taps = tir.let(kh * (v.kernel * QUAD), "taps")
        parts: list[Stmt] = [bind, bind_taps]

        def weight(kw: int) -> Expr:
            value, made = tir.let(vector(self.taps, QUAD, taps + kw * QUAD), "w")
            parts.append(made)
            return value

        def read(place: int) -> Expr:
            value, made = tir.let(vector(self.rows, QUAD, first + place * QUAD), "x")
            parts.append(made)
            return value

        def add(p: int, x: Expr, w: Expr) -> None:
            total = tirx.call_llvm_pure_intrin(F32X4, "llvm.fma", x, w, vector(acc, QUAD, p * QUAD))
            parts.append(put(acc, total, QUAD, p * QUAD))

        if streams(self.w, columns):
            weights = [weight(kw) for kw in range(v.kernel)]
            users: dict[int, list[tuple[int, int]]] = {}
            for p in range(columns):
                for kw in range(v.kernel):
                    users.setdefault(p * v.stride + kw * v.dilation, []).append((p, kw))
            for place in sorted(users):
                x = read(place)
                for p, kw in users[place]:
                    add(p, x, weights[kw])
        else:
            for kw in range(v.kernel):
                w = weight(kw)
                for p in range(columns):
                    add(p, read(p * v.stride + kw * v.dilation), w)
        return tir.seq(parts)

    # -- results ---------------------------------------------------------------------------------------------------

    def finish(self, image: Expr, block: Expr, row: Expr) -> Stmt:
        def column(c: Expr) -> Stmt:
            def one(lane: Expr) -> Stmt:
                channel = block * QUAD + lane
                bias = self.frame.body.at(self.bias, (channel if self.bias.shape[0] > 1 else tir.i32(0),))
                self.frame.body.bind(self.anchor, lambda _: tir.load(self.sums, c * QUAD + lane) + bias)
                return self.frame.store((image, channel, row, c) if self.rank == 4 else (image, channel, c))

            return tir.vectorized(QUAD, one)

        return tir.loop(self.w.width.out + self.frame.zero, column, "c")


def _inside(axis: Axis) -> bool:
    """Whether no window reaches outside."""
    return axis.pad == 0 and axis.inside(axis.out - 1, axis.kernel - 1)
