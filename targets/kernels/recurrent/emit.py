"""TensorIR of a recurrence: steps, and tiles of rows and hidden units within them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.targets import tir
from edgec.targets.conversions import widened
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import ABREAST, full_or_rest, put, vector
from ..cortex_m.asm import OPAQUE, at, called, imported, opaque
from ..cortex_m.fpu.gates_asm import gate_dots
from ..register_tile import Tile
from .cell import CELLS, Point
from .states import Rows, States


@dataclass(frozen=True)
class Turn:
    """A step: its number, where in the sequences it is, and which halves of the states are read and written."""

    t: Expr
    at: Expr
    odd: Expr
    old: Expr
    new: Expr


@dataclass(frozen=True)
class Where:
    """A tile: row within the task, number of the panel, hidden units in it."""

    row: Expr
    panel: Expr
    units: int


class Recurrence(States):
    """A task is some sequences in one direction, from the first step to the last."""

    def code(self) -> tuple[int, Callable[[Expr], Stmt]]:
        groups = ceil_div(self.shape.batch, self.plan.each)

        def task(number: Expr) -> Stmt:
            digits = tir.split(number, self.shape.directions, groups)
            d, bind_d = tir.let(digits[0], "d")
            first, bind_first = tir.let(digits[1] * self.plan.each, "first")
            work = full_or_rest(
                digits[1], self.shape.batch, self.plan.each, lambda count: self.sequences(Rows(d, first, count))
            )
            return tir.seq(bind_d, bind_first, self.with_dots(work) if self.plan.dots else work)

        return self.shape.directions * groups, task

    # -- sequences ---------------------------------------------------------------------------------------------------

    def sequences(self, rows: Rows) -> Stmt:
        """From the first states to the last; steps after the end of the longest sequence leave zeros."""
        longest, find = self.longest(rows)
        odd, bind = tir.let(tirx.bitwise_and(longest, tir.i32(1)) * self.half, "end")
        steps = tir.loop(longest, lambda t: self.step(rows, t), "t")
        rest = None
        if self.lengths is not None and self.every is not None:
            every = self.every

            def clear(t: Expr, i: Expr) -> Stmt:
                return self.across(lambda j, n: put(every, self.zeros(n), n, t, rows.d, rows.first + i, j))

            after = self.shape.steps - longest
            rest = tir.loop(after, lambda t: tir.loop(rows.count, lambda i: clear(longest + t, i), "i"), "t")
        start = tir.loop(rows.count, lambda i: self.load(rows, i), "i")
        end = tir.loop(rows.count, lambda i: self.save(rows, i, odd), "i")
        return tir.seq(start, find, bind, steps, rest, end)

    # -- steps -------------------------------------------------------------------------------------------------------

    def step(self, rows: Rows, t: Expr) -> Stmt:
        """All phases of a step; every second one takes the panels in the opposite order."""
        odd, bind_odd = tir.let(tirx.bitwise_and(t, tir.i32(1)), "odd")
        at, bind_at = tir.let(self.backwards(rows.d, t, self.shape.steps - 1 - t), "at")
        old, bind_old = tir.let(odd * self.half, "old")
        new, bind_new = tir.let((1 - odd) * self.half, "new")
        turn = Turn(t, at, odd, old, new)
        phases = [self.phase(rows, turn, k) for k in range(len(self.shape.phases))]
        return tir.seq(bind_odd, bind_at, bind_old, bind_new, phases)

    def backwards(self, d: Expr, forward: Expr, reverse: Expr) -> Expr:
        """One or the other, as the direction says."""
        flags = self.attrs["reverse"]
        if len(set(flags)) == 1:
            return reverse if flags[0] else forward
        return tirx.Select(tirx.EQ(d, tir.i32(flags.index(1))), reverse, forward)

    def phase(self, rows: Rows, turn: Turn, k: int) -> Stmt:
        hidden, width = self.shape.hidden, self.plan.width
        panels = ceil_div(hidden, width)
        size = min(self.plan.rows, rows.count)
        tiles = ceil_div(rows.count, size)

        def panel(number: Expr) -> Stmt:
            here, bind = tir.let(number + turn.odd * (panels - 1 - 2 * number), "panel")
            if self.plan.dots:
                one = tir.loop(rows.count, lambda i: self.dotted(rows, turn, k, i, here), "i")
                return tir.seq(bind, one)

            def of(units: int) -> Stmt:
                def tile(i: Expr) -> Stmt:
                    last = rows.count - size  # tiles overlap where rows do not divide
                    row, bind = tir.let(i * size if rows.count % size == 0 else tirx.min(i * size, last), "row")
                    return tir.seq(bind, self.tile(rows, turn, k, Where(row, here, units), size))

                return tir.loop(tiles, tile, "tile")

            return tir.seq(bind, full_or_rest(here, hidden, width, of))

        return tir.loop(panels, panel, "p")

    # -- tiles -------------------------------------------------------------------------------------------------------

    def tile(self, rows: Rows, turn: Turn, phase: int, where: Where, size: int) -> Stmt:
        """The sums of some rows and hidden units, and what follows from them."""
        gates, lanes = self.shape.phases[phase], self.plan.lanes
        vectors = ceil_div(where.units, lanes)
        tile = Tile(size, (lanes,) * (len(gates) * vectors), lanes, self.kind)
        source, base = (self.held[0], tir.i32(0)) if phase else (self.states[0], turn.old)

        def line(k: Expr, s: int) -> Expr:
            gate, v = divmod(s, vectors)
            return widened(vector(self.r, lanes, rows.d, gates[gate], where.panel, k, v * lanes), self.weights)

        def number(k: Expr, i: int) -> Expr:
            return tir.load(source, base + (where.row + i) * self.wide + k)

        sums = tile.sums(self.shape.hidden, line, number)
        stage, copies = self.staged(tile)
        parts = []
        for i in range(size):
            for v in range(vectors):
                slots = [tile.slot(i, gate * vectors + v) for gate in range(len(gates))]
                n = min(lanes, where.units - v * lanes)
                first = where.panel * self.plan.width + v * lanes
                parts.append(self.point(rows, turn, phase, where.row + i, first, n, stage, slots))
        groups = [parts[k : k + ABREAST] for k in range(0, len(parts), ABREAST)]
        return tir.seq(sums, copies, [tir.interleaved(group) for group in groups])

    def with_dots(self, work: Stmt) -> Stmt:
        """Statements that call the assembly of each phase's products."""
        hidden, width = self.shape.hidden, self.plan.width
        sizes = sorted({len(gates) for gates in self.shape.phases})
        return imported(OPAQUE + "".join(gate_dots(f"m_gates{n}", n, width, hidden, self.small) for n in sizes), work)

    def dotted(self, rows: Rows, turn: Turn, phase: int, row: Expr, panel: Expr) -> Stmt:
        """A tile of one row whose products are assembly; then one hidden unit after the other."""
        gates, width = self.shape.phases[phase], self.plan.width
        sums, alloc = tir.local((len(gates) * width,), self.kind, "sums")
        source, base = (self.held[0], tir.i32(0)) if phase else (self.states[0], turn.old)
        h, declared_h = tir.flat(source)
        panels = [tirx.address_of(tir.load(self.r, rows.d, gate, panel, 0, 0)) for gate in gates]
        run = called(f"m_gates{len(gates)}", at(sums, 0), at(h, base + row * self.wide), *panels)
        units = tirx.min(self.shape.hidden - panel * width, width) if self.shape.hidden % width else width

        def unit(j: Expr) -> Stmt:
            slots = [j + k * width for k in range(len(gates))]
            return self.point(rows, turn, phase, row, panel * width + j, 1, sums, slots)

        return tir.seq(alloc, declared_h, run, tir.loop(opaque(units), unit, "j"))

    def point(
        self, rows: Rows, turn: Turn, phase: int, i: Expr, first: Expr, n: int, stage: Any, slots: Sequence[Expr | int]
    ) -> Stmt:
        """The gates of one row and `n` hidden units from `first` on; `slots`: where the sums of each gate are."""
        hidden, gates = self.shape.hidden, self.shape.gates
        binds, live, at = self.live(rows, turn, i)
        registers: list[Stmt] = []

        def lane(x: Expr) -> Stmt:
            j = first + x
            here, beside = turn.old + i * self.wide + j, i * self.wide + j
            p = Point(
                self.attrs,
                self.kind,
                self.plan.lanes,
                x,
                sum=lambda place: tir.load(stage, slots[place] + x),
                x=lambda gate: tir.load(self.x, at, rows.first + i, (rows.d * gates + gate) * hidden + j),
                state=lambda k: tir.load(self.states[k], here),
                next=lambda k, value: self.following(rows, turn, (i, j), live, at, k, p.keep(value)),
                held=lambda k: tir.load(self.held[k], beside),
                hold=lambda k, value: tir.store(self.held[k], value, beside),
                parameter=lambda q: self.parameter(rows.d, q, j),
            )
            CELLS[self.shape.op, len(self.shape.phases)][phase](p)
            registers.extend(p.registers)
            return tir.seq(p.statements)

        work = self.lane_by_lane(n, lane)
        return tir.seq(binds, registers, work)

    def following(
        self, rows: Rows, turn: Turn, place: tuple[Expr, Expr], live: Expr | None, at: Expr, k: int, value: Expr
    ) -> list[Stmt]:
        """Stores of a new state; a sequence that has ended keeps the old one and leaves zero among all."""
        i, j = place
        state, beside, shown = self.states[k], i * self.wide + j, value
        if live is not None:
            shown = tirx.Select(live, value, tir.lit(0.0, self.kind))
            value = tirx.Select(live, value, tir.load(state, turn.old + beside))
        stores = [tir.store(state, value, turn.new + beside)]
        if k == 0 and self.every is not None:
            stores.append(tir.store(self.every, shown, at, rows.d, rows.first + i, j))
        return stores

    def parameter(self, d: Expr, q: int, j: Expr) -> Expr:
        return tir.load(self.peepholes, d, q, j) if self.bias is None else tir.load(self.bias, d, j)

    def staged(self, tile: Tile) -> tuple[Any, list[Stmt]]:
        """Where the sums can be read lane by lane: f64 goes through the C library, one number after the other."""
        if self.kind == "float32":
            return tile.acc, []
        stage, alloc = tir.local(tile.acc.shape, self.kind, "stage")
        lanes = self.plan.lanes
        copies = [put(stage, tile.sum(i, v), lanes, tile.slot(i, v)) for i, v in tile.places]
        return stage, [alloc, *copies]

    def lane_by_lane(self, n: int, lane: Callable[[Expr], Stmt]) -> Stmt:
        return tir.vectorized(n, lane) if self.kind == "float32" else tir.loop(n, lane, "lane")

    def live(self, rows: Rows, turn: Turn, i: Expr) -> tuple[list[Stmt], Expr | None, Expr]:
        """Whether a sequence has this step at all (None: it has), and which of its steps that is."""
        if self.lengths is None:
            return [], None, turn.at
        length, bind_length = tir.let(self.length(rows.first + i), "length")
        live = turn.t < length
        at = tirx.Select(live, self.backwards(rows.d, turn.t, length - 1 - turn.t), turn.t)
        at, bind_at = tir.let(at, "at")
        return [bind_length, bind_at], live, at
