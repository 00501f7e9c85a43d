"""The rows of products with weights of few bits: `matmul_few_bits` for few rows, `matmul_few_bits_panel` for many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..common import ceil_div, operations, spread, task_split
from ..cost import (
    LOADS,
    LOOP,
    OVERLAP,
    TILE,
    Traffic,
    by_lane,
    fits_registers,
    level_of,
    microseconds,
    streamed,
    tile_cycles,
)
from ..matmul_rows import rows_held
from .operands import FewBits, few_bits, layouts, match, widening

FEW, PANEL = "matmul_few_bits", "matmul_few_bits_panel"
TILES = ((1, 4), (1, 2), (1, 1), (2, 2), (4, 2), (4, 1), (8, 1))  # rows by vectors of columns
MOST_ROWS = 128  # of x that are multiplied with a panel
PLACE = 16  # elements by which rows of x lie further apart that would displace each other
SLICE = 512  # rows of the weights that are widened at a time, about
SCALED = 3.0  # instructions to scale a vector of sums and start the next


def _operands(problem: Problem) -> FewBits:
    found = few_bits(problem)
    assert isinstance(found, FewBits)
    return found


def few_choices(problem: Problem) -> Sequence[Choice]:
    cpu, found = problem.target.cpu, _operands(problem)
    lanes, offers = cpu.lanes(32), []
    for rows, vectors in _tiles(cpu, found):
        wide = vectors * lanes
        tiles, units = ceil_div(found.rows, rows), ceil_div(found.columns, wide)
        step = _step(cpu, found, rows, vectors)
        ends = found.blocks * (rows * vectors * SCALED / cpu.fma_per_cycle + LOOP)
        tile = found.inner * step + ends + rows * vectors * operations(problem) + TILE
        chunk = _chunk(units, tiles * tile / (cpu.ghz * 1e3), problem.threads)
        tasks = ceil_div(units, chunk)
        prepared = 2.0 * found.rows * found.inner / lanes
        us = microseconds(cpu, units * tiles * tile + tasks * prepared, _traffic(problem, found, units))
        scratch = 4 * found.rows * (found.words * found.steps + _sums(found, lanes))
        settings = (("rows", rows), ("vectors", vectors), ("chunk", chunk))
        us *= spread(tasks, problem.threads)
        offers.append(Choice(FEW, layouts(problem, found, wide), ("",), settings, us, scratch))
    return offers


def _tiles(cpu: Cpu, found: FewBits) -> Iterator[tuple[int, int]]:
    """Tiles that are filled by half at least, and whose sums fit the registers: those of a block, and of one row the
    result's too, which of several rows wait in L1."""
    most = max(2 * cpu.vector_registers // 3, 6)
    for rows, vectors in TILES:
        empty = rows >= 2 * found.rows or (vectors > 1 and (vectors - 1) * cpu.lanes(32) >= found.columns)
        if not empty and rows * vectors * (2 if rows == 1 else 1) + vectors + 1 <= most:
            yield rows, vectors


def _step(cpu: Cpu, found: FewBits, rows: int, vectors: int) -> float:
    """Cycles of one step of the sums of a tile: arithmetic with its widening, elements of x, latency of a chain."""
    loads = rows + vectors / found.steps
    return max(
        _work(cpu, rows * vectors, vectors * widening(cpu, found)),
        loads / (LOADS * cpu.load_per_cycle),
        float(cpu.fma_latency),
    )


def _work(cpu: Cpu, products: float, others: float) -> float:
    """Cycles of multiply-adds and of other instructions: on the same ports, where vectors are multiplied whole. A core
    that multiplies halves computes as many others meanwhile, but not quite for nothing."""
    if not cpu.multiplies_halves:
        return (products + others) / cpu.fma_per_cycle
    return max(products + OVERLAP * others, (products + others) / 2) / cpu.fma_per_cycle


def _sums(found: FewBits, lanes: int) -> int:
    return ceil_div(found.blocks, lanes) * lanes


def _chunk(units: int, us: float, threads: int) -> int:
    """Units of a task: each prepares x for itself, so that one thread has one task."""
    return units if threads == 1 else max(task_split(units, us, threads), units // (8 * threads))


def _traffic(problem: Problem, found: FewBits, turns: int) -> Traffic:
    held = found.bytes
    traffic = streamed(problem.target.cpu, 4.0 * found.rows * (found.inner + found.columns))
    traffic.add("far" if problem.cold else level_of(problem.target.cpu, held), held)
    prepared = 4.0 * found.rows * found.inner
    traffic.add("near", prepared * turns if prepared > problem.target.cpu.l1d else 0.0)
    return traffic


def panel_choices(problem: Problem) -> Sequence[Choice]:
    cpu, found = problem.target.cpu, _operands(problem)
    lanes = cpu.lanes(32)
    vectors = 2 if cpu.vector_registers >= 16 and found.columns > lanes else 1
    most = max(n for n in range(1, 32) if n == 1 or fits_registers(cpu, n, vectors, by_lane(cpu)))
    rows = ceil_div(found.rows, ceil_div(found.rows, most))
    tiles = ceil_div(found.rows, rows)
    tiles = ceil_div(tiles, ceil_div(tiles, max(1, MOST_ROWS // rows)))  # of a block
    blocks = ceil_div(found.rows, rows * tiles)
    wide, each = vectors * lanes, max(1, SLICE // found.block)
    units, steps = ceil_div(found.columns, wide), each * found.block
    widened = _work(cpu, 0.0, found.inner * vectors * (widening(cpu, found) + 4.0))
    turns = ceil_div(found.blocks, each)
    tile = tile_cycles(cpu, rows, vectors, found.inner, steps, 3.0 * turns + operations(problem), 0.0, by_lane(cpu))
    chunk = _chunk(units, (widened + tiles * tile) / (cpu.ghz * 1e3), problem.threads)
    apart = found.inner + PLACE if rows > rows_held(cpu, 4 * found.inner) else 0
    traffic = _traffic(problem, found, units)
    copies = found.rows * found.inner / lanes * ceil_div(units, chunk) if apart else 0.0
    us = microseconds(cpu, units * blocks * (widened + tiles * tile) + copies, traffic)
    us *= spread(blocks * ceil_div(units, chunk), problem.threads)
    settings = (("rows", rows), ("tiles", tiles), ("vectors", vectors), ("blocks", each), ("chunk", chunk))
    held = min(rows * tiles, found.rows)
    scratch = 4 * (wide * (steps + held) + held * apart)
    return [Choice(PANEL, layouts(problem, found, wide), ("",), (*settings, ("apart", apart)), us, scratch)]


def emit_few(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import Few

    return Few(problem, choice, _operands(problem)).emit(symbol)


def emit_panel(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .panel import Panel

    return Panel(problem, choice, _operands(problem)).emit(symbol)


kernel(
    Row(
        FEW,
        frozenset({"MatMul"}),
        match,
        few_choices,
        emit_few,
        "product of few rows with weights of 4 or 8 bits in blocks, which are widened in registers",
    )
)
kernel(
    Row(
        PANEL,
        frozenset({"MatMul"}),
        match,
        panel_choices,
        emit_panel,
        "product of many rows with weights of 4 or 8 bits in blocks, of which a panel at a time is widened",
    )
)
