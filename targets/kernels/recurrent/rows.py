"""recurrent: RNN, GRU and LSTM, step after step; per step a product of h with R in registers, then the gates.

A tile is some rows (sequences) times some vectors of the hidden axis, for all gates that are summed together: its sums
never leave the registers before the gates have been computed. R lies in panels, one per gate and tile, so that each is
read in one stretch. Every second step takes the tiles in the opposite order: the panels that the step before read last
are still in the cache. h and c stay in scratch, each twice: a step reads one and writes the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu, Target

from ..common import ceil_div
from ..cortex_m.fpu.gates import cycles, has_dots, widths
from ..cost import CALL_US, TILE, Traffic, level_of, microseconds, step_cycles
from ..plain import Part, emit_plain, scratch_bytes

NAME = "recurrent"
KEPT = 3
GATE_CYCLES = {"Edgec.RNN": 12.0, "Edgec.GRU": 30.0, "Edgec.LSTM": 40.0}  # per vector of h: exponentials, divisions
DOTS_GATES = 4.0  # times as many where what follows products is computed one by one
STEP_CYCLES = 150.0  # from the last sums of a step to the first products of the next
FULL = 0.9  # share of a cache that panels can count on


@dataclass(frozen=True)
class Shape:
    """Sizes of a recurrence. `phases`: the gates whose sums are computed together, one phase after the other."""

    op: str
    steps: int
    batch: int
    directions: int
    gates: int
    hidden: int
    phases: tuple[tuple[int, ...], ...]
    bits: int  # of the type that is computed in
    stored: int  # bytes of a number of R

    def lanes(self, cpu: Cpu) -> int:
        """Lanes of its vectors: no more than a small hidden axis fills."""
        most = max(1, cpu.lanes(self.bits))
        while most // 2 >= self.hidden:
            most //= 2
        return most


@dataclass(frozen=True)
class Plan:
    """`lanes` of a vector, `vectors` of the hidden axis and `rows` in a tile, `each`: rows of a task.

    `dots`: products are assembly, and one tile's code is there for all.
    """

    lanes: int
    vectors: int
    rows: int
    each: int
    dots: bool = False

    @property
    def width(self) -> int:
        """Hidden units of a tile."""
        return self.lanes * self.vectors

    def padded(self, hidden: int) -> int:
        """The hidden axis in whole vectors."""
        return ceil_div(hidden, self.lanes) * self.lanes

    def layout(self) -> str:
        """The layout of R: panels [direction][gate][tile] of [hidden][width]."""
        return f"NHWC{self.width}w"


def shape_of(node: Node) -> Shape:
    attrs: Any = full_attrs(node)
    directions, hidden, gates, _ = node.args[1].shape
    steps, batch = node.args[0].shape[:2]
    phases: tuple[tuple[int, ...], ...] = (tuple(range(gates)),)
    if node.op == "Edgec.GRU" and not attrs["linear_before_reset"]:
        phases = ((0, 1), (2,))  # the reset gate comes before the hidden gate's product
    if node.op == "Edgec.LSTM" and attrs["input_forget"]:
        phases = ((0, 1, 3),)
    bits, stored = 8 * dtype(node.args[0].type.dtype).bytes, dtype(node.args[1].type.dtype).bytes
    return Shape(node.op, steps, batch, directions, gates, hidden, phases, bits, stored)


def plans(shape: Shape, target: Target, threads: int) -> Iterator[Plan]:
    """All tiles that fit the registers, without those that would do the same with more."""
    cpu = target.cpu
    lanes = shape.lanes(cpu)
    across = ceil_div(shape.hidden, lanes)
    gates = max(map(len, shape.phases))
    each = ceil_div(shape.batch, min(shape.batch, ceil_div(threads, shape.directions)))
    if has_dots(target) and (shape.bits, shape.stored) == (32, 4):
        for width in sorted({ceil_div(across, ceil_div(across, n)) for n in widths(gates)}):
            yield Plan(1, width, 1, each, dots=True)
        return
    for vectors in sorted({ceil_div(across, ceil_div(across, n)) for n in range(1, max(2, cpu.vector_registers))}):
        for rows in sorted({ceil_div(each, ceil_div(each, n)) for n in range(1, each + 1)}):
            sums = gates * vectors
            if rows * sums + (sums if rows > 1 else 1) + 1 <= cpu.vector_registers or rows == vectors == 1:
                yield Plan(lanes, vectors, rows, each)


def step_us(shape: Shape, plan: Plan, target: Target) -> float:
    """One step of one task."""
    cpu, across = target.cpu, ceil_div(shape.hidden, plan.lanes)
    if plan.dots:
        panels = ceil_div(shape.hidden, plan.width)
        work = panels * sum(cycles(shape.hidden, len(gates), plan.width, target.small) for gates in shape.phases)
        return plan.each * (work + shape.hidden * DOTS_GATES * GATE_CYCLES[shape.op]) / (cpu.ghz * 1e3)
    tiles, work = ceil_div(plan.each, plan.rows), STEP_CYCLES
    for gates in shape.phases:
        for first in range(0, across, plan.vectors):
            vectors = min(plan.vectors, across - first)
            products = shape.hidden * step_cycles(cpu, plan.rows, len(gates) * vectors)
            work += tiles * (products + TILE + plan.rows * vectors * GATE_CYCLES[shape.op] / len(shape.phases))
    return microseconds(cpu, work, _traffic(shape, plan, cpu)) - CALL_US


def _traffic(shape: Shape, plan: Plan, cpu: Cpu) -> Traffic:
    """R once, but for the panels of all gates that the cache still holds of the step before."""
    gates = sum(map(len, shape.phases))
    used = gates * shape.hidden**2 * shape.stored
    panel = gates * shape.hidden * min(plan.width, shape.hidden) * shape.stored
    level, traffic = level_of(cpu, used), Traffic()
    cache = cpu.l1d if level == "near" else cpu.l2
    traffic.add(level, max(0, used - FULL * cache // panel * panel))
    return traffic


def offers(problem: Problem) -> Sequence[Choice]:
    shape, target = shape_of(problem.anchor), problem.target
    found = []
    for plan in plans(shape, target, problem.threads):
        tasks = shape.directions * ceil_div(shape.batch, plan.each)
        sizes = (("lanes", plan.lanes), ("nv", plan.vectors), ("rows", plan.rows), ("each", plan.each))
        config = (*sizes, *((("dots", 1),) if plan.dots else ()))
        weights = problem.anchor.args[1]
        layouts = tuple(plan.layout() if v == weights else "" for v in problem.body.inputs)
        cost = CALL_US + tasks * shape.steps * step_us(shape, plan, target)
        needed = scratch_bytes(scratch(shape, plan))
        found.append(Choice(NAME, layouts, ("",) * len(problem.body.outputs), config, cost, needed))
    return sorted(found, key=lambda c: c.cost_us)[:KEPT]


def scratch(shape: Shape, plan: Plan) -> list[Part]:
    """States, each twice, and what one phase of a GRU leaves to the next: h behind the reset gate, the update gate."""
    kind, size = f"float{shape.bits}", plan.each * plan.padded(shape.hidden)
    parts = [(kind, 2 * size)] * (2 if shape.op == "Edgec.LSTM" else 1)
    return parts + [(kind, size)] * (2 if len(shape.phases) > 1 else 0)


def plan_of(choice: Choice) -> Plan:
    return Plan(
        choice.get("lanes"), choice.get("nv"), choice.get("rows"), choice.get("each"), "dots" in dict(choice.config)
    )


def match(problem: Problem) -> Literal[True] | str:
    return True if prod(problem.anchor.args[0].shape) else "has no steps"


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import Recurrence

    shape, plan = shape_of(problem.anchor), plan_of(choice)
    return emit_plain(problem, symbol, lambda t: Recurrence(t, shape, plan).code(), scratch(shape, plan))


kernel(
    Row(
        NAME,
        frozenset({"Edgec.RNN", "Edgec.GRU", "Edgec.LSTM"}),
        match,
        offers,
        emit,
        "recurrence over time: sums of all gates in registers, states in scratch",
    )
)
