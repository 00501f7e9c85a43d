"""What all parts of a product's kernel know: its block, its tile, and the places of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.compiler.ir import Node
from edgec.targets import tir
from edgec.targets.cuda.block import Block
from edgec.targets.tir import Buffer, Expr

from .shape import Grid, Product, Tile


@dataclass(frozen=True)
class Work:
    """One block of a product."""

    block: Block
    anchor: Node
    product: Product
    tile: Tile
    grid: Grid
    shared: Buffer
    row: Expr  # of the block's first result
    column: Expr
    batch: Expr  # number of the product
    part: Expr  # which of the blocks that share K
    number: Expr  # of the tile, in all products

    @property
    def thread(self) -> Expr:
        return self.block.thread

    @property
    def lane(self) -> Expr:
        return self.thread & tir.i32(31)

    def warp(self) -> Any:
        """Place of the warp: which share of K's steps, rows, columns."""
        t = self.tile
        return tuple(tir.split(self.thread >> tir.i32(5), t.wk, t.wm, t.wn))
