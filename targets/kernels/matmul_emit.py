"""TensorIR of matrix products: the tiles of a pointwise convolution with other addresses."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.body import align
from edgec.targets.tir import Expr, Stmt

from .common_emit import Frame, put, vector
from .conv.emit import Conv
from .conv.loops import Pixel, Tap
from .conv.places import Tile
from .conv.rows import tile_of
from .conv.shape import Window
from .conv.tiles import F32
from .cost import QUAD
from .matmul_rows import PANEL


class Packed(Conv):
    """The right operand lies as [J/32][K][32]; all leading axes of the left one are rows."""

    def leading(self) -> tuple[int, ...]:
        return self.problem.anchor.types[0].shape[:-1]

    def view(self, value: Value) -> Type:
        if value == self.x:
            return replace(value.type, shape=(prod(value.shape[:-1]), value.shape[-1]))
        return value.type

    def index(self, n: Expr, c: Expr, h: Expr | int, w: Expr | int) -> tuple[Expr, ...]:
        return (*tir.split(tir.expr(w), *self.leading()), c)

    def weights_at(self, t: Tile, cb: Expr, kh: Expr | int, kw: Expr | int, ci: Expr | int) -> tuple[Expr | int, ...]:
        return t.weights, cb * self.block_in + ci

    def element(self, place: Place, n: Expr, base: Expr, ci: Expr, pixel: Pixel) -> Expr:
        return place.load((pixel.column, base + ci))

    def quad(self, tap: Tap, ci: Expr, pixel: Pixel) -> Expr | None:
        if self.block_in % QUAD or self.x.type.dtype != "f32":
            return None
        return tir.load(tap.frame.places[self.x].buffer, pixel.column, tir.ramp(self.base(tap) + ci, QUAD))


class Dynamic(Conv):
    """Both operands are row-major stacks of matrices; vectors at the end of a row are as wide as what is left.

    With a panel a unit first copies its columns of the right operand to scratch, as [K][32], from element `panel` on:
    behind the sums.
    """

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        super().__init__(problem, choice, w, operands)
        plan = tile_of(choice)
        self.wide = plan.vectors * plan.lanes
        self.panel = choice.scratch_bytes // F32 - w.channels_in * self.wide if dict(choice.config).get(PANEL) else None

    def view(self, value: Value) -> Type:
        return value.type

    def width_of(self, t: Tile, v: int) -> int:
        return t.widths[v] if self.panel is None else super().width_of(t, v)

    def index(self, n: Expr, c: Expr, h: Expr | int, w: Expr | int) -> tuple[Expr, ...]:
        out = self.problem.anchor.types[0].shape
        leading = tir.split(n, *out[:-2]) if len(out) > 2 else ()
        return (*leading, tir.expr(w), c)

    def prepare(self, frame: Frame, whole: Tile) -> Stmt | None:
        if self.panel is None:
            return None

        def one(k: Expr, v: int, true: int) -> Stmt:
            at, lanes = self.in_panel(k, v), self.width_of(whole, v)
            zeros = (
                put(frame.scratch, tir.broadcast(tir.lit(0.0, "float32"), lanes), lanes, at) if lanes > true else None
            )
            return tir.seq(zeros, put(frame.scratch, self.stored_vector(frame, whole, k, v), true, at))

        def row(k: Expr) -> Stmt:
            return tir.seq(one(k, v, true) for v, true in enumerate(whole.widths))

        return tir.loop(self.w.channels_in, row, "row")

    def in_panel(self, k: Expr, v: int) -> Expr:
        """Where scratch holds a vector of row k."""
        assert self.panel is not None
        return k * self.wide + (self.panel + v * self.lanes)

    def stored_vector(self, frame: Frame, t: Tile, k: Expr, v: int) -> Expr:
        """A vector of row k of the right operand, where that lies in memory."""
        place = frame.places[self.weight]
        index = list(align(self.index(t.image, t.channel + v * self.lanes, 0, k), place.type.shape))
        if place.type.shape[-1] > 1:
            index[-1] = tir.ramp(index[-1], t.widths[v])
        return tir.load(place.buffer, *index)

    def weight_vector(self, tap: Tap, ci: Expr, v: int) -> Expr:
        k = tap.cb * self.block_in + ci
        if self.panel is None:
            return self.stored_vector(tap.frame, tap.t, k, v)
        return vector(tap.frame.scratch, self.width_of(tap.t, v), self.in_panel(k, v))

    def fetch(self, tap: Tap, ci: Expr) -> list[Stmt]:
        return []  # the rows of the right operand are short stretches

    def fetch_slice(self, tap: Tap) -> list[Stmt]:
        return []

    def element(self, place: Place, n: Expr, base: Expr, ci: Expr, pixel: Pixel) -> Expr:
        return tir.load(place.buffer, *align(self.index(n, base + ci, pixel.row, pixel.column), place.type.shape))

    def quad(self, tap: Tap, ci: Expr, pixel: Pixel) -> Expr | None:
        place = tap.frame.places[self.x]
        if self.block_in % QUAD or place.type.shape[-1] == 1 or place.type.dtype != "f32":
            return None
        *rows, first = align(self.index(tap.t.image, self.base(tap) + ci, pixel.row, pixel.column), place.type.shape)
        return tir.load(place.buffer, *rows, tir.ramp(first, QUAD))
