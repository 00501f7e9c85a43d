"""The rows of f32 matrix products: `matmul_f32_packed` (constant right operand) and `matmul_f32_dynamic`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd, prod
from typing import Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from .common import epilogue_fits, in_memory, input_index, operations, vectors_fit
from .conv.rows import balanced, config
from .conv.shape import Axis, Window
from .conv.tiles import divisor, shortest, tile_choices
from .cost import QUAD, by_lane

KEPT = 3
PACKED, DYNAMIC = "matmul_f32_packed", "matmul_f32_dynamic"
UNPACKED_PENALTY = 1.15  # rows of the right operand lie apart
CONFLICT_PENALTY = 2.5  # ... and all of them in one cache set
CACHE_WAY = 4096  # bytes


def match(problem: Problem, packed: bool = False) -> Literal[True] | str:
    a, b = problem.anchor.args
    if (fit := vectors_fit(problem, a, weights=b) if packed else vectors_fit(problem, a, b)) is not True:
        return fit
    if a == b:
        return "both operands are one value"
    return epilogue_fits(problem)


def match_packed(problem: Problem) -> Literal[True] | str:
    if len(problem.anchor.args[1].shape) != 2:
        return "the right operand is a stack of matrices"
    return match(problem, packed=True)


def geometry(problem: Problem, packed: bool) -> Window:
    """The product as a pointwise convolution: rows are pixels, K input channels, columns output channels."""
    out, inner = problem.anchor.types[0].shape, problem.anchor.args[0].shape[-1]
    rows = prod(out[:-1]) if packed else out[-2]
    batch = 1 if packed else prod(out[:-2])
    return Window(batch, inner, out[-1], Axis(1, 1), Axis(rows, rows))


def rows_held(cpu: Cpu, stride: int) -> int:
    """How many rows of the left operand, `stride` bytes apart, have a line each in the L1 cache at once."""
    return CACHE_WAY // gcd(stride, CACHE_WAY) * max(1, cpu.l1d // CACHE_WAY)


def choices(row: str, problem: Problem) -> Sequence[Choice]:
    cpu, packed = problem.target.cpu, row == PACKED
    lanes, w = cpu.lanes(32), geometry(problem, packed)
    right = in_memory(problem, problem.anchor.args[1])
    stored = dtype(right.type.dtype).bytes
    after = operations(problem)
    cold = problem.cold and input_index(problem.body, right) in problem.constants
    held, quads = rows_held(cpu, 4 * w.channels_in), by_lane(cpu) and w.channels_in % QUAD == 0
    unpacked = CONFLICT_PENALTY if 4 * w.channels_out % CACHE_WAY == 0 else UNPACKED_PENALTY

    def us(tile_us: float, columns: int) -> float:
        crowded = CONFLICT_PENALTY if columns > held else 1.15 if columns > held - held // 3 else 1.0
        return tile_us * (1.0 if packed else unpacked) * crowded

    def inner(vectors: int) -> int:
        return divisor(w.channels_in, cpu.l1d // 2 // (stored * vectors * lanes)) if packed else w.channels_in

    tiles = [
        replace(t, cost_us=us(t.cost_us, t.columns))
        for t in balanced(
            w, tile_choices(w, cpu, after, w.channels_in, inner, cold, stored, quads, held=held), problem.threads
        )
    ]
    fastest = sorted(tiles, key=lambda t: t.cost_us)[:KEPT]
    found = []
    for t in [shortest(w, tiles, problem.target)] if problem.target.small and tiles else fastest:
        settings, scratch = config(problem, w, t)
        layout = f"JK{t.vectors * t.lanes}j" if packed else ""
        layouts = tuple(layout if v == right else "" for v in problem.body.inputs)
        found.append(Choice(row, layouts, ("",), settings, t.cost_us, scratch))
    return found


def emit_packed(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv.units import emit_units
    from .matmul_emit import Packed

    a, b = problem.anchor.args
    operands = a, in_memory(problem, b), None
    return emit_units(Packed(problem, choice, geometry(problem, True), operands), problem, choice, symbol)


def emit_dynamic(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv.units import emit_units
    from .matmul_emit import Dynamic

    a, b = problem.anchor.args
    return emit_units(Dynamic(problem, choice, geometry(problem, False), (a, b, None)), problem, choice, symbol)


kernel(
    Row(
        PACKED,
        frozenset({"MatMul"}),
        match_packed,
        lambda p: choices(PACKED, p),
        emit_packed,
        "matrix product with a packed right operand: register tiles of rows x column vectors",
    )
)
kernel(
    Row(
        DYNAMIC,
        frozenset({"MatMul"}),
        match,
        lambda p: choices(DYNAMIC, p),
        emit_dynamic,
        "matrix product of two row-major operands, any leading axes",
    )
)
