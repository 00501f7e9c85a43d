"""The tiles of f32 products on plain multiply-add units: how blocks, warps and threads share a matrix of results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgec.compiler.registry import Choice
from edgec.compiler.target import Gpu

from ...common import ceil_div

PAD = 4  # floats after a row of the left operand in shared memory: rows then begin in different banks
STEP = 16  # of the reduction per stage
SHAPES = (  # rows and columns of a block, then of a thread
    (128, 128, 8, 8),
    (128, 64, 8, 8),
    (64, 128, 8, 8),
    (128, 32, 8, 4),
    (64, 64, 8, 4),
    (32, 64, 4, 4),
    (64, 32, 4, 4),
    (32, 32, 4, 4),
    (16, 64, 4, 4),
    (16, 32, 4, 4),
)
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
FEWEST_STEPS = 4  # of a part of a split reduction


@dataclass(frozen=True)
class Tile:
    """`rows` x `columns` results per block, `height` x `width` per thread; a warp is 4 x 8 threads.

    The reduction goes in steps of `step` through `stages` buffers, and is cut into `split` parts, one block each.
    """

    rows: int
    columns: int
    height: int
    width: int
    step: int = STEP
    stages: int = 3
    split: int = 1

    @property
    def threads(self) -> int:
        return self.rows * self.columns // (self.height * self.width)

    @property
    def warp_columns(self) -> int:
        """Warps side by side in a block."""
        return self.columns // (8 * self.width)

    @property
    def left(self) -> int:
        """Floats of the left operand in one stage."""
        return self.rows * (self.step + PAD)

    @property
    def stage(self) -> int:
        """Floats of one stage."""
        return self.left + self.step * self.columns

    @property
    def shared(self) -> int:
        """Bytes."""
        return 4 * self.stage * self.stages

    @property
    def registers(self) -> int:
        """Of a thread, about."""
        return self.height * self.width + 4 * self.height + 2 * self.width + 44


@dataclass(frozen=True)
class Product:
    """What is to be computed: `batch` products of rows x depth by depth x columns."""

    batch: int
    rows: int
    columns: int
    depth: int

    def blocks(self, tile: Tile) -> tuple[int, int]:
        return ceil_div(self.rows, tile.rows), ceil_div(self.columns, tile.columns)

    def steps(self, tile: Tile) -> int:
        """Of one part of the reduction; the last part may have fewer."""
        return ceil_div(ceil_div(self.depth, tile.step), tile.split)

    def parts(self, tile: Tile) -> int:
        """Parts that have something to do."""
        return ceil_div(ceil_div(self.depth, tile.step), self.steps(tile))

    def counters(self, tile: Tile) -> int:
        """One per tile of results where the reduction is cut."""
        down, across = self.blocks(tile)
        return self.batch * down * across if tile.split > 1 else 0

    def scratch(self, tile: Tile) -> int:
        """Bytes of all partial results."""
        return 4 * self.counters(tile) * tile.split * tile.rows * tile.columns


def tiles(product: Product, gpu: Gpu) -> Iterator[Tile]:
    """Tiles that the device can run and that are not mostly empty."""
    for rows, columns, height, width in SHAPES:
        if (rows > 16 and rows >= 4 * product.rows) or (columns > 32 and columns >= 2 * product.columns + 32):
            continue
        for split in SPLITS:
            tile = Tile(rows, columns, height, width, split=split)
            if split > 1 and (product.parts(tile) != split or product.steps(tile) < FEWEST_STEPS):
                continue
            if tile.shared <= gpu.shared_block:
                yield tile


def settings(product: Product, tile: Tile) -> tuple[tuple[str, int], ...]:
    """A tile as a row's configuration."""
    config = {"bm": tile.rows, "bn": tile.columns, "tm": tile.height, "tn": tile.width, "split": tile.split}
    if zeros := product.counters(tile):
        config["zeros"] = zeros
    return tuple(config.items())


def tile_of(choice: Choice) -> Tile:
    """The tile behind a configuration."""
    bm, bn, tm, tn, split = (choice.get(key) for key in ("bm", "bn", "tm", "tn", "split"))
    return Tile(bm, bn, tm, tn, split=split)
