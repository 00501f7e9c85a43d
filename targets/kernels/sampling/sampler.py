"""Positions and weights of samples in TensorIR, computed once per point and kept in scratch memory.

The arithmetic is that of compiler/ops/sampling.py, step by step, so that positions agree to the last bit but for
contracted multiply-adds. Of every axis scratch holds an offset in memory per tap and point, and the tap's weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from edgec.compiler.ops.sampling import CUBIC_A, FAR

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
Place = Callable[[int, "Expr"], "Expr"]
BLOCK = 256  # points whose positions and weights lie in the nearest cache


@dataclass(frozen=True)
class Sampler:
    """`sizes` of the spatial axes; `kind`: TVM's type of the weights."""

    sizes: tuple[int, ...]
    mode: str
    padding: str
    corners: bool
    kind: str

    @property
    def taps(self) -> int:
        return TAPS[self.mode]

    @property
    def skips(self) -> bool:
        """Whether a weight of zero says that nothing is read: infinite elements at the edge stay away from zeros."""
        return self.padding == "zeros"

    def parts(self) -> list[tuple[str, int]]:
        """Scratch of one block of points: offsets, then weights; of nearest neighbours whether there is one."""
        if self.mode == "nearest":
            return [("int32", BLOCK), ("int32", BLOCK)]
        entries = len(self.sizes) * self.taps * BLOCK
        return [("int32", entries), (self.kind, entries)]

    def prepare(self, scratch: Sequence[Any], first: Expr, lanes: int, at: Place, unit: int, scale: Any = None) -> Stmt:
        """Write down points `first` .. of a block, `lanes` of them: `at(axis, lane)` is a position in elements.

        `unit`: distance of neighbours in memory. `scale(lane)` weighs everything that a point reads.
        """
        from tvm import tirx

        from ... import tir
        from ...floats import kind

        strides = [unit * prod(self.sizes[k + 1 :]) for k in range(len(self.sizes))]
        held = [tir.local((lanes,), kind(at(k, tir.i32(0))), "at") for k in range(len(self.sizes))]
        bases = [tir.local((lanes,), "int32", "base") for _ in self.sizes]
        factor = tir.local((lanes,), self.kind, "scale") if scale else None

        def lane(v: Expr) -> Stmt:
            parts: list[Stmt] = []
            for k, size in enumerate(self.sizes):
                parts.append(tir.store(held[k][0], self.place(at(k, v), size), v))
                x = tir.load(held[k][0], v)
                parts.append(tir.store(bases[k][0], tirx.Cast("int32", tirx.floor(x)), v))
            if factor is not None:
                parts.append(tir.store(factor[0], tirx.Cast(self.kind, scale(v)), v))
            axes = [
                self.axis(tir.load(b, v), tir.load(x, v), n)
                for (b, _), (x, _), n in zip(bases, held, self.sizes, strict=True)
            ]
            weight = None if factor is None else tir.load(factor[0], v)
            return tir.seq(parts, self.entries(scratch, first + v, axes, strides, weight))

        allocs = [a for _, a in (*held, *bases, *([factor] if factor else []))]
        return tir.seq(allocs, tir.vectorized(lanes, lane))

    def entries(self, scratch: Any, slot: Expr, axes: Any, strides: Sequence[int], scale: Expr | None) -> Stmt:
        """Store what is known of one point."""
        from tvm import tirx

        from ... import tir

        if self.mode == "nearest":
            offset, here = tir.i32(0), None
            for ((p, inside, _),), stride in zip(axes, strides, strict=True):
                offset = offset + p * stride
                here = inside if here is None else tirx.And(here, inside)
            inside = tir.store(scratch[1], tirx.Cast("int32", here), slot) if self.skips else None
            return tir.seq(tir.store(scratch[0], offset, slot), inside)
        statements = []
        for k, (found, stride) in enumerate(zip(axes, strides, strict=True)):
            for t, (p, inside, weight) in enumerate(found):
                entry = (k * self.taps + t) * BLOCK + slot
                weight = tirx.Cast(self.kind, weight)
                weight = weight * scale if scale is not None and k == 0 else weight
                if self.skips:
                    weight = tirx.Select(inside, weight, tir.lit(0, self.kind))
                statements += [tir.store(scratch[0], p * stride, entry), tir.store(scratch[1], weight, entry)]
        return tir.seq(statements)

    def place(self, x: Expr, size: int) -> Expr:
        """A position in elements, where padding has put it, within reach of the axis."""
        from ...floats import rint

        x = rint(x) if self.mode == "nearest" else x
        if self.padding == "reflection":
            x = reflected(x, 0.0 if self.corners else -0.5, size - (1.0 if self.corners else 0.5))
        return within(x, -FAR, size - 1 + FAR)

    def axis(self, first: Expr, x: Expr, size: int) -> list[tuple[Expr, Expr, Expr]]:
        """(position within the axis, whether it is the tap's own, weight) of each tap of a placed position."""
        from tvm import tirx

        result = []
        for offset, weight in self.weights(x - tirx.floor(x)):
            at = first + offset
            if self.padding == "reflection":
                at = mirrored(at, size, self.corners)
            inside = tirx.And(at >= 0, at < size)
            result.append((tirx.max(tirx.min(at, size - 1), 0), inside, weight))
        return result

    def weights(self, t: Expr) -> list[tuple[int, Expr]]:
        from ...floats import kind
        from ...tir import lit

        one = lit(1.0, kind(t))
        if self.mode == "nearest":
            return [(0, one)]
        if self.mode == "linear":
            return [(0, one - t), (1, t)]
        return list(zip(range(-1, 3), cubic(t), strict=True))

    def sample(
        self, scratch: Sequence[Any], slot: Expr, read: Callable[[Expr], Expr], zero: Expr, lanes: int = 1
    ) -> Expr:
        """The weighted sum of what `read(offset)` gives for point `slot`, `lanes` numbers at a time."""
        from tvm import tirx

        from ... import tir

        if self.mode == "nearest":
            value = read(tir.load(scratch[0], slot))
            return tirx.Select(tirx.EQ(tir.load(scratch[1], slot), 0), zero, value) if self.skips else value

        def total(axis: int, offset: Expr) -> Expr:
            if axis == len(self.sizes):
                return read(offset)
            terms = []
            for t in range(self.taps):
                entry = (axis * self.taps + t) * BLOCK + slot
                weight = tir.load(scratch[1], entry)
                term = tir.broadcast(weight, lanes) * total(axis + 1, offset + tir.load(scratch[0], entry))
                none = tir.lit(0, self.kind)
                terms.append(tirx.Select(tirx.EQ(weight, none), zero, term) if self.skips else term)
            return sum(terms[1:], terms[0])

        return total(0, tir.i32(0))


