"""attention_f16_mma__cuda, attention_f32_simt__cuda: attention whose scores never leave the registers of a warp.

FlashAttention (Dao et al., 2022): a block takes some queries of one head; keys and values come through shared memory, a
tile at a time, and the softmax is kept up as they come. Where heads and queries are few, several warps share queries
and take different keys of each tile; what they found is put together in shared memory at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Gpu

from ...attention.rows import Shape, reads_operands, shape_of
from ...common import ceil_div
from ..cost import LATENCY_US, memory_us

F16, F32 = "attention_f16_mma__cuda", "attention_f32_simt__cuda"
KEPT = 4
PAD = 16  # bytes between rows of a tile in shared memory: neighbouring rows lie in different banks
MOST_COLUMNS = 128  # columns of V of one block
MOST_D = 256  # numbers of a head: f32


@dataclass(frozen=True)
class Tiles:
    """`wq` x `wk` warps: each has `rows` queries, and `nk` keys of a tile of wk * nk. `stages` tiles are in memory.

    Sizes in words of 32 bits. `d` and `e` are padded; `chunks` blocks share the columns of V.
    """

    half: bool
    shape: Shape
    wq: int
    wk: int
    rows: int
    nk: int

    @property
    def threads(self) -> int:
        return 32 * self.wq * self.wk

    @property
    def queries(self) -> int:
        return self.wq * self.rows

    @property
    def keys(self) -> int:
        return self.wk * self.nk

    @property
    def steps(self) -> int:
        return ceil_div(self.shape.t, self.keys)

    @property
    def stages(self) -> int:
        return min(2, self.steps)

    @property
    def d(self) -> int:
        step = 16 if self.half else 4
        return ceil_div(self.shape.d, step) * step

    @property
    def e(self) -> int:
        """Columns of V of a block."""
        e = ceil_div(self.shape.e, self.chunks)
        step = 16 if self.half else 16 * self.columns_at_once
        return ceil_div(e, step) * step

    @property
    def columns_at_once(self) -> int:
        """f32: columns of V that a thread reads at once."""
        each = ceil_div(self.shape.e, self.chunks)
        return 4 if each > 32 else 2 if each > 16 else 1

    @property
    def chunks(self) -> int:
        return ceil_div(self.shape.e, MOST_COLUMNS)

    def words(self, numbers: int) -> int:
        return numbers // 2 if self.half else numbers

    @property
    def pitch(self) -> int:
        """Words from one row of Q or K to the next."""
        return self.words(self.d) + PAD // 4

    @property
    def value_pitch(self) -> int:
        return self.words(self.e) + PAD // 4

    @property
    def weights(self) -> int:
        """f32: words of the weights that the lanes of the warps show each other."""
        return 0 if self.half else self.wq * self.wk * self.rows * (self.nk + 4)

    @property
    def total_pitch(self) -> int:
        """Words from one query's sums to the next's, where warps put them together."""
        return self.e + 8

    @property
    def shared_words(self) -> int:
        tiles = self.queries * self.pitch + self.stages * self.keys * (self.pitch + self.value_pitch)
        return max(tiles, self.wk * self.queries * self.total_pitch) + self.weights + 3 * self.wk * self.queries

    @property
    def blocks(self) -> int:
        return ceil_div(self.shape.s, self.queries) * self.shape.heads * self.chunks


def fitting(problem: Problem, half: bool) -> Literal[True] | str:
    dtypes = [v.type.dtype for v in problem.body.inputs]
    wanted = "f16" if half else "f32"
    if problem.dtype != wanted or any(d not in ("f32", wanted) for d in dtypes):
        return f"computes {wanted}"
    shape = shape_of(problem)
    if not half and shape.d > MOST_D:
        return f"holds heads of up to {MOST_D} numbers"
    if not candidates(problem, half):
        return "needs more shared memory than a block may have"
    return reads_operands(problem)


def candidates(problem: Problem, half: bool) -> list[Tiles]:
    """Tiles whose shared memory fits."""
    shape, gpu = shape_of(problem), problem.target.gpu
    assert gpu is not None
    found = []
    for wq in (1, 2, 4):
        for wk in (1, 2, 4, 8):
            for rows, nk in ((16, 16), (16, 32), (16, 64)) if half else ((4, 32), (8, 32), (8, 64), (16, 32)):
                tiles = Tiles(half, shape, wq, wk, rows, nk)
                wasted = (wk > 1 and (wk - 1) * nk >= shape.t) or (wq > 1 and (wq - 1) * rows >= shape.s)
                heavy = half and nk == 64 and tiles.e + tiles.d > 192
                if wq * wk <= 8 and not wasted and not heavy and 4 * tiles.shared_words <= gpu.shared_block:
                    found.append(tiles)
    return found


def choices(problem: Problem, half: bool) -> Sequence[Choice]:
    gpu = problem.target.gpu
    assert gpu is not None
    found = sorted(
        ((_us(problem, gpu, t), t) for t in candidates(problem, half)), key=lambda p: (p[0], p[1].threads, p[1].nk)
    )
    read, written = ("",) * len(problem.body.inputs), ("",) * len(problem.body.outputs)
    return [
        Choice(F16 if half else F32, read, written, (("wq", t.wq), ("wk", t.wk), ("rows", t.rows), ("nk", t.nk)), us)
        for us, t in found[:KEPT]
    ]


def _us(problem: Problem, gpu: Gpu, t: Tiles) -> float:
    """Waves of blocks; each the latency of its steps, and its share of a multiprocessor's arithmetic."""
    warps = t.threads // 32
    registers = 64 + (t.d // 4 + t.e // 2 + t.nk // 2 if t.half else t.rows * (t.e // 32 + t.nk // 32 + 2) * 2)
    fit = max(1, min(gpu.shared // (4 * t.shared_words + 1024), gpu.registers // (registers * t.threads), 32))
    per_round = gpu.multiprocessors * fit
    rounds = ceil_div(t.blocks, per_round)
    at_once = ceil_div(t.blocks, gpu.multiprocessors * rounds)  # blocks of a multiprocessor
    queries, keys = t.wq * max(t.rows, 16 if t.half else t.rows), t.steps * t.keys
    macs = queries * keys * (t.d + t.e)
    rate = min(gpu.f16_fma / 4 * min(warps * at_once, 4), gpu.f16_fma * 0.6) if t.half else gpu.f32_fma * 0.5
    if not t.half:
        rate *= min(1.0, warps * at_once / 8) * (0.6 if t.rows < 8 else 0.8 if t.rows < 16 and t.nk < 64 else 1.0)
    softmax = queries * keys * 12 / (gpu.f32_fma / 4 * min(warps * at_once, 4))
    cycles = (macs / rate + softmax) * at_once + t.steps * (600 if t.half else 900) + 600
    compute = rounds * cycles / (gpu.ghz * 1e3)
    copied = t.blocks * (t.queries * t.d + keys * (t.d + t.e)) * (2 if t.half else 4) / (gpu.l2_gbytes * 1e3)
    memory = memory_us(gpu, problem.bytes_moved, t.blocks * t.keys * t.d * 4.0)
    return gpu.launch_us + 2 * LATENCY_US + max(compute, copied, memory)


def tiles_of(problem: Problem, choice: Choice) -> Tiles:
    half = choice.row == F16
    return Tiles(half, shape_of(problem), *(choice.get(key) for key in ("wq", "wk", "rows", "nk")))


def aligned(problem: Problem, name: str, numbers: int, at_once: int) -> bool:
    """Whether rows of `numbers` numbers of an operand are made of aligned stretches of `at_once`."""
    attrs: Any = full_attrs(problem.anchor)
    where = attrs[name] if name != "out" else (0, *attrs["out"])
    outer = where[:-1]
    inner = where[-1] == 1 or numbers == 1
    return inner and numbers % at_once == 0 and all(n % at_once == 0 for n in outer)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .mma import Mma
    from .simt import Simt

    tiles = tiles_of(problem, choice)
    return (Mma if tiles.half else Simt)(problem, tiles).emitted(symbol)


def _row(name: str, half: bool, summary: str) -> Row:
    return Row(
        name,
        frozenset({"Edgec.Attention"}),
        lambda problem: fitting(problem, half),
        lambda problem: choices(problem, half),
        emit,
        summary,
        isa=frozenset({"CUDA"}),
    )


kernel(_row(F16, True, "attention: tensor cores, scores in registers, softmax as keys come"))
kernel(_row(F32, False, "attention: f32, scores in registers, softmax as keys come"))
