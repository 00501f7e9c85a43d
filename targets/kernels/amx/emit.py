"""TensorIR of products on AMX: what sums start from, where their pixels are read, and the tiles of a task.

Sums start from the bias, less the zero point times the weights, and leave the tiles through scratch. What follows them
is left to the next unit (run.py).
"""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import int_attr
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.integer import bias
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import Frame, emit_kernel, stretch
from ..conv.places import flat_type
from . import tiles as amx
from .border import copy_lines, copy_pairs, copy_pixels
from .finish import Segment
from .rows import left_of, prepared, scratch, tiling_of, zero_of
from .run import Run
from .shape import LANES, across, tiles

ONES = 0x01010101


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    return Kernel(problem, choice).emitted(symbol)


class Kernel:
    """One product under construction."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem, self.choice = problem, choice
        self.left, self.t = left_of(problem), tiling_of(choice)
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        self.matrix = problem.anchor.op == "Edgec.MatMulInteger"
        self.flat = not self.matrix and self.left.w.height.out == 1 and len(self.anchor.shape) == 4
        self.zero, self.signed = zero_of(problem.anchor), self.x.type.dtype == "i8"
        self.prepared = prepared(problem)
        self.across, self.total = across(self.left, self.t), tiles(self.left, self.t)
        self.blocks = ceil_div(self.total, self.t.block)
        self.tiles_out = ceil_div(self.left.w.channels_out, LANES)
        self.panels = ceil_div(self.tiles_out, self.t.channels)
        self.shares = ceil_div(self.panels, self.t.panels)

    def emitted(self, symbol: str) -> Emitted:
        size = scratch(self.problem, self.left, self.t)
        data = "int8" if self.signed else "uint8"
        parts = [
            ("sums", "int32", size.sums // 4, 0),
            ("starts", "int32", max(1, size.starts // 4), size.sums),
            ("copied", data, max(1, size.copied), size.sums + size.starts),
        ]
        count = self.left.w.batch * self.blocks * self.shares
        return emit_kernel(self.problem, self.choice, symbol, count, self.task, self.view, parts, self.around)

    def view(self, value: Value) -> Type:
        return flat_type(value.type, self.left.w) if self.flat else value.type

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        """All tasks of a call."""
        starts = tir.loop(self.tiles_out, lambda v: self.starting(frame, v), "start") if self.prepared else None
        return tir.seq(starts, amx.configure(self.t.rows, self.t.groups), tasks, amx.release())

    def starting(self, frame: Frame, tile: Expr) -> Stmt:
        """What the sums of 16 output channels start from: the bias, less the zero point times all weights."""
        biases, declared = tir.flat(frame.places[self.bias].buffer)
        lanes = tir.ramp(tile * LANES, LANES)
        every, shift = self.bias.type.size == 1, int_attr(self.problem.anchor, "shift")
        value = bias(tir.load(biases, 0 if every else lanes), shift)
        value = tir.broadcast(value, LANES) if every else value
        if not self.zero:
            return tir.seq(declared, tir.store(frame.parts[1], value, lanes))
        groups = self.left.groups
        weights, also = tir.flat(frame.places[self.weight].buffer)
        total, alloc = tir.local((LANES,), "int32", "total")
        whole = tir.ramp(0, LANES)
        ones = tirx.reinterpret("int8x64", tir.broadcast(tir.i32(ONES), LANES))

        def add(g: Expr) -> Stmt:
            row = tir.load(weights, tir.ramp((tile * groups + g) * 64, 64))
            dot = "llvm.x86.avx512.vpdpbusd.512"
            return tir.store(
                total, tirx.call_llvm_pure_intrin("int32x16", dot, tir.load(total, whole), ones, row), whole
            )

        correct = value - tir.load(total, whole) * tir.broadcast(tir.i32(self.zero), LANES)
        clear = tir.store(total, tir.broadcast(tir.i32(0), LANES), whole)
        return tir.seq(
            declared, also, alloc, clear, tir.loop(groups, add, "g"), tir.store(frame.parts[1], correct, lanes)
        )

    def task(self, frame: Frame, number: Expr) -> Stmt:
        image, block, share = tir.split(number, self.left.w.batch, self.blocks, self.shares)
        first, count = stretch(block, self.t.block, self.total)
        return Block(self, frame, image, first, count).work(share)


class Block:
    """The tiles of a task: `count` tiles of pixels from `first` on, with a share of the panels of channels."""

    def __init__(self, kernel: Kernel, frame: Frame, image: Expr, first: Expr, count: Expr) -> None:
        self.k, self.frame, self.image, self.first, self.count = kernel, frame, image, first, count
        self.sums, self.starts, self.copied = frame.parts
        places = frame.places
        self.source, one = tir.flat(places[kernel.x].buffer)
        self.weights, two = tir.flat(places[kernel.weight].buffer)
        self.declared = [one, two]
        if not kernel.prepared:
            self.starts, three = tir.flat(places[kernel.bias].buffer)
            self.declared.append(three)
        self.read = self.copied if kernel.left.copied else self.source
        t = kernel.t
        self.even = t.block % t.pixels == 0 and kernel.total % t.block % t.pixels == 0

    def work(self, share: Expr) -> Stmt:
        k, t = self.k, self.k.t
        full, rest = divmod(k.tiles_out, t.channels)
        if k.left.w.channels_out % LANES and not rest:
            full, rest = full - 1, t.channels  # the last panel has a narrower tile
        begin, many = stretch(share, t.panels, k.panels)
        end = begin + many
        parts: list[Stmt] = [*self.declared, self.copy()]
        if full:
            whole = (tirx.min(end, tir.i32(full)) if rest else end) - begin
            only = None if k.shares == 1 or not rest else whole > 0
            run = Run(self, begin, t.channels, full * t.channels * LANES).all(tir.i32(full) if k.shares == 1 else whole)
            parts.append(run if only is None else tir.when(only, run))
        if rest:
            run = Run(self, tir.i32(full), rest, k.left.w.channels_out).all(tir.i32(1))
            parts.append(run if k.shares == 1 else tir.when(end > full, run))
        return tir.seq(parts)

    def copy(self) -> Stmt | None:
        left, t = self.k.left, self.k.t
        if left.gathered:
            return copy_pixels(left, self.source, self.image, self.copied)
        if not left.bordered:
            return None
        first, rows = (tirx.floordiv(n, self.k.across) * t.lines for n in (self.first, self.count))
        if left.w.height.out % t.lines:
            rows = tirx.min(rows, left.w.height.out - first)
        copy = copy_pairs if left.folded else copy_lines
        return copy(left, self.source, self.image, self.copied, first, rows, self.k.zero)

    def pixels(self, tile: Expr) -> tuple[Expr, list[Segment]]:
        """Where a tile of pixels is read, and its stretches of the output."""
        k, left, t = self.k, self.k.left, self.k.t
        w, valid = left.w, None
        if not self.even:
            valid = tile < self.first + self.count
            tile = tirx.min(tile, self.first + self.count - 1)
        if k.across == 1:
            row, number = tile * t.lines, tir.i32(0)
        elif w.height.out == 1:
            row, number = tir.i32(0), tile
        else:
            row, number = tirx.floordiv(tile, k.across), tirx.floormod(tile, k.across)
        width = w.width.out if t.lines > 1 else t.rows
        column, done = number * width, tir.i32(0)
        if w.width.out % width:
            column = tirx.min(column, tir.i32(w.width.out - width))
            done = number * width - column
        if left.bordered:
            above = (row - tirx.floordiv(self.first, k.across) * t.lines) * w.height.stride
        else:
            above = (0 if left.gathered else self.image * w.height.size) + row * w.height.stride
        source = (above * left.line + column * w.width.stride) * left.pixel
        segments = []
        for line in range(t.lines):
            inside = valid
            if line and w.height.out % t.lines:
                there = row + line < w.height.out
                inside = there if valid is None else tirx.And(valid, there)
            known = int(done) if isinstance(done, tirx.IntImm) else done
            segments.append(Segment(row + line, column, line * left.line, width, known, inside))
        return source, segments
