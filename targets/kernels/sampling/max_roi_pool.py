"""The row of MaxRoiPool, of any float type, row-major.

A task is some channels of one region. It writes down once where the parts of the region begin and end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.roi_pool import FAR
from edgec.compiler.target import Cpu

from ..plain import Part, Tensors, plain
from ..shared_tasks import shared_tasks
from .sampler import within

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

SPAN = 14.0  # rows and columns of a region, about
PART_CYCLES = 8.0  # of one part besides its elements
BORDER_CYCLES = 30.0


def code(tensors: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from ... import tir

    x = tensors.node.args[0]
    channels, height, width = x.shape[1:]
    sizes = tensors.node.types[0].shape[2:]

    def run(at: Sequence[Expr], each: Callable[..., Stmt]) -> Stmt:
        (region,) = at
        corners, bind = _corners(tensors, region)
        image, left, top, right, bottom = corners
        rows = _parts(tensors.scratch[:2], top, bottom, sizes[0], height)
        columns = _parts(tensors.scratch[2:], left, right, sizes[1], width)

        def plane(channel: Expr) -> Stmt:
            return tir.loop(
                sizes[0],
                lambda i: tir.loop(sizes[1], lambda j: _maximum(tensors, region, image, channel, i, j), "j"),
                "i",
            )

        return tir.seq(bind, rows, columns, each(plane))

    return shared_tasks(tensors.node.args[1].shape[:1], channels, tensors.problem.threads, run)


def _corners(tensors: Tensors, region: Expr) -> tuple[list[Expr], list[Stmt]]:
    """(image, left, top, right, bottom) as whole numbers, and the statements that make them."""
    from tvm import tirx

    from ... import tir
    from ...conversions import widen
    from ...floats import bind, kind

    scale: Any = full_attrs(tensors.node)["spatial_scale"]

    def nearest(x: Expr) -> Expr:
        down, half = tirx.trunc(x), tir.lit(0.5, kind(x))
        one, zero = tir.lit(1.0, kind(x)), tir.lit(0.0, kind(x))
        up = tirx.Select(x - down >= half, one, zero)
        return down + up - tirx.Select(down - x >= half, one, zero)

    found, binds = [], []
    for k in range(5):
        number = widen(tensors.read(1, region, k))
        if k:
            number = bind(within(number * tir.lit(scale, kind(number)), -FAR, FAR), nearest)
        else:
            number = within(tirx.trunc(number), 0, tensors.node.args[0].shape[0] - 1)
        value, let = tir.let(tirx.Cast("int32", number), "corner")
        found.append(value)
        binds.append(let)
    return found, binds


def _parts(scratch: Sequence[Any], first: Expr, last: Expr, count: int, size: int) -> list[Stmt]:
    """Begin and end of each part along an axis of `size` elements."""
    from tvm import tirx

    from ... import tir

    extent = tirx.Cast("float32", tirx.max(last - first + 1, 1))
    each, let = tir.let(extent / tir.lit(float(count), "float32"), "each")

    def part(p: Expr) -> Stmt:
        k = tirx.Cast("float32", p)
        borders = tirx.floor(k * each), tirx.ceil((k + tir.lit(1.0, "float32")) * each)
        return tir.seq(
            tir.store(held, tirx.max(tirx.min(tirx.Cast("int32", border) + first, size), 0), p)
            for held, border in zip(scratch, borders, strict=True)
        )

    return [let, tir.loop(count, part, "part")]


def _maximum(tensors: Tensors, region: Expr, image: Expr, channel: Expr, i: Expr, j: Expr) -> Stmt:
    from tvm import tirx

    from ... import tir
    from ...conversions import narrow, widen
    from ...floats import bind

    kind = "float64" if tensors.node.args[0].type.dtype == "f64" else "float32"
    (top, bottom), (left, right) = (
        [tir.load(tensors.scratch[k + end], at) for end in (0, 1)] for k, at in ((0, i), (2, j))
    )
    best = tir.Cell(kind, "best")
    there = tirx.And(top < bottom, left < right)

    def element(r: Expr, s: Expr) -> Stmt:
        value = widen(tensors.read(0, image, channel, r, s))
        return best.set(bind(value, lambda v: tirx.Select(best.now < v, v, best.now)))

    result = narrow(best.now, dtype(tensors.node.types[0].dtype).tvm)
    return tir.seq(
        best.made,
        best.set(tirx.Select(there, tir.lit(float("-inf"), kind), tir.lit(0.0, kind))),
        tir.loop(bottom - top, lambda r: tir.loop(right - left, lambda s: element(top + r, left + s), "s"), "r"),
        tensors.write(0, result, region, channel, i, j),
    )


def cycles(node: Node, cpu: Cpu) -> float:
    count, channels, rows, columns = node.types[0].shape
    elements = (SPAN + rows) * (SPAN + columns)
    return count * (channels * (2 * elements + PART_CYCLES * rows * columns) + BORDER_CYCLES * (rows + columns))


def scratch(node: Node, cpu: Cpu) -> list[Part]:
    """Begins and ends of rows, of columns."""
    rows, columns = node.types[0].shape[2:]
    return [("int32", rows), ("int32", rows), ("int32", columns), ("int32", columns)]


plain("max_roi_pool", ["MaxRoiPool"], code, cycles, "maxima of the parts of regions", scratch)
