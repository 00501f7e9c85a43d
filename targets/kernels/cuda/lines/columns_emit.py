"""TensorIR of reductions by columns: a thread's sums, a block's in shared memory, those of several blocks in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.layout import layout
from edgec.compiler.registry import Emitted, Problem

from .... import tir
from ....cuda.block import Block, barrier, emit_grid, pointer, result, shared
from ....tir import Buffer, Expr, Index, Stmt
from ...generic.stage import Prior, Stage
from ..streams import Held, fetch, needed, streamed
from ..vectors import KINDS
from .columns import Columns
from .fold import stored

Make = Callable[["_Kernel"], tuple[Stage, Callable[[Prior], Expr]]]


def folded_columns(
    problem: Problem, symbol: str, columns: Columns, text: str, axes: tuple[int, ...], make: Make
) -> Emitted:
    """One stage, one result per column; `text`: the layout in which the numbers are columns."""
    grid = (columns.pieces, columns.outer, columns.splits)
    scratch = 4 * columns.splits * columns.results

    def run(frame: Block) -> Stmt:
        return _Kernel(problem, frame, columns, text, axes).run(make)

    parts = 2 if problem.anchor.op in ("ArgMax", "ArgMin") else 1
    return emit_grid(
        problem,
        symbol,
        grid,
        columns.block,
        run,
        scratch=scratch * parts if columns.splits > 1 else 0,
        zeros=columns.counters,
    )


class _Kernel:
    """`index`, `positions`, `guard`, `body`: what a generic row's Context is to the stages."""

    def __init__(self, problem: Problem, frame: Block, columns: Columns, text: str, axes: tuple[int, ...]) -> None:
        self.problem, self.frame, self.columns, self.text, self.axes = problem, frame, columns, text, axes
        self.anchor, self.source, self.body = problem.anchor, problem.anchor.args[0], frame.body
        self.order = layout(text, len(self.source.shape)).order
        self.first = min(self.order.index(a) for a in axes)  # of the folded axes, as they lie
        self.head: list[Stmt] = []
        self.outer = frame.at[1]
        self.across = self.named(tirx.floormod(frame.thread, columns.across), "across")
        self.down = self.named(tirx.floordiv(frame.thread, columns.across), "down")
        self.left = self.named(frame.at[0] * columns.width + self.across * columns.vector, "left")
        self.lane: Expr = tir.i32(0)
        self.row: Expr = tir.i32(0)
        self._hold()

    def named(self, value: Expr, name: str) -> Expr:
        var, bind = tir.let(value, name)
        self.head.append(bind)
        return var

    def _hold(self) -> None:
        graph, anchor = self.problem.body, self.anchor
        found = streamed(graph, anchor, len(self.axes), after=False, layout=self.text)
        used = needed([self.source], ())
        self.registers: dict[Value, Buffer] = {}
        self.flat: dict[Value, Buffer] = {}
        for value in (v for v, own in found.items() if own and v in used):
            self.flat[value], made = tir.flat(self.frame.places[value].buffer)
            registers, local = tir.local((self.columns.vector,), KINDS[value.type.dtype], "stream")
            self.registers[value] = registers
            self.head += [made, local]
            self.body.places[value] = Held(value.type, registers, now=partial(self._streaming, registers))

    def _streaming(self, registers: Buffer) -> Expr:
        return tir.load(registers, self.lane)

    # -- for the stages ------------------------------------------------------------------------------------------------

    def element(self) -> Expr:
        return self.body.at(self.source, self._index(self.outer, self.row, self.left + self.lane))

    def positions(self) -> tuple[Expr, ...]:
        index = self._index(self.outer, self.row, self.left + self.lane)
        return tuple(index[a] for a in self.axes)

    def guard(self, x: Expr, identity: Expr) -> Expr:
        return x

    def _index(self, outer: Expr, row: Expr, column: Expr) -> Index:
        """The logical index of a number of the argument."""
        physical = [self.source.shape[a] for a in self.order]
        first, last = self.first, self.first + len(self.axes)
        groups = ((outer, physical[:first]), (row, physical[first:last]), (column, physical[last:]))
        digits = [x for at, sizes in groups if sizes for x in tir.split(at, *sizes)]
        index: list[Expr] = [0] * len(digits)
        for axis, digit in zip(self.order, digits, strict=True):
            index[axis] = digit
        return tuple(index)

    # -- sums ----------------------------------------------------------------------------------------------------------

    def run(self, make: Make) -> Stmt:
        c = self.columns
        self.stage, self.finish = make(self)
        sums = [tir.local((c.vector,), d, "sum") for d in self.stage.dtypes]
        self.sums = [b for b, _ in sums]
        start = [
            tir.store(b, i, j) for b, i in zip(self.sums, self.stage.identity, strict=True) for j in range(c.vector)
        ]
        own = tir.seq([m for _, m in sums], start, self._own())
        if c.kept % c.width:
            own = tir.seq([m for _, m in sums], start, tir.when(self.left < c.kept, self._own()))
        if c.down == 1 and c.splits == 1:
            return tir.seq(self.head, own, self._each_lane(self._done))
        return tir.seq(self.head, own, self._block())

    def _own(self) -> Stmt:
        """The thread's share of its columns."""
        c = self.columns
        each = c.down * c.splits
        start = self.frame.at[2] * c.down + self.down

        def turn(k: Expr) -> Stmt:
            self.row = start + k * each
            address = (self.outer * c.folded + self.row) * c.kept + self.left
            loads = [fetch(self.flat[v], address, v.type.dtype, r, c.vector) for v, r in self.registers.items()]

            def lane(j: Expr) -> Stmt:
                self.lane = j
                old = tuple(tir.load(b, j) for b in self.sums)
                return stored(self.sums, self.stage.combine(old, self.stage.term([])), j)

            return tir.seq(loads, tir.unrolled(c.vector, lane, "lane"))

        turns = tirx.floordiv(c.folded - start + each - 1, each) if c.folded % each else tir.i32(c.folded // each)
        return tir.loop(turns, turn, "row")

    def _each_lane(self, make: Callable[[Expr, list[Expr]], Stmt]) -> Stmt:
        """`make(column, parts)` for each of the thread's own columns."""

        def lane(j: Expr) -> Stmt:
            column = self.left + j
            stmt = make(column, [tir.load(b, j) for b in self.sums])
            return stmt if self.columns.kept % self.columns.width == 0 else tir.when(column < self.columns.kept, stmt)

        return tir.unrolled(self.columns.vector, lane, "lane")

    def _block(self) -> Stmt:
        """All threads' sums of a column, by one thread."""
        c = self.columns
        tiles = [shared((c.down, c.width), d, f"sums{i}") for i, d in enumerate(self.stage.dtypes)]
        place = self.across * c.vector

        def lane(j: Expr) -> Stmt:
            return tir.seq(
                tir.store(t, tir.load(b, j), self.down, place + j) for (t, _), b in zip(tiles, self.sums, strict=True)
            )

        put = tir.seq([m for _, m in tiles], tir.unrolled(c.vector, lane, "lane"), barrier())
        halves = [self._halved([t for t, _ in tiles], c.down >> k) for k in range(1, c.down.bit_length())]

        def column(x: Expr) -> Stmt:
            """Column x of the block."""
            at = self.frame.at[0] * c.width + x
            totals = [tir.load(t, 0, x) for t, _ in tiles]
            end = self._to_scratch(at, totals) if c.splits > 1 else self._done(at, totals)
            return end if c.kept % c.width == 0 else tir.when(at < c.kept, end)

        whole = self._columns(column)
        return tir.seq(put, halves, whole, self._last() if c.splits > 1 else None)

    def _halved(self, tiles: list[Buffer], rows: int) -> Stmt:
        """The upper half of the sums onto the lower one of `rows`: by pairs the errors of a sum grow least."""
        place = self.across * self.columns.vector

        def lane(j: Expr) -> Stmt:
            low, high = (tuple(tir.load(t, self.down + at, place + j) for t in tiles) for at in (0, rows))
            names = [tir.let(x, "part") for x in self.stage.combine(low, high)]
            written = [tir.store(t, n, self.down, place + j) for t, (n, _) in zip(tiles, names, strict=True)]
            return tir.seq([bind for _, bind in names], written)

        added = tir.when(self.down < rows, tir.unrolled(self.columns.vector, lane, "lane"))
        return tir.seq(added, barrier())

    def _columns(self, column: Callable[[Expr], Stmt]) -> Stmt:
        """`column(x)` for the block's columns, shared out to its threads."""
        c, thread = self.columns, self.frame.thread
        if c.width <= c.block:
            return column(thread) if c.width == c.block else tir.when(thread < c.width, column(thread))
        return tir.loop(c.width // c.block, lambda k: column(k * c.block + thread), "x")

    # -- several blocks ------------------------------------------------------------------------------------------------

    def _scratch(self) -> tuple[list[Buffer], list[Stmt]]:
        c = self.columns
        found, made = [], []
        for i, d in enumerate(self.stage.dtypes):
            buffer, declared = tir.section(self.frame.scratch, d, c.splits * c.results, 4 * i * c.splits * c.results)
            found.append(buffer)
            made.append(declared)
        return found, made

    def _to_scratch(self, column: Expr, parts: list[Expr]) -> Stmt:
        c = self.columns
        buffers, made = self._scratch()
        at = self.frame.at[2] * c.results + self.outer * c.kept + column
        return tir.seq(made, [tir.store(b, p, at) for b, p in zip(buffers, parts, strict=True)])

    def _last(self) -> Stmt:
        """The last block of those that share columns puts their sums together."""
        c = self.columns
        flag, made = shared((1,), "int32", "last")
        counter = pointer(self.frame.zeros, self.outer * c.pieces + self.frame.at[0])
        arrive = tir.store(flag, result("int32", "ec_arrive_last", counter, tir.lit(c.splits, "uint32")), 0)
        buffers, declared = self._scratch()
        cells = [tir.local((1,), d, "total") for d in self.stage.dtypes]
        totals = [b for b, _ in cells]

        def column(x: Expr) -> Stmt:
            at = self.frame.at[0] * c.width + x
            base = self.outer * c.kept + at
            start = [tir.store(b, tir.load(s, base), 0) for b, s in zip(totals, buffers, strict=True)]

            def add(k: Expr) -> Stmt:
                other = tuple(tir.load(s, (k + 1) * c.results + base) for s in buffers)
                return stored(totals, self.stage.combine(tuple(tir.load(b, 0) for b in totals), other), 0)

            more = tir.loop(c.splits - 1, add, "split")
            stmt = tir.seq([m for _, m in cells], start, more, self._done(at, [tir.load(b, 0) for b in totals]))
            return stmt if c.kept % c.width == 0 else tir.when(at < c.kept, stmt)

        whole = tir.seq(declared, self._columns(column))
        first = tir.when(tirx.EQ(self.frame.thread, 0), arrive)
        return tir.seq(made, barrier(), first, barrier(), tir.when(tirx.NE(tir.load(flag, 0), 0), whole))

    def _done(self, column: Expr, parts: list[Expr]) -> Stmt:
        """A column's result, and what follows it, to memory."""
        total = self.stage.result(tuple(parts))
        value = self.body.rounded(Value(self.anchor), self.finish([total]))
        self.body.bind(Value(self.anchor), lambda _: value)
        index = self._index(self.outer, tir.i32(0), column)
        keep = len(self.anchor.types[0].shape) == len(index)
        kept = [0 if a in self.axes else x for a, x in enumerate(index) if keep or a not in self.axes]
        return self.frame.store(tuple(kept))
