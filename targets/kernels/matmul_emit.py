"""TensorIR of matrix products: the tiles of a pointwise convolution with other addresses."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from edgec.compiler.ir import Type, Value
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.body import align
from edgec.targets.tir import Expr, Stmt

from .conv.emit import Conv
from .conv.loops import Pixel, Tap
from .conv.places import Tile
from .cost import QUAD


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
    """Both operands are row-major stacks of matrices; vectors at the end of a row are as wide as what is left."""

    def view(self, value: Value) -> Type:
        return value.type

    def width_of(self, t: Tile, v: int) -> int:
        return t.widths[v]

    def index(self, n: Expr, c: Expr, h: Expr | int, w: Expr | int) -> tuple[Expr, ...]:
        out = self.problem.anchor.types[0].shape
        leading = tir.split(n, *out[:-2]) if len(out) > 2 else ()
        return (*leading, tir.expr(w), c)

    def weight_vector(self, tap: Tap, ci: Expr, v: int) -> Expr:
        t, place = tap.t, tap.frame.places[self.weight]
        index = list(align(self.index(t.image, t.channel + v * self.lanes, 0, ci), place.type.shape))
        if place.type.shape[-1] > 1:
            index[-1] = tir.ramp(index[-1], t.widths[v])
        return tir.load(place.buffer, *index)

    def fetch(self, tap: Tap, ci: Expr) -> list[Stmt]:
        return []  # the rows of the right operand are short stretches

    def fetch_slice(self, tap: Tap) -> list[Stmt]:
        return []

    def element(self, place: Place, n: Expr, base: Expr, ci: Expr, pixel: Pixel) -> Expr:
        return tir.load(place.buffer, *align(self.index(n, ci, pixel.row, pixel.column), place.type.shape))

    def quad(self, tap: Tap, ci: Expr, pixel: Pixel) -> Expr | None:
        place = tap.frame.places[self.x]
        if self.block_in % QUAD or place.type.shape[-1] == 1 or place.type.dtype != "f32":
            return None
        *rows, first = align(self.index(tap.t.image, self.base(tap) + ci, pixel.row, pixel.column), place.type.shape)
        return tir.load(place.buffer, *rows, tir.ramp(first, QUAD))
