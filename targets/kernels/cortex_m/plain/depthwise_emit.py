"""TensorIR of depthwise convolutions on Cortex-M, of f32 or without DSP extension: lines of a channel as words."""

from __future__ import annotations

from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ...common import unblocked
from ...common_emit import Frame, emit_kernel
from ...conv.shape import conv_operands, geometry
from ..asm import OPAQUE, STAY, imported, opaque, stay
from ..depthwise_rows import lines_of
from ..fpu.rows import long_code
from .rows import line_of, ring_of

ABREAST = 2  # results at a time, of f32
MOST_TAPS = 16  # of a window that is so


class PlainDepthwise:
    """Emits one kernel; a task is an image."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem, self.choice, self.w = problem, choice, geometry(problem)
        self.x, self.weight, self.bias = conv_operands(problem.anchor)
        self.anchor = problem.anchor.results[0]
        self.rank = len(self.anchor.shape)
        attrs: Any = full_attrs(problem.anchor)
        self.zero = int(attrs.get("zero", 0))
        self.element = "float32" if self.anchor.type.dtype == "f32" else "int32"
        self.abreast = self.element == "float32" and self.w.taps <= MOST_TAPS and not problem.target.small
        self.long = self.element == "float32" and long_code(problem)
        self.lines, self.line = lines_of(self.w.height), line_of(self.w.width)

    def emit(self, symbol: str) -> Emitted:
        scratch = [("scratch", self.element, ring_of(self.w), 0)]
        return emit_kernel(self.problem, self.choice, symbol, self.w.batch, self.task, self.view, scratch, self.around)

    def view(self, value: Value) -> Type:
        return value.type if value == self.weight else unblocked(value.type)

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        return imported(OPAQUE + STAY, tasks)

    def task(self, frame: Frame, image: Expr) -> Stmt:
        def clear(i: Expr) -> Stmt:
            return tir.seq(stay(), tir.store(frame.parts[0], tir.lit(0, self.element), i))

        def channel(c: Expr) -> Stmt:
            return self.channel(frame, image, c)

        return tir.seq(
            tir.loop(opaque(ring_of(self.w)), clear, "i"), tir.loop(opaque(self.w.channels_in), channel, "c")
        )

    def channel(self, frame: Frame, image: Expr, c: Expr) -> Stmt:
        w, ring = self.w, frame.parts[0]
        following = tir.Cell("int32", "following")
        place = frame.places[self.x]

        def fetch(row: Expr) -> Stmt:
            def one(i: Expr) -> Stmt:
                index = (image, c, row, i) if self.rank == 4 else (image, c, i)
                value = place.load(index)
                if self.element == "int32":
                    value = tirx.Cast("int32", value) - self.zero
                return tir.seq(stay(), tir.store(ring, value, (row & (self.lines - 1)) * self.line + (i + w.width.pad)))

            return tir.loop(opaque(w.width.size), one, "i")

        def result(o: Expr) -> Stmt:
            start = o * w.height.stride - w.height.pad
            last = tirx.min(start + (w.height.kernel - 1) * w.height.dilation, w.height.size - 1)
            more = tir.repeat(following.now <= last, tir.seq(fetch(following.now), following.add(1)))
            skip = following.set(tirx.max(following.now, start)) if w.height.stride > w.height.kernel else None
            binds: list[Stmt] = []
            firsts: list[Expr] = []
            for kh in range(w.height.kernel):
                y = start + kh * w.height.dilation
                inside = tirx.And(y >= 0, y < w.height.size)
                slot = tirx.Select(inside, y & (self.lines - 1), tir.i32(self.lines))
                first, bind = tir.let(slot * self.line, "first")
                firsts.append(first)
                binds.append(bind)
            return tir.seq(skip, more, binds, self.results(frame, image, c, o, firsts))

        rows = tir.loop(opaque(w.height.out), result, "o")
        return tir.seq(following.made, following.set(0), rows)

    def results(self, frame: Frame, image: Expr, c: Expr, o: Expr, firsts: list[Expr]) -> Stmt:
        w, ring = self.w, frame.parts[0]
        weights, declared = tir.flat(frame.places[self.weight].buffer)
        first: Expr = tir.lit(0, self.element)
        if self.bias is not None:
            first = frame.body.at(self.bias, (c if self.bias.shape[0] > 1 else tir.i32(0),))

        held_weights: list[Expr] = []
        heads: list[Stmt] = []
        for k in range(w.taps if self.abreast else 0):
            factor, bind = tir.let(tir.load(weights, c * w.taps + k), "w")
            held_weights.append(factor)
            heads.append(bind)

        def weight(k: int) -> Expr:
            return held_weights[k] if held_weights else tir.load(weights, c * w.taps + k)

        def some(i: Expr, count: int) -> Stmt:
            """Neighbouring results, which share elements."""
            totals = [first] * count
            binds: list[Stmt] = []
            held: dict[tuple[int, int], Expr] = {}
            for kh, start in enumerate(firsts):
                for kw in range(w.width.kernel):
                    factor, bind = tir.let(weight(kh * w.width.kernel + kw), "w")
                    binds.append(bind)
                    for r in range(count):
                        offset = r * w.width.stride + kw * w.width.dilation
                        if (kh, offset) not in held:
                            held[kh, offset], bind = tir.let(tir.load(ring, start + (i * w.width.stride + offset)), "x")
                            binds.append(bind)
                        totals[r], bind = tir.let(self.sum(totals[r], held[kh, offset], factor), "total")
                        binds.append(bind)
            ends: list[Stmt] = []
            for r, total in enumerate(totals):
                frame.body.bind(self.anchor, partial(_same, total))
                ends.append(frame.store((image, c, o, i + r) if self.rank == 4 else (image, c, i + r)))
            return tir.seq(stay(), binds, ends)

        size = ABREAST if self.abreast and not self.long else 1
        many, rest = divmod(w.width.out, size)
        turns = tir.loop(opaque(many), lambda k: some(k * size, size), "i") if many else None
        return tir.seq(declared, heads, turns, [some(tir.i32(many * size + r), 1) for r in range(rest)])

    def sum(self, total: Expr, x: Expr, factor: Expr) -> Expr:
        if self.element == "float32":
            return tirx.call_llvm_pure_intrin("float32", "llvm.fma.f32", x, factor, total)
        return total + x * tirx.Cast("int32", factor)


def _same(value: Expr, _: tir.Index) -> Expr:
    return value
