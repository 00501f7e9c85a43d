"""TensorIR of maps in runs of neighbours: reads are found by building the result once, with the lane as a variable.

A read whose address moves with the lane, one element at a time and from an aligned one on, becomes an access of the
whole run before the first lane is computed; one that does not move is made once; any other is made lane by lane.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tvm import sym, tirx

from edgec.compiler.ir import Value
from edgec.compiler.layout import layout
from edgec.compiler.op import int_attr
from edgec.compiler.registry import Problem

from .... import tir
from ....access import Place
from ....cuda.block import Block
from ....maps import replaced
from ....tir import Buffer, Expr, Index, Stmt
from ..streams import fetch, put_out
from ..vectors import KINDS
from .runs import BLOCK, seams


@dataclass
class Reads:
    """Reads in the order in which the result asks for them: found first, then answered for each lane."""

    found: list[tuple[Value, Expr]] = field(default_factory=list)  # (operand, its address)
    answers: list[Buffer | None] = field(default_factory=list)
    lane: int = -1  # of which the result is built; -1: reads are being found
    next: int = 0


@dataclass(frozen=True)
class Read(Place):
    """An operand whose reads are noted and answered."""

    value: Value = field(kw_only=True)
    reads: Reads = field(kw_only=True)

    def load(self, index: Index) -> Expr:
        own = super().load(index)
        if self.reads.lane < 0:
            fixed = tuple(0 if n == 1 else x for n, x in zip(self.type.shape, index, strict=True))
            self.reads.found.append((self.value, self._address(fixed)))
            return own
        answer = self.reads.answers[self.reads.next]
        self.reads.next += 1
        if answer is None:
            return own
        x = tir.load(answer, self.reads.lane)
        return tirx.Cast("float16", x) if self.type.dtype == "f16" else x  # it may be chosen instead of a literal

    def _address(self, index: Index) -> Expr:
        at: Expr = tir.i32(0)
        for x, n in zip(self.physical(tuple(tir.expr(x) for x in index)), self.buffer.shape, strict=True):
            at = at * int(n) + x
        return at


class Runs:
    def __init__(self, problem: Problem, frame: Block, lanes: int, seam: Value | None) -> None:
        self.problem, self.frame, self.lanes, self.seam = problem, frame, lanes, seam
        self.out = problem.body.outputs[0]
        self.order = layout(self.out.type.layout, len(self.out.shape)).order
        self.head: list[Stmt] = []
        self.names: set[Expr] = set()

    def block(self) -> Stmt:
        lanes, shape = self.lanes, [self.out.shape[a] for a in self.order]
        total = self.out.type.size // lanes
        number = self._named(self.frame.at[0] * BLOCK + self.frame.thread, "number")
        digits = [self._named(x, "at") for x in tir.split(number, *shape[:-1], shape[-1] // lanes)]
        for digit, n in zip(digits, [*shape[:-1], shape[-1] // lanes], strict=True):
            self.frame.body.limit(digit, n)
        index: list[Any] = [0] * len(shape)
        for axis, digit in zip(self.order, digits, strict=True):
            index[axis] = digit
        self.inner = self.order[-1]
        index[self.inner] = digits[-1] * lanes
        flat, made = tir.flat(self.frame.place.buffer)
        self.head.append(made)
        body = self._branches(tuple(index), flat, number * lanes)
        return tir.seq(self.head, body if total % BLOCK == 0 else tir.when(number < total, body))

    def _named(self, value: Expr, name: str) -> Expr:
        var, bind = tir.let(value, name)
        self.head.append(bind)
        self.names.add(var)
        return var

    def _branches(self, index: Index, flat: Buffer, at: Expr) -> Stmt:
        """One branch per part of a concatenation along the run's axis."""
        if self.seam is None:
            return self._run(index, flat, at)
        node = self.seam.node
        axis = int_attr(node, "axis") % len(self.seam.shape)
        body, result = self.frame.body, None
        for part, start in reversed(seams(node)):

            def inside(i: Index, part: Value = part, start: int = start) -> Expr:
                return body.at(part, replaced(i, axis, i[axis] - start))

            body.bind(self.seam, inside)
            run = self._run(index, flat, at)
            ends = index[self.inner] < start + part.shape[axis]
            result = run if result is None else tir.when(ends, run, result)
        assert result is not None
        return result

    def _run(self, index: Index, flat: Buffer, at: Expr) -> Stmt:
        body, lanes = self.frame.body, self.lanes
        reads = Reads()
        for operand, place in self.frame.places.items():
            body.places[operand] = Read(place.type, place.buffer, value=operand, reads=reads)

        def element(lane: Expr | int) -> Expr:
            return body.at(self.out, replaced(index, self.inner, index[self.inner] + lane))

        moving = tirx.Var("lane", "int32")
        body.limit(moving, lanes)
        element(0)
        first, reads.found = reads.found, []
        element(moving)
        if [operand for operand, _ in first] == [operand for operand, _ in reads.found]:
            pairs = zip(first, reads.found, strict=True)
            parts = [self._answer(reads, operand, at, then - moving) for (operand, at), (_, then) in pairs]
        else:
            parts, reads.answers = [], [None] * len(first)

        def value(lane: int) -> Expr:
            reads.lane, reads.next = lane, 0
            return element(lane)

        return tir.seq(parts, put_out(flat, at, self.out.type.dtype, lanes, value))

    def _answer(self, reads: Reads, value: Value, first: Expr, start: Expr) -> Stmt | None:
        """Load the run of a read whose address is `first` for lane 0, and `start` plus the lane for each."""
        kind, check = value.type.dtype, sym.Analyzer()
        together = _is_zero(check.simplify(start - first)) and _is_zero(
            check.simplify(tirx.floormod(first, self.lanes))
        )
        if kind not in KINDS or not together or not self._known(first):
            reads.answers.append(None)
            return None
        registers, made = tir.local((self.lanes,), KINDS[kind], "run")
        flat, declared = tir.flat(self.frame.places[value].buffer)
        reads.answers.append(registers)
        return tir.seq(made, declared, fetch(flat, first, kind, registers, self.lanes))

    def _known(self, address: Expr) -> bool:
        """Whether an address stands on its own: it has no names that are bound within the result's expression."""
        held = {buffer.data for buffer in (place.buffer for place in self.frame.places.values())}
        return all(v in held or v in self.names for v in tirx.analysis.undefined_vars(tirx.Evaluate(address)))


def _is_zero(x: Expr) -> bool:
    return isinstance(x, tirx.IntImm) and int(x) == 0
