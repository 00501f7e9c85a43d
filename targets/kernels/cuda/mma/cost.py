"""How long a product takes on tensor cores with a tile, and which tiles are worth an offer.

A multiprocessor runs several blocks at a time. A stage of K lasts as long as the scarcest of: tensor cores, shared
memory, the way from the L2 cache, issue of instructions, or what some stages in flight leave of a load's latency.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import prod

from edgec.compiler.dtypes import dtype
from edgec.compiler.registry import Problem
from edgec.compiler.target import Gpu

from ...common import after_anchor, ceil_div, instructions
from .shape import CHUNK, F16, LEAST, STEP, TF32, VECTOR, Product, Tile, fitted, grid_of

KEPT = 4  # that differ in more than their stages
REACHED = 0.65  # of the tensor cores' rate
LATENCY = 700.0  # cycles from a load to its data in shared memory, from the L2 cache
START = 850.0  # cycles of a block before its first load, and after its last sum
ARRIVE = 2100.0  # cycles until the last of several blocks knows that it is
LINE = 64.0  # bytes that a multiprocessor takes per cycle at most
SHARED = 128.0  # bytes of shared memory per cycle
ISSUE = 1.7  # instructions per cycle, of four
COPY = 19.0  # instructions to bring a chunk of 16 bytes
STEP_CYCLES, PRODUCT_CYCLES, STAGE_CYCLES = 30.0, 7.0, 110.0  # that a warp waits: per step, per product in it, barrier
GATHER = 110.0  # cycles of a stage to find out where pixels lie
WRITE = 135.0  # cycles of a vector of results that others do not hide
MEET = 28.0  # bytes per cycle in which the last block reads the sums of the others
OVERHEAD = 1024  # bytes of shared memory that each block takes beside its own
SHAPES = (  # rows, columns, warps along both, warps that share K's steps
    (256, 128, 4, 2, 1),
    (128, 256, 2, 4, 1),
    (128, 128, 2, 4, 1),
    (128, 128, 2, 2, 1),
    (256, 64, 4, 2, 1),
    (128, 64, 2, 2, 1),
    (128, 64, 4, 2, 1),
    (64, 128, 2, 2, 1),
    (64, 128, 2, 4, 1),
    (64, 64, 2, 2, 1),
    (64, 64, 2, 2, 2),
    (128, 32, 4, 1, 1),
    (32, 128, 1, 4, 1),
    (64, 32, 2, 1, 2),
    (32, 64, 1, 2, 2),
    (32, 32, 1, 1, 4),
    (64, 16, 2, 1, 2),
    (16, 128, 1, 4, 1),
    (16, 64, 1, 2, 2),
    (16, 32, 1, 1, 4),
)
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class Use:
    """What surrounds the product: instructions per result after it, bytes of its tensors that come from memory."""

    after: float
    from_memory: float


def best(problem: Problem, p: Product) -> list[tuple[Tile, float]]:
    """The tiles worth an offer, and their time in microseconds, the cheapest first."""
    gpu = problem.target.gpu
    assert gpu is not None
    return list(_best(p, gpu, _use(problem, gpu)))


@cache
def _best(p: Product, gpu: Gpu, use: Use) -> tuple[tuple[Tile, float], ...]:
    timed = sorted(((t, us(p, t, gpu, use)) for t in tiles(p, gpu)), key=lambda item: item[1])
    kept: dict[tuple[int, ...], tuple[Tile, float]] = {}
    for t, time in timed:
        kept.setdefault((t.bm, t.bn, t.wk, t.split), (t, time))
    return tuple(list(kept.values())[:KEPT])


def _use(problem: Problem, gpu: Gpu) -> Use:
    body = problem.body
    sizes = {v: prod(v.shape) * dtype(v.type.dtype).bytes for v in (*body.inputs, *body.outputs)}
    constant = {body.inputs[i] for i in problem.constants}
    whole = sum(sizes.values()) > gpu.l2 / 2
    cold = sum(n for v, n in sizes.items() if whole or (v in constant and problem.cold))
    return Use(6.0 + 2 * instructions(after_anchor(problem)), cold)


def tiles(p: Product, gpu: Gpu) -> Iterator[Tile]:
    """All that fit the device and waste less than half of a block."""
    seen = set()
    for bm, bn, wm, wn, wk in SHAPES:
        if (bm > 32 and bm >= 2 * p.m) or (bn > 32 and bn >= 2 * p.n):
            continue
        for bk in (64, 128):
            if wk > bk // STEP or (p.across and bk // p.kind.bytes % 16) or not _dealt(p, bm, bn, bk, wm * wn * wk):
                continue
            for stages in (3, 4, 5):
                for split in SPLITS:
                    t = fitted(p, Tile(bm, bn, bk, wm, wn, wk, stages, split))
                    few = grid_of(p, t).each < 2 and split > 1
                    if t in seen or few or t.shared > gpu.shared_block or _registers(t) > 255:
                        continue
                    seen.add(t)
                    yield t


def _dealt(p: Product, bm: int, bn: int, bk: int, warps: int) -> bool:
    """Whether a row's chunks are dealt evenly."""
    across = bn * p.kind.bytes // CHUNK
    return 32 * warps % (bk // CHUNK) == 0 and (not p.across or 32 * warps % across == 0)


def _registers(t: Tile) -> int:
    """Sums, fragments of two steps, addresses."""
    return 32 + 12 * t.row_tiles + 4 * t.column_tiles + 4 * t.row_tiles * t.column_tiles


def resident(t: Tile, gpu: Gpu) -> int:
    """Blocks of a multiprocessor at a time."""
    by_registers = gpu.registers // (t.threads * -(-_registers(t) // 8) * 8)
    return max(1, min(gpu.threads // t.threads, gpu.shared // (t.shared + OVERHEAD), by_registers))


def us(p: Product, t: Tile, gpu: Gpu, use: Use) -> float:
    """Time of the whole kernel."""
    grid = grid_of(p, t)
    blocks = grid.tiles * p.batch * t.split
    together = min(resident(t, gpu), ceil_div(blocks, gpu.multiprocessors))
    waves, rest = divmod(blocks, gpu.multiprocessors * together)
    cycles = waves * _wave(p, t, gpu, use, gpu.multiprocessors * together)
    if rest:
        cycles += _wave(p, t, gpu, use, rest)
    memory = use.from_memory / (gpu.ram_gbytes * 1e3)
    return gpu.launch_us + max(cycles / (gpu.ghz * 1e3), memory) + 0.25 * memory


def _wave(p: Product, t: Tile, gpu: Gpu, use: Use, blocks: int) -> float:
    """Cycles of so many blocks at a time on the whole device."""
    together = ceil_div(blocks, gpu.multiprocessors)
    shared_out = blocks * gpu.ghz / gpu.l2_gbytes  # cycles for a byte of each block from the L2 cache
    rate = {F16.bytes: gpu.f16_fma, TF32.bytes: gpu.tf32_fma, 1: gpu.int8_fma}[p.kind.bytes] * REACHED
    warps, elements, steps = t.threads // 32, t.bk // p.kind.bytes, t.bk // STEP // t.wk
    fragments = warps * steps * (t.row_tiles * 16 + t.column_tiles * 8) * STEP
    piece = min(p.left, p.right)
    accesses = CHUNK / piece if piece >= LEAST else CHUNK / p.kind.bytes
    issued = t.stage_bytes / CHUNK / t.threads * COPY * accesses + 25
    issued += steps * (t.row_tiles * (1 + t.column_tiles) + t.column_tiles / 2)
    busy = max(t.bm * t.bn * elements / rate, (fragments + t.stage_bytes) / SHARED, issued * warps / ISSUE)
    near = t.stage_bytes * max(together / LINE, shared_out)
    chain = STAGE_CYCLES + (GATHER if p.window else 0.0)
    chain += steps * (STEP_CYCLES + PRODUCT_CYCLES * t.row_tiles * t.column_tiles * max(1.0, warps / 4))
    wait = max(LATENCY / (t.stages - 1) if piece >= LEAST else LATENCY, chain)
    stage = max(together * busy, near, wait)
    vectors = t.bm * t.bn / VECTOR / t.threads
    finish = t.bm * t.bn * (use.after / 128 + 8 / SHARED) * together + WRITE * vectors
    if t.split > 1:
        part = 4.0 * t.bm * t.bn
        finish += ARRIVE + part * max(together / LINE, shared_out) + part * t.split / MEET + WRITE * vectors
    return START + LATENCY + stage * grid_of(p, t).each + finish
