"""TensorIR of blocked attention. A task takes some blocks of queries of one head through four steps: the queries are
transposed, their scores computed (T x W), turned into weights, and the weights multiplied with V.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import F32, Frame, emit_kernel, put, vector
from ..cortex_m.asm import at
from ..cortex_m.fpu.tile_asm import Tile as Form
from ..cortex_m.fpu.tile_asm import fits
from ..register_tile import Tile
from .rows import Shape, blocks, even_parts, tile_rows
from .scores import Block, Operand, Scores, summed


def flat(value: Value) -> Type:
    return replace(value.type, shape=(value.type.size,))


def operands_of(problem: Problem, shape: Shape, frame: Frame, head: Expr) -> tuple[dict[str, Operand], list[Stmt]]:
    """What a head reads and writes, by name, and the statements that find it."""
    attrs: Any = full_attrs(problem.anchor)
    binds: list[Stmt] = []

    def named(value: Expr) -> Expr:
        var, bind = tir.let(value, "n")
        binds.append(bind)
        return var

    digits = [named(x) for x in tir.split(named(head), *shape.batch)] if shape.batch else []

    def operand(buffer: Any, offset: int, strides: list[int]) -> Operand:
        base = tir.i32(offset)
        for digit, stride in zip(digits, strides, strict=False):
            base = base + digit * stride
        return Operand(buffer, named(base), strides[-2], strides[-1])

    operands = {}
    for name, argument in zip(("q", "k", "v", "mask"), problem.anchor.args, strict=False):
        offset, *strides = attrs[name]
        operands[name] = operand(frame.places[argument].buffer, offset, strides)
    operands["out"] = operand(frame.place.buffer, 0, attrs["out"])
    return operands, binds


def _nth(make: Callable[[Expr, int], Stmt], size: int, start: int, k: Expr) -> Stmt:
    return make(k * size + start, size)


class Attention:
    def __init__(self, problem: Problem, choice: Choice, shape: Shape) -> None:
        self.problem, self.choice, self.shape = problem, choice, shape
        self.scores = Scores(problem, choice, shape)
        self.lanes, self.width = self.scores.lanes, self.scores.width

    def emitted(self, symbol: str) -> Emitted:
        each = blocks(self.shape.s, self.width, self.lanes)

        def task(frame: Frame, number: Expr) -> Stmt:
            return self.unit(frame, number, each)

        def around(frame: Frame, tasks: Stmt) -> Stmt:
            return self.scores.tiles.around(tasks) if self.scores.tiles else tasks

        return emit_kernel(self.problem, self.choice, symbol, self.shape.heads * len(each), task, flat, around=around)

    def unit(self, frame: Frame, number: Expr, each: list[tuple[int, int]]) -> Stmt:
        """A block of queries of one head; the last one of a head may be smaller."""
        head, block = tir.split(number, self.shape.heads, len(each))
        operands, binds = operands_of(self.problem, self.shape, frame, head)
        first, bind = tir.let(block * self.width, "n")
        binds.append(bind)

        def run(queries: int, vectors: int) -> Stmt:
            return self.block(frame, operands, Block(first, queries, vectors))

        if len(set(each)) == 1:
            return tir.seq(binds, run(*each[0]))
        return tir.seq(binds, tir.when(block < len(each) - 1, run(*each[0]), run(*each[-1])))

    def block(self, frame: Frame, operands: dict[str, Operand], b: Block) -> Stmt:
        scratch = frame.scratch
        return tir.seq(
            self.scores.transpose(scratch, operands["q"], b),
            self.scores.all_scores(scratch, operands, b),
            self.scores.weights(scratch, b, frame.zero),
            self.products(scratch, operands["v"], operands["out"], b),
        )

    def products(self, scratch: Any, values: Operand, out: Operand, b: Block) -> Stmt:
        e, columns, lanes = self.shape.e, self.choice.get("ne"), self.lanes
        whole = e // (columns * lanes)
        rest = e - whole * columns * lanes
        widths = [lanes] * (rest // lanes) + ([rest % lanes] if rest % lanes else [])

        def panel(first: Expr, wide: list[int]) -> Stmt:
            return self.rows(b, lambda row, n: self.product_tile(scratch, values, out, b, row, n, first, wide))

        loop = tir.loop(whole, lambda k: panel(k * columns * lanes, [lanes] * columns), "e") if whole else None
        return tir.seq(loop, panel(tir.i32(whole * columns * lanes), widths) if rest else None)

    def rows(self, b: Block, make: Callable[[Expr, int], Stmt]) -> Stmt:
        """Tiles of queries, nearly equal in size: a loop for each size."""
        sizes = even_parts(b.queries, tile_rows(self.problem.target, self.choice.get("ne")))
        parts, start = [], 0
        for size in dict.fromkeys(sizes):
            count = sizes.count(size)
            parts.append(tir.loop(count, partial(_nth, make, size, start), "s"))
            start += size * count
        return tir.seq(parts)

    def product_tile(
        self,
        scratch: Any,
        values: Operand,
        out: Operand,
        b: Block,
        row: Expr,
        rows: int,
        column: Expr,
        widths: list[int],
    ) -> Stmt:
        tile = Tile(rows, tuple(widths), self.lanes)
        tiles, weights = self.scores.tiles, self.scores.start + row
        if tiles and values.inner == 1 and fits(4 * values.outer, 4 * self.width):
            form = Form(rows, len(widths), self.shape.t, 4 * values.outer, 4 * self.width, apart=False)
            line, numbers = at(values.buffer, values.at(0, column)), [at(scratch, weights)]
            work = tir.seq(tile.alloc, tiles.sums(form, tile.acc, line, numbers))
        else:
            sums = summed(self.problem.target, tile, (1, self.width))
            work = sums(
                self.shape.t,
                lambda t, v: vector(values.buffer, widths[v], values.at(t, column + v * self.lanes)),
                lambda t, i, n: vector(scratch, n, weights + t * self.width + i),
            )
        finish: list[Stmt] = []
        for i in range(rows):
            inverse, bind = tir.let(tir.load(scratch, self.scores.sums + row + i), "inverse")
            finish.append(bind)
            for v, n in enumerate(widths):
                to = out.at(b.first + row + i, column + v * self.lanes)
                result = tile.sum(i, v) * tir.broadcast(inverse, n)
                if self.scores.open is not None:
                    zero = tir.broadcast(tir.lit(0.0, F32), n)
                    result = tirx.Select(tirx.EQ(tir.broadcast(inverse, n), zero), zero, result)
                finish.append(put(out.buffer, result, n, to))
        return tir.seq(work, finish)
