"""Loops of RoiAlign over one region: tables for rows and columns, then all parts of each plane.

A mean is computed in two steps: the rows of a part are blended into one, whose elements are blended into the results
of that row of parts. A maximum looks at all pairs of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.roi import Axis

from ..plain import Part, Tensors
from ..shared_tasks import shared_tasks
from .roi_tables import Table

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

Task = Callable[["Expr"], "Stmt"]
Load = Callable[["Expr", "Expr", "Expr"], "Expr"]  # (row, column, lane) of a plane
Save = Callable[["Expr", "Expr", "Expr", "Expr"], "Stmt"]  # (row of parts, column of parts, lane, value)
Stretches = Callable[[Callable[..., "Stmt"]], "Stmt"]


@dataclass(frozen=True)
class Regions:
    """A node, in numbers."""

    node: Node

    @cached_property
    def attrs(self) -> Any:
        return full_attrs(self.node)

    @property
    def mean(self) -> bool:
        return bool(self.attrs["mode"] == "avg")

    @property
    def kind(self) -> str:
        return "float64" if self.node.args[0].type.dtype == "f64" else "float32"

    @cached_property
    def tables(self) -> tuple[Table, Table]:
        """Of rows and columns."""
        ratio = self.attrs["sampling_ratio"]
        sizes = zip(self.node.args[0].shape[2:], self.node.types[0].shape[2:], strict=True)
        rows, columns = (Table(Axis(n, out, ratio), self.mean, self.kind) for n, out in sizes)
        return rows, columns

    def scratch(self, width: int) -> list[Part]:
        """Of rows, of columns, and a row that was blended: `width` numbers per column."""
        size = self.node.args[0].shape[3]
        return [*self.tables[0].parts(), *self.tables[1].parts(), (self.kind, size * width)]

    def prepare(self, tensors: Tensors, region: Expr) -> tuple[Expr, list[Stmt]]:
        """(the region's image, statements that fill the tables)."""
        from tvm import tirx

        from ... import tir
        from ...conversions import fetched, widen

        kind, shift = self.kind, 0.5 if self.attrs["half_pixel"] else 0.0
        corners, parts = [], []
        for k in range(4):
            x = widen(fetched(tir.load(tensors.args[1], region, k), self.node.args[1].type.dtype))
            corner, bind = tir.let(x * tir.lit(self.attrs["spatial_scale"], kind) - tir.lit(shift, kind), "corner")
            corners.append(corner)
            parts.append(bind)
        for table, k, scratch in ((self.tables[0], 1, tensors.scratch[:3]), (self.tables[1], 0, tensors.scratch[3:6])):
            extent = corners[k + 2] - corners[k]
            if not self.attrs["half_pixel"]:
                one = tir.lit(1.0, kind)
                extent = tirx.Select(extent > one, extent, one)
            parts.append(table.fill(scratch, corners[k], extent))
        last = tir.lit(self.node.args[0].shape[0] - 1, "int64")
        image = tirx.max(tirx.min(tir.load(tensors.args[2], region), last), tir.lit(0, "int64"))
        at, bind = tir.let(tirx.Cast("int32", image), "image")
        return at, [*parts, bind]


def blend(
    regions: Regions, scratch: Sequence[Any], axis: int, part: Expr, lanes: int, many: int, read: Callable[..., Expr]
) -> tuple[Any, list[Stmt]]:
    """(sums, statements that make them) of `many` vectors side by side: `read(position, k, lane)` is an element.

    The sums are weighted ones over the entries of a part.
    """
    from ... import tir

    table, (places, weights, counts) = regions.tables[axis], scratch[3 * axis : 3 * axis + 3]
    sums, alloc = tir.local((many * lanes,), regions.kind, "sum")

    def every(value: Callable[[int, Expr], Expr]) -> list[Stmt]:
        return [
            tir.vectorized(lanes, lambda v, k=k: tir.store(sums, value(k, v), k * lanes + v))  # type: ignore[misc]
            for k in range(many)
        ]

    def step(entry: Expr) -> Stmt:
        slot = part * table.room + entry
        at, weight = tir.load(places, slot), tir.load(weights, slot)
        return tir.seq(every(lambda k, v: tir.load(sums, k * lanes + v) + weight * read(at, k, v)))

    zero = tir.lit(0, regions.kind)
    return sums, [alloc, *every(lambda k, v: zero), tir.loop(tir.load(counts, part), step, "entry")]


def mean_of_parts(regions: Regions, tensors: Tensors, columns: Stretches, load: Load, save: Save, width: int) -> Stmt:
    """All parts of one plane, whose numbers have `width` lanes.

    `columns(blended)` calls it for stretches of columns with (first, vectors side by side, lanes of each).
    """
    from ... import tir

    line = tensors.scratch[6]

    def row(i: Expr) -> Stmt:
        def blended(first: Expr, many: int, size: int) -> Stmt:
            sums, parts = blend(regions, tensors.scratch, 0, i, size, many, lambda at, k, v: load(at, first + k, v))

            def keep(k: int) -> Stmt:
                return tir.vectorized(
                    size, lambda v: tir.store(line, tir.load(sums, k * size + v), (first + k) * width + v)
                )

            return tir.seq(parts, [keep(k) for k in range(many)])

        def part(j: Expr) -> Stmt:
            sums, parts = blend(
                regions, tensors.scratch, 1, j, width, 1, lambda at, k, v: tir.load(line, at * width + v)
            )
            return tir.seq(parts, tir.vectorized(width, lambda v: save(i, j, v, tir.load(sums, v))))

        return tir.seq(columns(blended), tir.loop(regions.tables[1].axis.out, part, "j"))

    return tir.loop(regions.tables[0].axis.out, row, "i")


def maximum_of_parts(regions: Regions, tensors: Tensors, lanes: int, load: Load, save: Save) -> Stmt:
    """All parts of one plane: the greatest weighed neighbour; zero is among them where a sample lies outside."""
    from tvm import tirx

    from ... import tir
    from ...floats import bind

    tables, scratch = regions.tables, tensors.scratch

    def part(i: Expr, j: Expr) -> Stmt:
        best, alloc = tir.local((lanes,), regions.kind, "best")
        counts = [tir.load(scratch[2], i), tir.load(scratch[5], j)]
        totals = [tir.load(scratch[3 * k + 2], table.axis.out + 2) for k, table in enumerate(tables)]
        inside = [tirx.And(n > 0, n >= 2 * total) for n, total in zip(counts, totals, strict=True)]
        none, zero = tir.lit(float("-inf"), regions.kind), tir.lit(0.0, regions.kind)
        start = tirx.Select(tirx.And(*inside), none, zero)

        def row(a: Expr) -> Stmt:
            slot = i * tables[0].room + a

            def column(b: Expr) -> Stmt:
                other = j * tables[1].room + b
                places = tir.load(scratch[0], slot), tir.load(scratch[3], other)
                weight = tir.load(scratch[1], slot) * tir.load(scratch[4], other)

                def lane(v: Expr) -> Stmt:
                    old = tir.load(best, v)
                    value = bind(load(*places, v) * weight, lambda x: tirx.Select(old < x, x, old))
                    return tir.store(best, value, v)

                return tir.vectorized(lanes, lane)

            return tir.loop(counts[1], column, "b")

        return tir.seq(
            alloc,
            tir.vectorized(lanes, lambda v: tir.store(best, start, v)),
            tir.loop(counts[0], row, "a"),
            tir.vectorized(lanes, lambda v: save(i, j, v, tir.load(best, v))),
        )

    outs = tables[0].axis.out, tables[1].axis.out
    return tir.loop(outs[0], lambda i: tir.loop(outs[1], lambda j: part(i, j), "j"), "i")


def run_regions(
    regions: Regions, tensors: Tensors, groups: int, plane: Callable[[Expr, Expr, Expr], Stmt]
) -> tuple[int, Task]:
    """`plane(region, image, group)` for all groups of channels of all regions."""
    from ... import tir

    def run(at: Sequence[Expr], each: Callable[..., Stmt]) -> Stmt:
        image, prepare = regions.prepare(tensors, at[0])
        return tir.seq(prepare, each(lambda g: plane(at[0], image, g)))

    return shared_tasks(regions.node.args[1].shape[:1], groups, tensors.problem.threads, run)
