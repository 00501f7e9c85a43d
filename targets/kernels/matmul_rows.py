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
from .conv.tiles import TileChoice, divisor, shortest, tile_choices, units
from .cost import QUAD, by_lane, streamed

KEPT = 3
PACKED, DYNAMIC = "matmul_f32_packed", "matmul_f32_dynamic"
PANEL = "pn"  # in the configuration: a unit copies its columns of the right operand
UNPACKED_PENALTY = 1.15  # the right operand is not packed when the model is compiled
CONFLICT_PENALTY = 2.5  # rows that are read together lie in one cache set
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
    cpu, w = problem.target.cpu, geometry(problem, row == PACKED)
    if row == PACKED:
        return _kept(row, problem, w, _tiles(problem, w, together=True))
    apart = CONFLICT_PENALTY if 4 * w.channels_out % CACHE_WAY == 0 else UNPACKED_PENALTY
    found = _kept(row, problem, w, [replace(t, cost_us=t.cost_us * apart) for t in _tiles(problem, w, together=False)])
    if problem.target.small or problem.target.microcontroller:
        return found
    panels = [
        replace(t, cost_us=t.cost_us * UNPACKED_PENALTY + panel_us(cpu, w, t, apart))
        for t in _tiles(problem, w, together=True)
    ]
    return [*found, *_kept(row, problem, w, panels, panel=True)]


def _tiles(problem: Problem, w: Window, together: bool) -> list[TileChoice]:
    """Tiles that read the right operand by columns that lie `together`, a vector's row after row."""
    cpu, after = problem.target.cpu, operations(problem)
    right = in_memory(problem, problem.anchor.args[1])
    stored = dtype(right.type.dtype).bytes
    cold = problem.cold and input_index(problem.body, right) in problem.constants
    held, quads = rows_held(cpu, 4 * w.channels_in), by_lane(cpu) and w.channels_in % QUAD == 0

    def crowded(columns: int) -> float:
        return CONFLICT_PENALTY if columns > held else 1.15 if columns > held - held // 3 else 1.0

    def inner(vectors: int) -> int:
        most = cpu.l1d // 2 // (stored * vectors * cpu.lanes(32))
        return divisor(w.channels_in, most) if together else w.channels_in

    tiles = tile_choices(w, cpu, after, w.channels_in, inner, cold, stored, quads, held=held)
    return [replace(t, cost_us=t.cost_us * crowded(t.columns)) for t in balanced(w, tiles, problem.threads)]


def panel_us(cpu: Cpu, w: Window, t: TileChoice, apart: float) -> float:
    """Copying the right operand, once for each block of rows; `apart`: how much dearer its reading is."""
    batch, tiles, spaces = units(w, t)
    copied = 4.0 * w.channels_in * t.vectors * t.lanes * tiles * batch * spaces
    read = streamed(cpu, 4.0 * w.batch * w.channels_in * w.channels_out)
    cycles = apart * copied / cpu.l2_bytes_per_cycle + read.cycles(cpu) + copied / (4 * t.lanes)
    return cycles / (cpu.ghz * 1e3)


def _kept(row: str, problem: Problem, w: Window, tiles: list[TileChoice], panel: bool = False) -> list[Choice]:
    """The fastest of these tiles; where code is to be small, the one of least code."""
    right = in_memory(problem, problem.anchor.args[1])
    fastest = sorted(tiles, key=lambda t: t.cost_us)[:KEPT]
    found = []
    for t in [shortest(w, tiles, problem.target)] if problem.target.small and tiles else fastest:
        settings, scratch = config(problem, w, t)
        if panel:
            settings, scratch = (*settings, (PANEL, 1)), scratch + 4 * w.channels_in * t.vectors * t.lanes
        layout = f"JK{t.vectors * t.lanes}j" if row == PACKED else ""
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