def within(x: Expr, low: float, high: float) -> Expr:
    """Clamped; not a number counts as too low."""
    from tvm import tirx

    from ...floats import bind, kind
    from ...tir import lit

    least, most = lit(float(low), kind(x)), lit(float(high), kind(x))
    return bind(x, lambda x: tirx.Select(least < x, tirx.Select(x < most, x, most), least))


def reflected(x: Expr, low: float, high: float) -> Expr:
    """Folded into [low, high]."""
    from tvm import tirx

    from ...floats import bind, kind
    from ...tir import lit

    def number(value: float) -> Expr:
        return lit(float(value), kind(x))

    if high == low:
        return number(low)
    least, most, span = number(low), number(high), number(high - low)

    def folded(x: Expr, beyond: Expr) -> Expr:
        folds = tirx.floor(beyond / span)
        rest = beyond - folds * span
        odd = folds - number(2) * tirx.floor(folds / number(2)) > number(0)
        below = x < least
        upwards = tirx.Or(tirx.And(below, tirx.Not(odd)), tirx.And(tirx.Not(below), odd))
        result = within(tirx.Select(upwards, least + rest, most - rest), low, high)
        return tirx.Select(tirx.Or(below, most < x), result, x)

    def of(x: Expr) -> Expr:
        return bind(tirx.Select(x < least, least - x, x - most), lambda beyond: folded(x, beyond))

    return bind(x, of)


def mirrored(at: Expr, size: int, corners: bool) -> Expr:
    """A position folded into 0 .. size - 1."""
    from tvm import tirx

    period = max(2 * (size - 1), 1) if corners else 2 * size
    turn = tirx.floormod(at, period)
    return tirx.min(turn, period - turn if corners else period - 1 - turn)


def cubic(t: Expr) -> list[Expr]:
    """Weights of the four neighbours of a position that lies `t` behind the second (Keys, 1981)."""
    from ...floats import kind
    from ...tir import lit

    def number(value: float) -> Expr:
        return lit(float(value), kind(t))

    a = CUBIC_A

    def near(u: Expr) -> Expr:
        return (number(a + 2) * u - number(a + 3)) * u * u + number(1)

    def far(u: Expr) -> Expr:
        return ((number(a) * u - number(5 * a)) * u + number(8 * a)) * u - number(4 * a)

    return [far(t + number(1)), near(t), near(number(1) - t), far(number(2) - t)]
