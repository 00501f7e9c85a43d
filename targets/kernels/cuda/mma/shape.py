"""The numbers of a product on tensor cores: what is multiplied, and how it is cut into blocks, warps and stages.

A convolution is a product too: rows are output pixels, columns output channels, and K runs over taps and input
channels. All of K is counted in bytes: 32 of them are one step of a warp, 16 one access, whatever the element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Problem

from ...common import ceil_div, input_index, power_of_two
from ...conv.shape import Axis, Window

CHUNK = 16  # bytes of one access
LEAST = 4  # bytes of an asynchronous copy
STEP = 32  # bytes of K of one instruction: 16 x f16, 32 x int8, 8 x tf32
ROWS, COLUMNS = 16, 8  # of one instruction
VECTOR = 8  # columns that a thread finishes together
MASK_BITS = 31  # rows plus columns of taps
MOST = 1 << 31  # elements that indices of 32 bits reach


@dataclass(frozen=True)
class Kind:
    """What is multiplied: bytes of an element, the function of the prelude, the type of sums."""

    bytes: int
    mma: str
    sums: str


F16 = Kind(2, "ec_mma_f16", "float32")
TF32 = Kind(4, "ec_mma_tf32", "float32")
S8 = Kind(1, "ec_mma_s8", "int32")
U8S8 = Kind(1, "ec_mma_u8s8", "int32")
KINDS = {("f16", "f16"): F16, ("f32", "f32"): TF32, ("i8", "i8"): S8, ("u8", "i8"): U8S8}
ROW_KINDS = {"f16": "f16", "f32": "tf32", "i8": "int8", "u8": "int8"}  # by the left operand's type


@dataclass(frozen=True)
class Product:
    """`batch` products of m x k by k x n.

    `window`: the left operand is gathered through it, `channels` of K per tap, of which the last `spare` are not there.
    `left`, `right`: bytes of the operand that lie side by side and aligned, up to 16. `across`: the right one
    lies as [k][n], else [n][k]. `spread`: elements from one product's operand to the next one's, left and right; 0
    where all share it. `zero`: zero point of the left operand.
    """

    kind: Kind
    m: int
    n: int
    k: int
    batch: int = 1
    window: Window | None = None
    channels: int = 0
    spare: int = 0
    left: int = CHUNK
    right: int = CHUNK
    across: bool = False
    spread: tuple[int, int] = (0, 0)
    zero: int = 0

    @property
    def macs(self) -> int:
        return self.batch * self.m * self.n * self.k

    @property
    def fours(self) -> bool:
        """Whether a pixel's channels, and nothing that means anything after them, are one piece."""
        return self.spare > 0 and self.left == self.channels * self.kind.bytes == 8


@dataclass(frozen=True)
class Tile:
    """`bm` x `bn` results of a block, `bk` bytes of K per stage; `wm` x `wn` warps, times `wk` that share K's steps;
    `stages` in shared memory; `split` blocks share K."""

    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    wk: int = 1
    stages: int = 3
    split: int = 1

    @property
    def threads(self) -> int:
        return 32 * self.wm * self.wn * self.wk

    @property
    def row_tiles(self) -> int:
        """Instructions along the rows of a warp."""
        return self.bm // self.wm // ROWS

    @property
    def column_tiles(self) -> int:
        return self.bn // self.wn // COLUMNS

    @property
    def left_bytes(self) -> int:
        """Of one stage."""
        return self.bm * self.bk

    @property
    def stage_bytes(self) -> int:
        return (self.bm + self.bn) * self.bk

    @property
    def pitch(self) -> int:
        """Bytes of a row of sums in shared memory: banks of neighbouring rows differ."""
        return 4 * (self.bn + 8)

    @property
    def shared(self) -> int:
        return max(self.stages * self.stage_bytes, self.bm * self.pitch)

    def config(self) -> tuple[tuple[str, int], ...]:
        names = ("bm", "bn", "bk", "wm", "wn", "wk", "stages", "split")
        return tuple((name, getattr(self, name)) for name in names)


def tile_of(choice: Choice) -> Tile:
    """The tile behind a configuration."""
    settings: Mapping[str, int] = dict(choice.config)
    return Tile(*(settings[name] for name in ("bm", "bn", "bk", "wm", "wn", "wk", "stages", "split")))


@dataclass(frozen=True)
class Grid:
    """A product in tiles: blocks along rows and columns, and stages of K per block."""

    rows: int
    columns: int
    steps: int
    each: int

    @property
    def tiles(self) -> int:
        return self.rows * self.columns


def piece(row_bytes: int) -> int:
    """Bytes that can be copied together from rows of so many."""
    return power_of_two(CHUNK, row_bytes)


def kind_of(left: Value, right: Value) -> Kind:
    return KINDS[left.type.dtype, right.type.dtype]


def operands_fit(problem: Problem, left: Value, right: Value, kind: str) -> Literal[True] | str:
    """Whether the operands are of the types of a row (`f16`, `int8`, `tf32`), and read as they lie."""
    gpu = problem.target.gpu
    if gpu is None:
        return "needs a GPU"
    types = left.type.dtype, right.type.dtype
    if types not in KINDS or ROW_KINDS[types[0]] != kind:
        return f"computes {kind}"
    if kind == "tf32" and not gpu.allow_tf32:
        return "rounds f32 to tf32, which the target does not allow"
    if any(input_index(problem.body, v) < 0 for v in (left, right)) or left == right:
        return "reads an operand through a computation"
    if any(v.type.size >= MOST for v in (*problem.body.inputs, *problem.body.outputs)):
        return "has tensors of 2**31 elements"
    return True


def inside(axis: Axis) -> bool:
    """Whether no window reaches beyond the axis."""
    return axis.inside(0, 0) and axis.inside(axis.out - 1, axis.kernel - 1)


def grid_of(p: Product, t: Tile) -> Grid:
    steps = ceil_div(p.k * p.kind.bytes, t.bk)
    return Grid(ceil_div(p.m, t.bm), ceil_div(p.n, t.bn), steps, ceil_div(steps, t.split))


def fitted(p: Product, t: Tile) -> Tile:
    """The tile with as many blocks along K as have something to do."""
    g = grid_of(p, t)
    return replace(t, split=ceil_div(g.steps, g.each))


def scratch_bytes(p: Product, t: Tile) -> int:
    """The sums of all blocks, where several share K."""
    return 4 * p.batch * grid_of(p, t).tiles * t.split * t.bm * t.bn if t.split > 1 else 0


def counters(p: Product, t: Tile) -> int:
    return p.batch * grid_of(p, t).tiles if t.split > 1 else 0


def choice_of(row: str, p: Product, t: Tile, layouts: tuple[str, ...], out: str, cost_us: float) -> Choice:
    """A tile as a row offers it."""
    t = fitted(p, t)
    config = (*t.config(), ("across", int(p.across)), ("zeros", counters(p, t)))
    return Choice(row, layouts, (out,), config, cost_us, scratch_bytes(p, t))
