"""TensorIR of depthwise convolutions of bytes on Helium (depthwise_rows.py says how they are computed)."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common import ceil_div
from ...common_emit import Frame, emit_kernel, put, vector
from ...conv.shape import Axis, Window, geometry
from .depthwise_rows import plan_of, written_out
from .shape import QUAD, stored_channels
from .vector import opaque, store_lanes

F32X4 = f"float32x{QUAD}"


class Depthwise:
    """Emits one kernel, which is one task: block by block of four channels, row by row."""

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        self.rank = len(self.anchor.shape)
        self.plan = plan_of(w, choice.get("mt"))
        self.turned = w != geometry(problem)
        self.stored = stored_channels(self.x.type)
        attrs: Any = full_attrs(problem.anchor)
        self.zero = int(attrs["zero"])

    def emit(self, symbol: str) -> Emitted:
        parts, at = [], 0
        for name, vectors in self.plan.room(self.w):
            parts.append((name, "int32" if name == "sums" else "float32", vectors * QUAD, at))
            at += vectors * QUAD * 4
        return emit_kernel(self.problem, self.choice, symbol, 1, self.task, parts=parts)

    def index(self, image: Expr, channel: Expr, row: Expr, column: Expr) -> tuple[Expr, ...]:
        """Logical index of an output."""
        if self.rank == 3:
            return image, channel, column
        return (image, channel, column, row) if self.turned else (image, channel, row, column)

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
        return tir.loop(vectors + self.frame.zero, lambda i: put(self.rows, zeros, QUAD, first + i * QUAD), "i")

    def block(self, image: Expr, block: Expr) -> Stmt:
        h, span = self.w.height, self.plan.slots

        def tap(k: Expr) -> Stmt:
            value = vector(self.weights, QUAD, (block * self.w.taps + k) * QUAD)
            return put(self.taps, tirx.Cast(F32X4, value), QUAD, k * QUAD)

        fresh = min(h.stride, span)

        def widened(first: Expr, count: int) -> Stmt:
            return tir.loop(
                count + self.frame.zero if count > 1 else count, lambda r: self.widen(image, block, first + r), "r"
            )

        def row(r: Expr) -> Stmt:
            new = widened(r * h.stride + (span - fresh), fresh)
            return tir.seq(new, self.products(r), self.finish(image, block, r))

        return tir.seq(
            tir.loop(self.w.taps + self.frame.zero, tap, "k"),
            widened(tir.i32(0), span - fresh) if span > fresh else None,
            tir.loop(h.out + self.frame.zero, row, "row"),
        )

    # -- rows of the input, which count from the padding's ---------------------------------------------------------

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
        """The sums of an output row."""
        h, columns = self.w.height, self.plan.columns
        zeros = tir.broadcast(tir.lit(0.0, "float32"), QUAD)
        apart = written_out(self.w, self.problem.target.small)
        slots = [tir.let(self.slot(row * h.stride + kh * h.dilation), "slot") for kh in range(h.kernel if apart else 0)]

        def tile(t: Expr) -> Stmt:
            first, bind = tir.let(t * (columns * QUAD), "first")
            acc, alloc = tir.local((columns * QUAD,), "float32")
            if apart:
                lines = tir.seq(self.line(acc, slot, kh, first) for kh, (slot, _) in enumerate(slots))
            else:
                count = h.kernel + self.frame.zero

                def turn(kh: Expr) -> Stmt:
                    return self.line(acc, self.slot(row * h.stride + kh * h.dilation), kh, first)

                lines = tir.loop(count, turn, "kh")
            ends = [
                put(self.sums, tirx.Cast(f"int32x{QUAD}", vector(acc, QUAD, p * QUAD)), QUAD, first + p * QUAD)
                for p in range(columns)
            ]
            return tir.seq(bind, alloc, [put(acc, zeros, QUAD, p * QUAD) for p in range(columns)], lines, ends)

        return tir.seq([b for _, b in slots], tir.loop(self.plan.tiles + self.frame.zero, tile, "tile"))

    def line(self, acc: Buffer, slot: Expr, kh: Expr | int, left: Expr) -> Stmt:
        """A row of the window, some of its taps at a time: their weights in registers, and each input once."""
        v = self.w.width
        first, bind = tir.let(opaque(slot + left * v.stride), "first")
        taps = kh * (v.kernel * QUAD)
        group = self.choice.get("taps")
        many, rest = divmod(v.kernel, group)

        def some(g: Expr, count: int) -> Stmt:
            return self.stream(acc, first + g * (group * v.dilation * QUAD), taps + g * (group * QUAD), count)

        whole = tir.loop(many + self.frame.zero if many > 1 else 1, lambda g: some(g, group), "g")
        return tir.seq(bind, whole, some(tir.i32(many), rest) if rest else None)

    def stream(self, acc: Buffer, first: Expr, taps: Expr, count: int) -> Stmt:
        """Each input under some taps, times the weights of those that it is for."""
        v, columns = self.w.width, self.plan.columns
        users: dict[int, list[tuple[int, int]]] = {}
        for p in range(columns):
            for kw in range(count):
                users.setdefault(p * v.stride + kw * v.dilation, []).append((p, kw))
        parts: list[Stmt] = []
        weights = []
        for kw in range(count):
            value, made = tir.let(vector(self.taps, QUAD, taps + kw * QUAD), "w")
            weights.append(value)
            parts.append(made)
        for place, pairs in sorted(users.items()):
            x, made = tir.let(vector(self.rows, QUAD, first + place * QUAD), "x")
            parts.append(made)
            for p, kw in pairs:
                total = tirx.call_llvm_pure_intrin(F32X4, "llvm.fma", x, weights[kw], vector(acc, QUAD, p * QUAD))
                parts.append(put(acc, total, QUAD, p * QUAD))
        return tir.seq(parts)

    # -- results ---------------------------------------------------------------------------------------------------

    def finish(self, image: Expr, block: Expr, row: Expr) -> Stmt:
        def column(c: Expr) -> Stmt:
            def known(lane: Expr) -> None:
                channel = block * QUAD + lane
                bias = self.frame.body.at(self.bias, (channel if self.bias.shape[0] > 1 else tir.i32(0),))
                self.frame.body.bind(self.anchor, lambda _: tir.load(self.sums, c * QUAD + lane) + bias)

            return store_lanes(self.frame, known, lambda lane: self.index(image, block * QUAD + lane, row, c))

        return tir.loop(self.w.width.out + self.frame.zero, column, "c")


def _inside(axis: Axis) -> bool:
    """Whether no window reaches outside."""
    return axis.pad == 0 and axis.inside(axis.out - 1, axis.kernel - 1)
