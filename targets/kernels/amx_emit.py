"""TensorIR of products on AMX: units of a few tiles of sums, all steps of the reduction for one, then what follows.

Sums start from the bias, less the zero point times the weights. They leave the tiles through scratch, where vectors
pick them up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import physical_shape
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from . import amx_tiles as amx
from . import amx_tail
from .amx_border import copy_lines
from .amx_rows import left_of, scratch, tiling_of, zero_of
from .amx_shape import LANES, across, tiles
from .common import ceil_div
from .common_emit import Frame, emit_kernel, stretch
from .conv_emit import flat_type, widths

ONES = 0x01010101
MOST_FETCHED = 16  # lines that are asked for in a step


@dataclass(frozen=True)
class Pixels:
    """A tile of pixels: line and column of the first, how many of them an earlier tile computes, where it is read."""

    row: Expr
    column: Expr
    done: Expr | int
    source: Expr


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
        self.tail = amx_tail.tail_of(problem, len(self.anchor.shape) - 1 if self.matrix else 1)
        self.across, self.total = across(self.left, self.t.rows), tiles(self.left, self.t.rows)
        self.blocks = ceil_div(self.total, self.t.block)
        self.panels = ceil_div(self.left.w.channels_out, LANES * self.t.channels)
        self.shares = ceil_div(self.panels, self.t.panels)

    def emitted(self, symbol: str) -> Emitted:
        where = scratch(self.problem, self.left, self.t)
        ends = [where.starts, where.factors, where.lines, where.total]
        kinds = ["int32", "int32", "float32", "int8" if self.signed else "uint8"]
        sizes = [4, 4, 4, 1]
        starts = [where.sums, where.starts, where.factors, where.lines]
        names = ["sums", "starts", "factors", "lines"]
        parts = [
            (name, kind, max(1, (end - start) // size), start)
            for name, kind, size, start, end in zip(names, kinds, sizes, starts, ends, strict=True)
        ]

        def around(tasks: Stmt) -> Stmt:
            return tir.seq(amx.configure(self.t.rows, self.t.groups), tasks, amx.release())

        count = self.left.w.batch * self.blocks * self.shares
        return emit_kernel(self.problem, self.choice, symbol, count, self.task, self.view, parts, around)

    def view(self, value: Value) -> Type:
        return flat_type(value.type, self.left.w) if self.flat else value.type

    # -- loops ---------------------------------------------------------------------------------------------------

    def task(self, frame: Frame, number: Expr) -> Stmt:
        image, block, share = tir.split(number, self.left.w.batch, self.blocks, self.shares)
        first, count = stretch(block, self.t.block, self.total)
        return Block(self, frame, image, first, count).work(share)

    def widths(self) -> tuple[int, tuple[int, ...]]:
        """The number of whole panels, and the true lanes of the tiles of a narrower last one."""
        wide = LANES * self.t.channels
        full, rest = divmod(self.left.w.channels_out, wide)
        return full, widths(rest, LANES)


class Block:
    """The tiles of a task: `count` tiles of pixels from `first` on, with a share of the panels of channels."""

    def __init__(self, kernel: Kernel, frame: Frame, image: Expr, first: Expr, count: Expr) -> None:
        self.k, self.frame, self.image, self.first, self.count = kernel, frame, image, first, count
        self.sums, self.starts, self.factors, self.lines = frame.parts
        places = frame.places
        self.source, self.declared = tir.flat(places[kernel.x].buffer)
        self.weights, declared = tir.flat(places[kernel.weight].buffer)
        self.out, out = tir.flat(frame.place.buffer)
        self.declared = tir.seq(self.declared, declared, out)
        self.others: dict[Value, Any] = {}
        for value in kernel.tail.bytes if kernel.tail else ():
            self.others[value], declared = tir.flat(places[value].buffer)
            self.declared = tir.seq(self.declared, declared)

    def work(self, share: Expr) -> Stmt:
        k, t = self.k, self.k.t
        full, rest = k.widths()
        begin, many = stretch(share, t.panels, k.panels)
        parts: list[Stmt] = [self.declared]
        if k.left.bordered:
            rows = tirx.floordiv(self.count, k.across)
            first = tirx.floordiv(self.first, k.across)
            parts.append(copy_lines(k.left, self.source, self.image, self.lines, first, rows, k.zero))
        end = begin + many
        whole = tirx.min(end, tir.i32(full)) if rest else end
        if full:
            every = (LANES,) * t.channels
            parts.append(tir.loop(whole - begin, lambda p: self.panel(p, every), "panel", start=begin))
        if rest:
            last = self.panel(tir.i32(full), rest)
            parts.append(last if k.shares == 1 else tir.when(end > full, last))
        return tir.seq(parts)

    def panel(self, panel: Expr, lanes: tuple[int, ...]) -> Stmt:
        """All units of a block with some output channels."""
        t, first = self.k.t, panel * self.k.t.channels
        units = tirx.floordiv(self.count, t.pixels)
        prepared = Panel(self, first, lanes)

        def unit(number: Expr) -> Stmt:
            return prepared.unit(self.first + number * t.pixels, t.pixels, number)

        parts = [prepared.start(), tir.loop(units, unit, "unit")]
        odd = self.k.total % t.block % t.pixels or (t.block % t.pixels and self.k.total > t.block) or t.block % t.pixels
        if t.pixels > 1 and odd:
            rest = self.count - units * t.pixels
            parts.append(tir.when(rest > 0, prepared.unit(self.first + units * t.pixels, 1, units)))
        return tir.seq(parts)

    def pixels(self, tile: Expr) -> Pixels:
        left, rows = self.k.left, self.k.t.rows
        w = left.w
        row, number = (tirx.floordiv(tile, self.k.across), tirx.floormod(tile, self.k.across))
        if w.height.out == 1:
            row, number = tir.i32(0), tile
        wanted = number * rows
        column = wanted if w.width.out % rows == 0 else tirx.min(wanted, tir.i32(w.width.out - rows))
        done: Expr | int = 0 if w.width.out % rows == 0 else wanted - column
        if left.bordered:
            above = (row - tirx.floordiv(self.first, self.k.across)) * w.height.stride
        else:
            above = self.image * w.height.size + row * w.height.stride
        return Pixels(row, column, done, (above * left.line + column * w.width.stride) * left.pixel)


class Panel:
    """Some output channels of a block: `lanes` are the true ones of each tile, from tile `first` on."""

    def __init__(self, block: Block, first: Expr, lanes: Sequence[int]) -> None:
        self.b, self.k, self.first, self.lanes = block, block.k, first, lanes
        self.wide = LANES * len(lanes)

    def channel(self, tile: int) -> Expr:
        return (self.first + tile) * LANES

    # -- before the units ----------------------------------------------------------------------------------------

    def start(self) -> Stmt:
        """What sums start from, and the factors of the tail, side by side."""
        parts = [self.starting(v, width) for v, width in enumerate(self.lanes)]
        if self.k.tail:
            for number, value in enumerate(self.k.tail.factors):
                parts += [self.factor(number, value, v, width) for v, width in enumerate(self.lanes)]
        return tir.seq(parts)

    def starting(self, v: int, width: int) -> Stmt:
        bias, at = self.k.bias, v * LANES

        def put(lane: Expr) -> Stmt:
            channel = (self.channel(v) + lane,) if bias.type.size > 1 else (0,)
            return tir.store(self.b.starts, self.b.frame.body.at(bias, channel), at + lane)

        zeros = tir.store(self.b.starts, tir.broadcast(tir.i32(0), LANES), tir.ramp(at, LANES))
        stored = tir.seq(zeros if width < LANES else None, tir.vectorized(width, put))
        if not self.k.zero:
            return stored
        groups = self.k.left.groups
        total, alloc = tir.local((LANES,), "int32", "total")
        whole = tir.ramp(0, LANES)
        ones = tirx.reinterpret("int8x64", tir.broadcast(tir.i32(ONES), LANES))

        def add(g: Expr) -> Stmt:
            row = tir.load(self.b.weights, tir.ramp(((self.first + v) * groups + g) * 64, 64))
            dot = "llvm.x86.avx512.vpdpbusd.512"
            return tir.store(total, tirx.call_llvm_pure_intrin("int32x16", dot, tir.load(total, whole), ones, row), whole)

        lanes = tir.ramp(at, LANES)
        correct = tir.load(self.b.starts, lanes) - tir.load(total, whole) * tir.broadcast(tir.i32(self.k.zero), LANES)
        return tir.seq(
            stored,
            alloc,
            tir.store(total, tir.broadcast(tir.i32(0), LANES), whole),
            tir.loop(groups, add, "g"),
            tir.store(self.b.starts, correct, lanes),
        )

    def factor(self, number: int, value: Value, v: int, width: int) -> Stmt:
        at = self.factor_at(number, v)
        place = self.b.frame.body.places[value]
        axis = len(value.shape) - 1 if self.k.matrix else len(value.shape) - len(self.k.anchor.shape) + 1

        def put(lane: Expr) -> Stmt:
            index = tuple(
                self.channel(v) + lane if a == axis and n > 1 else tir.i32(0) for a, n in enumerate(value.shape)
            )
            return tir.store(self.b.factors, place.load(index), at + lane)

        return tir.vectorized(width, put)

    def factor_at(self, number: int, v: int) -> int:
        return (number * self.k.t.channels + v) * LANES

    # -- units ---------------------------------------------------------------------------------------------------

    def unit(self, tile: Expr, count: int, number: Expr) -> Stmt:
        found = [self.b.pixels(tile + i) for i in range(count)]
        sources, binds = zip(*(tir.let(p.source, "source") for p in found), strict=True)
        each = [(i, v) for i in range(count) for v in range(len(self.lanes))]
        many = len(self.lanes)
        begin = [amx.load(i * many + v, self.b.starts, v * LANES, 0) for i, v in each]
        leave = [
            amx.store(i * many + v, self.b.sums, i * self.k.t.rows * self.wide + v * LANES, 4 * self.wide)
            for i, v in each
        ]
        finish = [self.finish(p, i) for i, p in enumerate(found)]
        return tir.seq(binds, begin, self.reduce(sources, number), leave, finish)

    def reduce(self, sources: Sequence[Expr], unit: Expr) -> Stmt:
        """All steps of the reduction: lines of the window, runs in a line, products in a run."""
        left, groups = self.k.left, self.k.t.groups
        w, rows = left.w, left.run // 4
        buffer = self.b.lines if left.bordered else self.b.source
        stride = w.width.stride * left.pixel

        def step(kh: Expr, r: Expr, j: Expr) -> Stmt:
            line = kh * (w.height.dilation * left.line * left.pixel) + r * (w.width.dilation * left.pixel)
            group = (kh * left.runs + r) * rows + j * groups
            return tir.seq(
                self.fetch(unit, group),
                self.step([s + line + j * (4 * groups) for s in sources], buffer, stride, group),
            )

        return tir.loop(
            w.height.kernel,
            lambda kh: tir.loop(
                left.runs, lambda r: tir.loop(rows // groups, lambda j: step(kh, r, j), "step"), "run"
            ),
            "kh",
        )

    def fetch(self, unit: Expr, group: Expr) -> list[Stmt]:
        """Ask for a share of the next panel's weights, which lie behind those of this one."""
        t, left = self.k.t, self.k.left
        lines, steps = len(self.lanes) * left.groups, left.groups // t.groups
        share = ceil_div(lines, steps * ceil_div(t.block, t.pixels))
        if share > MOST_FETCHED:
            return []
        first = (unit * steps + tirx.floordiv(group, t.groups)) * share
        begin = (self.first + len(self.lanes)) * left.groups
        return [tir.prefetch(self.b.weights, (begin + first + i) * 64, near=False) for i in range(share)]

    def step(self, at: Sequence[Expr], buffer: Any, stride: int, group: Expr) -> Stmt:
        many = len(self.lanes)
        lefts = [amx.load(amx.LEFT + i, buffer, a, stride) for i, a in enumerate(at)]
        parts: list[Stmt] = []
        for v in range(many):
            right = amx.RIGHT + v % 2
            parts.append(
                amx.load(right, self.b.weights, ((self.first + v) * self.k.left.groups + group) * 64, 64)
            )
            for i in range(len(at)):
                if v == 0:
                    parts.append(lefts[i])
                parts.append(amx.multiply(i * many + v, amx.LEFT + i, right, self.k.signed))
        return tir.seq(parts)

    # -- after the reduction -------------------------------------------------------------------------------------

    def finish(self, pixels: Pixels, i: int) -> Stmt:
        """Everything that follows, for the pixels of a tile that no earlier one has."""
        rows = self.k.t.rows
        if self.fast():
            return Fast(self, pixels, i).all()
        start = pixels.done

        def one(j: Expr) -> Stmt:
            slot = (i * rows + j) * self.wide
            return tir.seq(
                tir.vectorized(width, self.writer(pixels, j, slot + v * LANES, v))
                for v, width in enumerate(self.lanes)
            )

        return tir.loop(tir.i32(rows) - start, one, "pixel", start=start)

    def fast(self) -> bool:
        """Whether the tail is known, and whole vectors of its results may be stored."""
        if self.k.tail is None:
            return False
        padded = physical_shape(self.k.problem.body.outputs[0].type)[-1] == LANES and not self.k.matrix
        return padded or all(width == LANES for width in self.lanes)

    def writer(self, pixels: Pixels, j: Expr, slot: Expr, v: int) -> Callable[[Expr], Stmt]:
        frame, k = self.b.frame, self.k

        def write(lane: Expr) -> Stmt:
            frame.body.bind(k.anchor, lambda _: tir.load(self.b.sums, slot + lane))
            return frame.store(self.index(pixels, j, self.channel(v) + lane))

        return write

    def index(self, pixels: Pixels, j: Expr, channel: Expr) -> tuple[Expr, ...]:
        column = pixels.column + j
        if self.k.matrix:
            return (*tir.split(column, *self.k.anchor.shape[:-1]), channel)
        if len(self.k.anchor.shape) == 3:
            return self.b.image, channel, column
        return self.b.image, channel, pixels.row, column


