"""The rows of f32 products by sparse matrices whose zeros follow no pattern: pixels in lanes, one weight at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from edgec.compiler.ir import Array, Value
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.sparse import SparseForm, fits, sparse_form
from edgec.compiler.target import Cpu

from ..common import blocked_layout, ceil_div, epilogue_fits, layouts_in, operations, spread, vectors_fit
from ..conv.rows import flattens
from ..conv.shape import Window, conv_operands, conv_window, geometry
from ..cost import ISSUE, SLACK, TILE, Traffic, level_of, microseconds
from ..matmul_rows import geometry as product

CONV, MATMUL = "conv_f32_sparse", "matmul_f32_sparse"
KEPT = 2
ROW = 8.0  # cycles to begin and end the sum of an output channel
UNFORESEEN = 10.0  # ... and more the first time: how many weights it has is not known before
AHEAD = 400  # instructions that a core looks ahead, so that short sums overlap
TURN = 2.5  # cycles per vector that is turned
KEEPS = 0.75  # of the L1 cache holds inputs while weights and sums go by
LOADS = 0.9  # of the rate of loads, most of which are of vectors side by side
PART = 4  # numbers that are turned together
ABREAST = (1, 2)
MOST_VECTORS = 8  # of pixels: more leave the L1 cache no room
SLICES = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Plan:
    """`vectors` of pixels by `abreast` weights at a time; `slice` input channels after the other; output channels in
    `parts` tasks."""

    vectors: int
    abreast: int
    slice: int
    parts: int

    def passes(self, w: Window) -> int:
        return ceil_div(w.channels_in, self.slice)


def weights_of(problem: Problem, operand: Value) -> Array | str:
    """The zeros and other numbers of the anchor's weights, or why they cannot be left out."""
    array = problem.zeros(operand)
    if array is None:
        return "needs constant weights with many zeros"
    letters = letters_of(problem)
    return array if fits(array.shape, letters) else "needs a matrix of weights"


def letters_of(problem: Problem) -> str:
    """The axes of the weights."""
    if problem.anchor.op in ("MatMul", "Edgec.MatMulInteger"):
        return "KJ"
    return "OIHW" if len(problem.anchor.types[0].shape) == 4 else "OIW"


def match(problem: Problem) -> Literal[True] | str:
    anchor = problem.anchor
    x, weight = anchor.args[:2]
    if (fit := vectors_fit(problem, x, weight)) is not True:
        return fit
    if problem.target.cpu.lanes(32) % PART:
        return f"needs vectors of a multiple of {PART} numbers"
    if len(weight.shape) != (2 if anchor.op == "MatMul" else 4):
        return "needs a matrix of weights"
    if isinstance(found := weights_of(problem, weight), str):
        return found
    if anchor.op == "Conv":
        shape = conv_window(anchor)
        if isinstance(shape, str):
            return shape
        if shape.group > 1 or not flattens(problem):
            return "needs a 1x1 window of stride 1 whose operands have whole images"
    return epilogue_fits(problem)


def window_of(problem: Problem) -> Window:
    return product(problem, packed=True) if problem.anchor.op == "MatMul" else geometry(problem).flat()


def choices(row: str, problem: Problem) -> Sequence[Choice]:
    cpu, w = problem.target.cpu, window_of(problem)
    weight = problem.anchor.args[1]
    array = problem.zeros(weight)
    assert array is not None
    lanes = cpu.lanes(32)
    planar = [""] if row == MATMUL else [blocked_layout(4, lanes), ""]

    @cache
    def packed(part: int, pad: int) -> SparseForm:
        return sparse_form(array, letters_of(problem), 1, 1, part, pad)

    found = []
    for x in planar:
        for out in planar:
            turns = 2 if row == MATMUL else (x != "") + (out != "")
            costs = [
                (cost(w, cpu, plan, packed(plan.slice, plan.abreast), turns, operations(problem), problem.cold), plan)
                for plan in plans(w, cpu, problem.threads)
            ]
            for us, plan in sorted(costs, key=lambda c: c[0])[:KEPT]:
                fixed = {problem.anchor.args[0]: x, weight: str(packed(plan.slice, plan.abreast))}
                layouts = layouts_in(problem, fixed, out)
                if row == MATMUL:
                    layouts = tuple(fixed.get(v, "") for v in problem.body.inputs)
                config = (
                    ("pv", plan.vectors),
                    ("pb", plan.abreast),
                    ("ks", plan.slice),
                    ("vl", lanes),
                    ("parts", plan.parts),
                )
                us *= spread(w.batch * ceil_div(w.width.out, plan.vectors * lanes) * plan.parts, problem.threads)
                found.append(Choice(row, layouts, (out,), config, us, scratch_bytes(w, lanes, plan)))
    return found


