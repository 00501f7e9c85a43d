"""TensorIR of a recurrence in one block: products of a step by all threads, gates by one thread per hidden unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Problem

from .... import tir
from ....conversions import widened
from ....cuda.block import barrier, pure, shared
from ....tir import Buffer, Expr, Stmt
from ...common import ceil_div
from ...recurrent.cell import CELLS, Point
from ...recurrent.rows import Shape
from .recurrent_block import AT_ONCE, Plan, tensors

F32 = "float32"


class Recurrence:
    def __init__(
        self, problem: Problem, shape: Shape, plan: Plan, of: dict[Any, Buffer], block: Expr, thread: Expr
    ) -> None:
        self.shape, self.plan, self.thread = shape, plan, thread
        attrs: Any = full_attrs(problem.anchor)
        self.attrs = attrs
        self.weights = problem.anchor.args[1].type.dtype
        self.of = tensors(problem, shape, of)
        self.states = len(self.of["firsts"])
        self.head: list[Stmt] = []
        self.d, self.b, self.chunk = (
            self.named(x, "place") for x in tir.split(block, shape.directions, shape.batch, plan.chunks)
        )
        self.unit = self.named(tirx.floormod(thread, plan.units), "unit")
        self.part = self.named(tirx.floordiv(thread, plan.units), "part")
        # each state twice: a step reads one and writes the other
        self.state, self.hold, self.sums = self._shared()

    def named(self, value: Expr, name: str) -> Expr:
        var, bind = tir.let(tir.expr(value), name)
        self.head.append(bind)
        return var

    def _shared(self) -> tuple[Buffer, Buffer | None, Buffer]:
        """States, what one phase of a GRU leaves to the next, sums: one array, whose parts never change places."""
        hidden = self.shape.hidden
        state, made = shared((2 * self.states, hidden), F32, "state")
        self.head.append(made)
        hold = None
        if len(self.shape.phases) > 1:
            hold, made = shared((2, hidden), F32, "hold")
            self.head.append(made)
        gates = max(map(len, self.shape.phases))
        sums, made = shared((self.plan.parts, gates, self.plan.units), F32, "sums")
        self.head.append(made)
        return state, hold, sums

    def code(self) -> Stmt:
        length = self._length()
        steps = tir.loop(length, self.step, "t")
        odd = tirx.bitwise_and(length, tir.i32(1))
        parts = [self._load(), barrier(), steps, self._save(odd, length)]
        if self.of["lengths"] is not None and self.of["every"] is not None:
            parts.append(self._clear(length))
        return tir.seq(self.head, parts)

    def _length(self) -> Expr:
        """Steps of the block's sequence."""
        if self.of["lengths"] is None:
            return tir.i32(self.shape.steps)
        given = tir.load(self.of["lengths"], self.b)
        return self.named(tirx.max(tirx.min(given, tir.i32(self.shape.steps)), tir.i32(0)), "length")

    def _units(self, make: Callable[[Expr], Stmt], own: bool) -> Stmt:
        """`make(j)` for hidden units, shared out to the threads: all, or the block's own."""
        threads, plan, hidden = self.plan.threads, self.plan, self.shape.hidden
        own = own and plan.chunks > 1
        first = self.chunk * plan.units if own else tir.i32(0)
        count = plan.units if own else hidden

        def turn(k: Expr) -> Stmt:
            j = first + k * threads + self.thread
            limit = tirx.min(first + count, tir.i32(hidden)) if own else tir.i32(hidden)
            return tir.when(j < limit, make(j))

        return tir.loop(ceil_div(count, threads), turn, "k")

    def _load(self) -> Stmt:
        def one(j: Expr) -> Stmt:
            return tir.seq(
                tir.store(self.state, tir.load(first, self.d, self.b, j), 2 * k, j)
                for k, first in enumerate(self.of["firsts"])
            )

        return self._units(one, own=False)

    def _save(self, odd: Expr, length: Expr) -> Stmt:
        """The last states; zeros for a sequence without steps."""

        def one(j: Expr) -> Stmt:
            parts = []
            for k, last in enumerate(self.of["lasts"]):
                value = tir.load(self.state, 2 * k + odd, j)
                if self.of["lengths"] is not None:
                    value = tirx.Select(length > 0, value, tir.lit(0, F32))
                parts.append(tir.store(last, value, self.d, self.b, j))
            return tir.seq(parts)

        return self._units(one, own=True)

    def _clear(self, length: Expr) -> Stmt:
        """Zeros in what has every step, past the end of the sequence."""

        def step(t: Expr) -> Stmt:
            return self._units(
                lambda j: tir.store(self.of["every"], tir.lit(0, F32), length + t, self.d, self.b, j), own=True
            )

        return tir.loop(self.shape.steps - length, step, "t")

    # -- a step --------------------------------------------------------------------------------------------------------

    def step(self, t: Expr) -> Stmt:
        odd, bind_odd = tir.let(tirx.bitwise_and(t, tir.i32(1)), "odd")
        last = self._length_minus_one()
        at, bind_at = tir.let(self._backwards(t, last - t), "at")
        tiles = 1 if self.plan.chunks > 1 else ceil_div(self.shape.hidden, self.plan.units)

        def phase(k: int) -> Stmt:
            return tir.loop(tiles, lambda tile: self.tile(k, tile + self.chunk, odd, at), "tile")

        return tir.seq(bind_odd, bind_at, [phase(k) for k in range(len(self.shape.phases))])

    def _length_minus_one(self) -> Expr:
        return (tir.i32(self.shape.steps) if self.of["lengths"] is None else self._again()) - 1

    def _again(self) -> Expr:
        given = tir.load(self.of["lengths"], self.b)
        return tirx.max(tirx.min(given, tir.i32(self.shape.steps)), tir.i32(0))

    def _backwards(self, forward: Expr, reverse: Expr) -> Expr:
        flags = self.attrs["reverse"]
        if len(set(flags)) == 1:
            return reverse if flags[0] else forward
        return tirx.Select(tirx.EQ(self.d, tir.i32(flags.index(1))), reverse, forward)

    def tile(self, phase: int, tile: Expr, odd: Expr, at: Expr) -> Stmt:
        """The gates of a phase for some hidden units."""
        plan, hidden = self.plan, self.shape.hidden
        gates = self.shape.phases[phase]
        j, bind = tir.let(tile * plan.units + self.unit, "j")
        totals, made = tir.local((len(gates),), F32, "total")
        inputs, inputs_made = tir.local((self.shape.gates,), F32, "x")
        true = j < hidden if hidden % plan.units else None
        start = [tir.store(totals, tir.lit(0, F32), g) for g in range(len(gates))]
        work = self._products(phase, j, odd, totals)
        put = tir.seq(tir.store(self.sums, tir.load(totals, g), self.part, g, self.unit) for g in range(len(gates)))
        one = tirx.EQ(self.part, 0) if plan.parts > 1 else None
        reads = tir.seq(
            tir.store(inputs, tir.load(self.of["x"], at, self.b, (self.d * self.shape.gates + g) * hidden + j), g)
            for g in range(self.shape.gates)
        )
        return tir.seq(
            bind,
            made,
            inputs_made,
            start,
            _guarded([one, true], reads),
            _guarded([true], work),
            put,
            barrier(),
            _guarded([one, true], self._gates(phase, j, odd, at, inputs)),
            barrier(),
        )

    def _products(self, phase: int, j: Expr, odd: Expr, totals: Buffer) -> Stmt:
        """The thread's share of h times R."""
        hidden, parts, gates = self.shape.hidden, self.plan.parts, self.shape.phases[phase]
        turns = ceil_div(hidden, parts)
        whole = hidden // parts  # turns that need no check

        def number(k: Expr) -> Expr:
            if phase:
                assert self.hold is not None
                return tir.load(self.hold, 0, k)
            return tir.load(self.state, odd, k)

        def add(turn: Expr) -> Stmt:
            k = turn * parts + self.part
            h, bind = tir.let(number(k), "h")
            adds = []
            for place, gate in enumerate(gates):
                weight = widened(tir.load(self.of["r"], self.d, k, gate, j), self.weights)
                adds.append(tir.store(totals, pure(F32, "fmaf", h, weight, tir.load(totals, place)), place))
            return tir.seq(bind, adds)

        many, rest = divmod(whole, AT_ONCE)
        loop = tir.loop(many, lambda n: tir.unrolled(AT_ONCE, lambda i: add(n * AT_ONCE + i), "i"), "n")
        tail = tir.unrolled(rest, lambda i: add(many * AT_ONCE + i), "i") if rest else None
        last = tir.when(whole * parts + self.part < hidden, add(tir.i32(whole))) if turns > whole else None
        return tir.seq(loop if many else None, tail, last)

    def _gates(self, phase: int, j: Expr, odd: Expr, at: Expr, inputs: Buffer) -> Stmt:
        gates, parts = self.shape.phases[phase], self.plan.parts
        whole, made = tir.local((len(gates),), F32, "whole")
        meet: list[Stmt] = [made]
        for g in range(len(gates)):
            meet.append(tir.store(whole, tir.load(self.sums, 0, g, self.unit), g))

            def more(k: Expr, g: int = g) -> Stmt:
                return tir.store(whole, tir.load(whole, g) + tir.load(self.sums, k + 1, g, self.unit), g)

            meet.append(tir.unrolled(parts - 1, more, "part") if parts > 1 else tir.seq())
        p = Point(
            self.attrs,
            F32,
            1,
            tir.i32(0),
            sum=lambda place: tir.load(whole, place),
            x=lambda gate: tir.load(inputs, gate),
            state=lambda k: tir.load(self.state, 2 * k + odd, j),
            next=lambda k, value: self._next(k, p.keep(value), j, odd, at),
            held=lambda k: tir.load(self.hold, k, j),
            hold=lambda k, value: tir.store(self.hold, value, k, j),
            parameter=lambda q: self._parameter(q, j),
        )
        CELLS[self.shape.op, len(self.shape.phases)][phase](p)
        return tir.seq(meet, p.registers, p.statements)

    def _next(self, k: int, value: Expr, j: Expr, odd: Expr, at: Expr) -> list[Stmt]:
        stores = [tir.store(self.state, value, 2 * k + 1 - odd, j)]
        if k == 0 and self.of["every"] is not None:
            stores.append(tir.store(self.of["every"], value, at, self.d, self.b, j))
        return stores

    def _parameter(self, q: int, j: Expr) -> Expr:
        if self.of["bias"] is None:
            return tir.load(self.of["peepholes"], self.d, q, j)
        return tir.load(self.of["bias"], self.d, j)


def _guarded(conditions: list[Expr | None], body: Stmt) -> Stmt:
    for condition in conditions:
        if condition is not None:
            body = tir.when(condition, body)
    return body