class Fast:
    """Sums to bytes, several pixels at a time."""

    def __init__(self, panel: Panel, pixels: Pixels, i: int) -> None:
        self.p, self.k, self.i = panel, panel.k, i
        self.many = len(panel.lanes)
        w = self.k.left.w
        self.pitch = self.k.anchor.shape[-1] if self.k.matrix else ceil_div(w.channels_out, LANES) * LANES
        row = (panel.b.image * w.height.out + pixels.row) * w.width.out + pixels.column
        self.base, self.bind = tir.let(row * self.pitch + panel.first * LANES, "base")
        self.done = pixels.done
        self.tail = self.k.tail

    def all(self) -> Stmt:
        rows = self.k.t.rows
        each = max(1, 4 // self.many) if self.many > 1 else 1
        if isinstance(self.done, int):
            whole, rest = divmod(rows, each)
            parts = [tir.loop(whole, lambda q: self.group(q * each, each), "pixels")] if whole else []
            return tir.seq(self.bind, parts, [self.group(tir.i32(rows - 1), 1)] if rest else None)
        count = tir.i32(rows) - self.done
        whole = tirx.floordiv(count, each)
        parts = [tir.loop(whole, lambda q: self.group(self.done + q * each, each), "pixels")]
        if each > 1:
            parts.append(tir.when(count > whole * each, self.group(tir.i32(rows - 1), 1)))
        return tir.seq(self.bind, parts)

    def group(self, first: Expr, count: int) -> Stmt:
        """`count` pixels from number `first` on."""
        binds: list[Stmt] = []
        found: list[Expr] = []
        for q in range(count):
            for v in range(self.many):
                value, bind = tir.let(self.numbers(first + q, v), "number")
                binds.append(bind)
                found.append(value)
        kind = amx_tail.TVM_KIND[self.k.problem.body.outputs[0].type.dtype]
        out, pitch = self.p.b.out, self.pitch
        if len(found) == 1:
            at = self.base + first * pitch
            return tir.seq(binds, amx_tail.stored(out, amx_tail.narrow(self.tail, found[0]), LANES, at))
        four = [*found, *found][:4]
        whole, bind = tir.let(amx_tail.packed(self.tail, four), "bytes")
        wide = LANES * self.many
        stores = [
            amx_tail.stored(
                out,
                whole if wide == 64 else amx_tail.part(whole, kind, wide, q * wide),
                wide,
                self.base + (first + q) * pitch,
            )
            for q in range(count)
        ]
        return tir.seq(binds, bind, stores)

    def numbers(self, j: Expr, v: int) -> Expr:
        p = self.p

        def bytes_of(value: Value) -> Expr:
            return tir.load(p.b.others[value], tir.ramp(self.base + j * self.pitch + v * LANES, LANES))

        def factors(value: Value) -> Expr:
            number = self.tail.factors.index(value)
            return tir.load(p.b.factors, tir.ramp(p.factor_at(number, v), LANES))

        sums = tir.load(p.b.sums, tir.ramp((self.i * self.k.t.rows + j) * p.wide + v * LANES, LANES))
        return amx_tail.numbers(self.tail, amx_tail.Vectors(sums, bytes_of, factors))