def scratch_bytes(w: Window, lanes: int, plan: Plan) -> int:
    """A slice of inputs, and sums of a block of channels or of all, of a block of pixels."""
    inputs = ceil_div(min(plan.slice, w.channels_in), lanes)
    outputs = ceil_div(w.channels_out, lanes) if plan.passes(w) > 1 else 1
    return 4 * plan.vectors * lanes * (inputs + outputs) * lanes


def plans(w: Window, cpu: Cpu, threads: int) -> Iterator[Plan]:
    lanes = cpu.lanes(32)
    total = ceil_div(w.width.out, lanes)
    for abreast in ABREAST:
        for vectors in range(1, min(total, MOST_VECTORS, (cpu.vector_registers - 4) // abreast) + 1):
            if vectors < total and (ceil_div(total, vectors) == ceil_div(total, vectors + 1)):
                continue  # as many blocks of fewer pixels
            blocks = w.batch * ceil_div(w.width.out, vectors * lanes)
            outputs = ceil_div(w.channels_out, lanes)
            parts = min(outputs, ceil_div(2 * threads, blocks)) if threads > 1 else 1
            parts = ceil_div(outputs, ceil_div(outputs, parts))  # none is empty
            for slices in SLICES:
                if slices == 1 or w.channels_in // slices >= 2 * lanes:
                    yield Plan(vectors, abreast, ceil_div(ceil_div(w.channels_in, slices), lanes) * lanes, parts)


def cost(w: Window, cpu: Cpu, plan: Plan, stored: SparseForm, turns: int, after: float, cold: bool) -> float:
    """Modelled time in us; `turns`: how many of input and output are turned."""
    lanes = cpu.lanes(32)
    line, passes = 4.0 * lanes, plan.passes(w)
    total = ceil_div(w.width.out, lanes)
    whole, rest = divmod(total, plan.vectors)
    units = [(v, n * w.batch) for v, n in ((plan.vectors, whole), (rest, 1)) if v and n]
    inputs, outputs = ceil_div(w.channels_in, lanes), ceil_div(w.channels_out, lanes)
    slice_bytes = (min(plan.slice, w.channels_in) + lanes) * plan.vectors * line
    each = stored.count / (w.channels_out * passes)  # weights of a sum
    cycles, moved = 0.0, Traffic()
    for v, count in units:
        rows = w.channels_out * passes * (ROW + UNFORESEEN / sum(n for _, n in units) + 2 * v)
        squares = v * (inputs * plan.parts * (TURN if turns else 1.0) + outputs * (TURN if turns else 1.0)) * lanes
        ends = v * outputs * lanes * (1.0 + after) / cpu.fma_per_cycle
        cycles += count * (stored.count * step_cycles(cpu, v, plan.abreast, each) + rows + squares + ends + TILE)
        far = max(0.0, 1.0 - KEEPS * cpu.l1d / slice_bytes)
        moved.near += count * stored.count * v * line * far
        if passes > 1 and w.channels_out * v * line > cpu.l1d // 2:
            moved.near += count * 2 * passes * w.channels_out * v * line
    data, out = (4.0 * w.batch * lanes * n * w.width.out for n in (inputs, outputs))
    weights = 6.0 * stored.count
    if 2 * slice_bytes > cpu.l1d:  # what is laid into scratch pushes out what was there, and that has to be read first
        moved.near += 2 * data * plan.parts
    moved.add("far" if cold else level_of(cpu, weights + data + out), weights)
    moved.add(level_of(cpu, weights), weights * (sum(n for _, n in units) - 1))
    moved.add(level_of(cpu, data + out), out)
    read = Traffic()  # while nothing is computed
    read.add(level_of(cpu, data + out), data * plan.parts)
    return microseconds(cpu, cycles + read.cycles(cpu), moved)


def step_cycles(cpu: Cpu, vectors: int, abreast: int, each: float) -> float:
    """One of `each` weights of a sum: it and its place are read, and each vector of pixels, which x86 does while it
    multiplies."""
    overlap = max(1.0, AHEAD / (each * (vectors + 4) + 1))
    return max(
        vectors / cpu.fma_per_cycle,
        (vectors + 2) / (LOADS * cpu.load_per_cycle),
        SLACK * cpu.fma_latency / (abreast * overlap),
        (2 * vectors + 4) / (2 * cpu.fma_per_cycle + ISSUE),
    )


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import Sparse

    x, weight, bias = conv_operands(problem.anchor)
    return Sparse(problem, choice, window_of(problem), (x, weight, bias)).emit(symbol)


kernel(
    Row(
        CONV,
        frozenset({"Conv"}),
        match,
        lambda p: choices(CONV, p),
        emit,
        "1x1 convolution by a constant with many zeros: pixels in lanes, the weights that are none one by one",
    )
)
kernel(
    Row(
        MATMUL,
        frozenset({"MatMul"}),
        match,
        lambda p: choices(MATMUL, p),
        emit,
        "matrix product by a constant with many zeros: rows in lanes, the weights that are none one by one",
    )
)
