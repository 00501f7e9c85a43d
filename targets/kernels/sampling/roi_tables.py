"""Where the parts of a region are sampled along one axis, written into scratch memory once per region.

The arithmetic is that of compiler/ops/roi.py. For a mean each part gets the elements that it reads and their weights,
summed over its samples; for a maximum two entries per sample, the lower neighbour and the upper one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgec.compiler.ops.roi import Axis

from .sampler import within

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

MANY = float(1 << 24)  # numbers of samples beyond are not exact in f32


@dataclass(frozen=True)
class Table:
    """`mean`: for a mean, not a maximum; `kind`: TVM's type of positions and weights."""

    axis: Axis
    mean: bool
    kind: str

    @property
    def room(self) -> int:
        """Entries per part."""
        if self.axis.count:
            return 2 * self.axis.count
        return self.axis.size if self.mean else 2 * (2 * self.axis.size + 8)

    def parts(self) -> list[tuple[str, int]]:
        """Scratch: positions, weights; number of entries per part, least and greatest position, samples per part."""
        entries = self.axis.out * self.room
        return [("int32", entries), (self.kind, entries), ("int32", self.axis.out + 3)]

    def number(self, value: float) -> Expr:
        from ...tir import lit

        return lit(float(value), self.kind)

    def fill(self, scratch: Sequence[Any], start: Expr, extent: Expr) -> Stmt:
        """The table of a region that begins at `start`; samples that lie elsewhere are left out."""
        from tvm import tirx

        from ... import tir

        each, bind_each = tir.let(extent / self.number(self.axis.out), "each")
        total, bind_total = tir.let(self.number(self.axis.count) if self.axis.count else tirx.ceil(each), "total")
        out = self.axis.out
        samples = tirx.Cast("int32", within(total, 0, MANY))
        ends = [
            tir.store(scratch[2], x, out + k) for k, x in enumerate((tir.i32(self.axis.size), tir.i32(-1), samples))
        ]

        def part(p: Expr) -> Stmt:
            first, bind_first = tir.let(start + tirx.Cast(self.kind, p) * each, "first")
            low, many, binds = self.range(first, each, total)

            def sample(i: Expr) -> Stmt:
                number = low + tirx.Cast(self.kind, i) + self.number(0.5)
                at, bind = tir.let(first + number * each / total, "at")
                there = tirx.And(at >= self.number(-1), at <= self.number(self.axis.size))
                return tir.seq(bind, tir.when(there, self.entry(scratch, p, at, total)))

            none = tir.store(scratch[2], 0, p)
            return tir.seq(bind_first, binds, none, tir.loop(many, sample, "sample"))

        return tir.seq(bind_each, bind_total, ends, tir.loop(out, part, "part"))

    def range(self, first: Expr, each: Expr, total: Expr) -> tuple[Expr, Expr, list[Stmt]]:
        """(first sample that may lie on the axis, number of such, statements before)."""
        from tvm import tirx

        from ... import tir

        if self.axis.count:
            return self.number(0), tir.i32(self.axis.count), []
        per, most = total / each, 2 * self.axis.size + 8
        low = (self.number(-1) - first) * per - self.number(0.5)
        high = (self.number(self.axis.size) - first) * per - self.number(0.5)
        sane = tirx.And(total > self.number(0), total < self.number(MANY))
        begin, bind = tir.let(within(tirx.floor(low) - self.number(1), 0, MANY), "low")
        count = within(tirx.ceil(high) + self.number(2), 0, MANY)
        count = tirx.Select(count < total, count, total) - begin
        many, bind_many = tir.let(
            tirx.Select(sane, tirx.Cast("int32", within(count, 0, most)), tir.i32(0)),
            "many",
        )
        return begin, many, [bind, bind_many]

    def entry(self, scratch: Sequence[Any], part: Expr, at: Expr, total: Expr) -> Stmt:
        """Add a sample that lies within an element of the axis."""
        from tvm import tirx

        from ... import tir

        size, out = self.axis.size, self.axis.out
        inside = within(at, 0, size)
        low, bind_low = tir.let(tirx.min(tirx.Cast("int32", inside), size - 1), "low")
        high, bind_high = tir.let(tirx.min(low + 1, size - 1), "high")
        upper = tirx.Select(low < size - 1, inside - tirx.Cast(self.kind, low), self.number(0))
        upper, bind_upper = tir.let(upper, "upper")
        lower, bind_lower = tir.let(self.number(1) - upper, "lower")
        if self.mean:
            upper, lower = upper / total, lower / total
        least = tir.store(scratch[2], tirx.min(tir.load(scratch[2], out), low), out)
        greatest = tir.store(scratch[2], tirx.max(tir.load(scratch[2], out + 1), high), out + 1)
        add = self.merged if self.mean and not self.axis.count else self.appended
        binds = (bind_low, bind_high, bind_upper, bind_lower)
        return tir.seq(binds, least, greatest, add(scratch, part, (low, high), (lower, upper)))

    def appended(self, scratch: Sequence[Any], part: Expr, at: Sequence[Expr], weights: Sequence[Expr]) -> Stmt:
        from ... import tir

        count, bind = tir.let(tir.load(scratch[2], part), "count")
        entries = []
        for k in range(2):
            slot = part * self.room + count + k
            entries += [tir.store(scratch[0], at[k], slot), tir.store(scratch[1], weights[k], slot)]
        return tir.seq(bind, entries, tir.store(scratch[2], count + 2, part))

    def merged(self, scratch: Sequence[Any], part: Expr, at: Sequence[Expr], weights: Sequence[Expr]) -> Stmt:
        """Entries are neighbouring elements: samples go upwards, by less than one at a time."""
        from tvm import tirx

        from ... import tir

        base = part * self.room
        count, bind = tir.let(tir.load(scratch[2], part), "count")
        first, bind_first = tir.let(tirx.Select(tirx.EQ(count, 0), at[0], tir.load(scratch[0], base)), "first")

        def more(k: Expr) -> Stmt:
            position = first + count + k
            slot = base + count + k
            return tir.seq(tir.store(scratch[0], position, slot), tir.store(scratch[1], self.number(0), slot))

        needed, bind_needed = tir.let(tirx.max(at[1] - first + 1 - count, 0), "needed")
        grow = tir.seq(tir.loop(needed, more, "more"), tir.store(scratch[2], count + needed, part))
        adds = []
        for position, weight in zip(at, weights, strict=True):
            slot = base + tirx.max(position - first, 0)
            adds.append(tir.store(scratch[1], tir.load(scratch[1], slot) + weight, slot))
        return tir.seq(bind, bind_first, bind_needed, grow, adds)
