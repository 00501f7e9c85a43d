"""TensorIR of kernels that fold rows: a row's numbers in registers, folds within a thread and across, results.

The stages are those of the generic rows (`Stage`): their terms are built at the thread's current position in the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.registry import Emitted, Problem

from .... import tir
from ....conversions import narrow, widen
from ....cuda.block import Block, emit_grid
from ....tir import Buffer, Expr, Stmt
from ...generic.stage import Prior, Stage
from ..streams import Held, fetch, needed, put_out, streamed
from ..vectors import KINDS
from .fold import Exchange, stored
from .row import Row
from .shape import Lines

Stages = Callable[[Row], tuple[list[Stage], Callable[[Prior], Expr]]]


def folded_lines(
    problem: Problem, symbol: str, lines: Lines, inner: int, stages: Stages, *, again: bool, keep: int = -1
) -> Emitted:
    """Each row folded in stages; with `again` a result at every position, else one per row.

    `keep`: the stage whose terms take the place of the row's numbers, in what follows it, where they are held.
    """

    def make(frame: Block) -> Stmt:
        return _Kernel(problem, frame, lines, inner, again, keep).run(stages)

    return emit_grid(problem, symbol, (lines.blocks, 1, 1), lines.block, make)


class _Kernel:
    def __init__(self, problem: Problem, frame: Block, lines: Lines, inner: int, again: bool, keep: int) -> None:
        self.problem, self.frame, self.lines, self.again, self.keep = problem, frame, lines, again, keep
        self.anchor, self.source = problem.anchor, problem.anchor.args[0]
        self.body = frame.body
        self.streams = streamed(problem.body, self.anchor, inner, after=again)
        self.head: list[Stmt] = []
        self._place(inner)
        self._hold()

    def run(self, stages: Stages) -> Stmt:
        made, finish = stages(self.row)
        prior: Prior = []
        folds = [self._fold(k, stage, prior) for k, stage in enumerate(made)]
        own = dtype(self.anchor.types[0].dtype).tvm
        with self._bound(self.keep < 0 or not self.again):
            write = self._write_each if self.again else self._write
            stmt = write(lambda: narrow(self._inside(lambda: finish(prior)), own))
        if self.lines.rows % self.lines.together:
            stmt = tir.when(self.true < self.lines.rows, stmt)
        return tir.seq(self.head, folds, stmt)

    def named(self, value: Expr, name: str) -> Expr:
        var, bind = tir.let(value, name)
        self.head.append(bind)
        return var

    def _place(self, inner: int) -> None:
        """Which row, and which of its threads. A row that is not there is the last one again, up to the stores."""
        lines, shape, thread = self.lines, self.source.shape, self.frame.thread
        group: Expr = tir.i32(0)
        if lines.together > 1:
            group = self.named(tirx.floordiv(thread, lines.threads), "group")
            thread = self.named(tirx.floormod(thread, lines.threads), "thread")
        self.true = self.named(self.frame.at[0] * lines.together + group, "row")
        here = self.true
        if lines.rows % lines.together:
            here = self.named(tirx.min(here, tir.i32(lines.rows - 1)), "row")
        self.number = here
        outer = shape[: len(shape) - inner]
        digits = tuple(self.named(x, "digit") for x in tir.split(here, *outer)) if outer else ()
        self.row = Row(self.problem, self.frame, lines, inner, digits, thread)
        self.exchange = Exchange(lines, group, thread, self.head)

    def _hold(self) -> None:
        """Registers for the streams of one access, and for the row's numbers: all of them, or those of one access."""
        self.flat: dict[Value, Buffer] = {}
        self.registers: dict[Value, Buffer] = {}
        for value in self.streams:
            self.flat[value], made = tir.flat(self.frame.places[value].buffer)
            registers, local = tir.local((self.lines.vector,), KINDS[value.type.dtype], "stream")
            self.registers[value] = registers
            self.head += [made, local]
            self.body.places[value] = Held(value.type, registers, now=partial(self._streaming, registers))
        turns = self.lines.turns if self.lines.held else 1
        self.numbers, local = tir.local((turns * self.lines.vector,), KINDS[self.source.type.dtype], "x")
        self.head.append(local)
        self.fresh = True  # the numbers are not there yet

    def _streaming(self, registers: Buffer) -> Expr:
        return tir.load(registers, self.row.lane)

    def _slot(self) -> Expr | int:
        return (self.row.turn * self.lines.vector if self.lines.held else 0) + self.row.lane

    @contextmanager
    def _bound(self, wanted: bool = True) -> Iterator[None]:
        """The anchor's argument is the row's number at the current position."""
        if not wanted:
            yield
            return
        places, bound, source = self.body.places, self.body.bound, self.source
        before = places.pop(source, None), bound.get(source)
        self.body.bind(source, lambda _: tir.load(self.numbers, self._slot()))
        yield
        if before[0] is not None:
            places[source] = before[0]
        del bound[source]
        if before[1] is not None:
            bound[source] = before[1]

    def _inside(self, make: Callable[[], Any]) -> Any:
        with self._bound():
            return make()

    # -- one access ----------------------------------------------------------------------------------------------------

    def _loads(self, used: Collection[Value]) -> list[Stmt]:
        """Loads of the streams among these values, at the current access."""
        vector, first = self.lines.vector, self.row.first()
        at = {True: self.number * self.lines.count + first, False: first}
        return [
            fetch(self.flat[v], at[own], v.type.dtype, self.registers[v], vector)
            for v, own in self.streams.items()
            if v in used
        ]

    def _lanes(self, body: Callable[[], Stmt]) -> Stmt:
        """`body` at each number of the current access."""

        def at(lane: Expr) -> Stmt:
            self.row.lane = lane
            return body()

        stmt = tir.unrolled(self.lines.vector, at, "lane")
        self.row.lane = 0
        return stmt

    def _turns(self, body: Callable[[], Stmt]) -> Stmt:
        """`body` at each access of the row, where its numbers exist."""
        lines, row = self.lines, self.row

        def at(turn: Expr | int, whole: bool) -> Stmt:
            row.turn = turn
            stmt = body()
            guarded = stmt if whole else tir.when(row.first() < lines.count, stmt)
            row.turn = 0
            return guarded

        full = lines.count // lines.stride
        if lines.held:
            return tir.seq(at(k, k < full) for k in range(lines.turns))
        rest = at(full, False) if lines.turns > full else None
        return tir.seq(tir.loop(full, lambda k: at(k, True), "turn"), rest)

    def _read(self) -> Stmt:
        """The row's numbers of the current access, from memory through what stands before the anchor."""

        def number() -> Stmt:
            return tir.store(self.numbers, widen(self.body.at(self.source, self.row.index())), self._slot())

        return tir.seq(self._loads(needed([self.source], ())), self._lanes(number))

    # -- folds ---------------------------------------------------------------------------------------------------------

    def _fold(self, k: int, stage: Stage, prior: Prior) -> Stmt:
        """One fold of the row; its result, the same in all threads, is added to `prior`."""
        width = self.lines.vector
        sums = [tir.local((width,), d, "sum") for d in stage.dtypes]
        buffers = [b for b, _ in sums]
        start = [tir.store(b, i, j) for b, i in zip(buffers, stage.identity, strict=True) for j in range(width)]
        fresh, self.fresh = self.fresh, not self.lines.held

        def one() -> Stmt:
            term = self._inside(lambda: stage.term(prior))
            kept = None
            if k == self.keep and self.lines.held:
                kept = tir.store(self.numbers, term[0], self._slot())
                term = (tir.load(self.numbers, self._slot()),)
            old = tuple(tir.load(b, self.row.lane) for b in buffers)
            return tir.seq(kept, stored(buffers, stage.combine(old, term), self.row.lane))

        turns = self._turns(lambda: tir.seq(self._read() if fresh else None, self._lanes(one)))
        within: list[Stmt] = []
        while width > 1:
            width //= 2
            for j in range(width):
                low, high = (tuple(tir.load(b, j + o) for b in buffers) for o in (0, width))
                within.append(stored(buffers, stage.combine(low, high), j))
        across, total = self.exchange.across(stage, buffers)
        value = stage.result(total)
        cell, made = tir.local((1,), str(value.ty.dtype), "fold")
        prior.append(tir.load(cell, 0))
        return tir.seq([m for _, m in sums], start, turns, within, across, made, tir.store(cell, value, 0))

    # -- results -------------------------------------------------------------------------------------------------------

    def _write(self, value: Callable[[], Expr]) -> Stmt:
        """One result per row, by its first thread."""
        total = value()
        self.body.bind(Value(self.anchor), lambda _: total)
        rank = len(self.anchor.types[0].shape)
        index = (*self.row.outer, *(0,) * (rank - len(self.row.outer)))
        return tir.when(tirx.EQ(self.row.thread, 0), self.frame.store(index))

    def _write_each(self, value: Callable[[], Expr]) -> Stmt:
        """A result at each position of the row."""
        body, out, row = self.body, self.frame.out, self.row
        together = out.type.dtype in KINDS and not out.type.layout
        flat, made = tir.flat(self.frame.place.buffer)
        stop = (Value(self.anchor), *((self.source,) if self.keep < 0 else ()))
        used = needed([out, *self.anchor.args[1:]], stop) - set(stop)
        body.bind(Value(self.anchor), lambda _: value())

        def at(lane: Expr | int) -> Expr:
            row.lane = lane
            return body.at(out, row.index())

        def turn() -> Stmt:
            read = self._read_again() if self.fresh else None
            if together:
                address = self.number * self.lines.count + row.first()
                stmt = put_out(flat, address, out.type.dtype, self.lines.vector, at)
                row.lane = 0
            else:
                stmt = self._lanes(lambda: self.frame.place.store(body.at(out, row.index()), row.index()))
            return tir.seq(self._loads(used), read, stmt)

        return tir.seq(made, self._turns(turn))

    def _read_again(self) -> Stmt:
        """As `_read`, while the argument's name stands for what is read here."""
        place, bound = self.body.places.get(self.source), self.body.bound.pop(self.source, None)
        if self.source in self.streams:
            registers = self.registers[self.source]
            self.body.places[self.source] = Held(self.source.type, registers, now=partial(self._streaming, registers))
        elif self.source in self.frame.places:
            self.body.places[self.source] = self.frame.places[self.source]
        stmt = self._read()
        if bound is not None:
            self.body.bound[self.source] = bound
            self.body.places.pop(self.source, None)
        del place
        return stmt
