"""Rows of RoiAlign: of any float type row-major, and of f32 over blocks of channels.

A task is some channels of one region. It writes down once which elements each part of the region reads and how much
they weigh, for rows and for columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..common import blocked_layout, ceil_div, f32
from ..cost import microseconds, streamed
from ..plain import Tensors, emit_plain, plain, scratch_bytes
from .roi_loops import Regions, Task, maximum_of_parts, mean_of_parts, run_regions

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

BLOCKED = "roi_align_f32_blocked"
ENTRY_CYCLES = 30.0  # to write down one sample
ABREAST = 4  # columns that are blended side by side
SPAN = 14.0  # rows and columns of a region, about: what detectors make of their pyramids of images


def code(tensors: Tensors) -> tuple[int, Task]:
    """Row-major: rows are blended in vectors of columns, parts of the blended row number by number."""
    from tvm import tirx

    from ... import tir
    from ...conversions import fetched, narrow, put, widen

    regions = Regions(tensors.node)
    x = tensors.node.args[0]
    _, channels, height, width = x.shape
    lanes = max(1, tensors.problem.target.cpu.lanes(8 * np.dtype(regions.kind).itemsize))
    name, columns = x.type.dtype, tensors.node.types[0].shape[3]

    def plane(region: Expr, image: Expr, channel: Expr) -> Stmt:
        base, bind = tir.let((image * channels + channel) * (height * width), "plane")

        def load(row: Expr, column: Expr, lane: Expr) -> Expr:
            element = tir.load(tensors.args[0], 0, 0, 0, base + row * width + column + lane)
            return widen(fetched(element, name))

        def save(i: Expr, j: Expr, lane: Expr, value: Expr) -> Stmt:
            return tir.store(tensors.results[0], put(narrow(value, dtype(name).tvm), name), region, channel, i, j)

        if not regions.mean:
            return tir.seq(bind, maximum_of_parts(regions, tensors, 1, load, save))

        def stretches(blended: Callable[..., Stmt]) -> Stmt:
            low, high = (tir.load(tensors.scratch[5], columns + k) for k in (0, 1))
            if width < lanes:
                return blended(tir.i32(0), 1, width)
            count = tirx.floordiv(tirx.max(high - low, -1) + lanes, lanes)
            return tir.loop(count, lambda v: blended(tirx.min(low + v * lanes, width - lanes), 1, lanes), "vector")

        return tir.seq(bind, mean_of_parts(regions, tensors, stretches, load, save, 1))

    return run_regions(regions, tensors, channels, plane)


def blocked_code(tensors: Tensors) -> tuple[int, Task]:
    """Blocks of channels: every number is a vector."""
    from tvm import tirx

    from ... import tir

    regions = Regions(tensors.node)
    x = tensors.node.args[0]
    _, channels, height, width = x.shape
    lanes = tensors.problem.target.cpu.lanes(32)
    groups, (rows, columns) = ceil_div(channels, lanes), tensors.node.types[0].shape[2:]
    zeros = [0] * len(x.shape)

    def plane(region: Expr, image: Expr, group: Expr) -> Stmt:
        base, bind = tir.let((image * groups + group) * (height * width), "plane")
        out, bind_out = tir.let((region * groups + group) * (rows * columns), "out")

        def load(row: Expr, column: Expr, lane: Expr) -> Expr:
            return tir.load(tensors.args[0], *zeros, (base + row * width + column) * lanes + lane)

        def save(i: Expr, j: Expr, lane: Expr, value: Expr) -> Stmt:
            return tir.store(tensors.results[0], value, *zeros, (out + i * columns + j) * lanes + lane)

        if not regions.mean:
            return tir.seq(bind, bind_out, maximum_of_parts(regions, tensors, lanes, load, save))

        def stretches(blended: Callable[..., Stmt]) -> Stmt:
            low, high = (tir.load(tensors.scratch[5], columns + k) for k in (0, 1))
            first, bind_first = tir.let(low, "low")
            count, bind_count = tir.let(tirx.max(high - low + 1, 0), "columns")
            whole = tirx.floordiv(count, ABREAST)
            many = tir.loop(whole, lambda v: blended(first + v * ABREAST, ABREAST, lanes), "columns")
            rest = tir.loop(count - whole * ABREAST, lambda v: blended(first + whole * ABREAST + v, 1, lanes), "column")
            return tir.seq(bind_first, bind_count, many, rest)

        return tir.seq(bind, bind_out, mean_of_parts(regions, tensors, stretches, load, save, lanes))

    return run_regions(regions, tensors, groups, plane)


def entries(regions: Regions) -> float:
    """Entries of one part along an axis, about."""
    ratio, out = regions.attrs["sampling_ratio"], max(regions.node.types[0].shape[2:])
    return 2.0 * ratio if ratio else SPAN / out + 1


def cycles(node: Node, cpu: Cpu) -> float:
    regions = Regions(node)
    (count, channels, rows, columns), taps = node.types[0].shape, entries(regions)
    lanes = max(1, cpu.lanes(32))
    if regions.mean:
        each = rows * taps * (SPAN / lanes + 2) + rows * columns * (2 * taps + 6)
    else:
        each = rows * columns * taps * taps * 3.0
    return count * (channels * each + ENTRY_CYCLES * taps * (rows + columns))


def match(problem: Problem) -> Literal[True] | str:
    cpu = problem.target.cpu
    if not f32(problem.anchor.args[0].type):
        return "computes f32"
    if not cpu.has_vectors:
        return "needs vector registers"
    return True


def offers(problem: Problem) -> Sequence[Choice]:
    node, cpu = problem.anchor, problem.target.cpu
    regions, x, lanes = Regions(node), node.args[0], cpu.lanes(32)
    (count, channels, rows, columns), taps = node.types[0].shape, entries(regions)
    if regions.mean:
        each = rows * taps * SPAN * 1.2 + rows * columns * (1.5 * taps + 4)
    else:
        each = rows * columns * taps * taps * 3.0
    total = count * (ceil_div(channels, lanes) * each + ENTRY_CYCLES * taps * (rows + columns))
    moved = 4.0 * ceil_div(channels, lanes) * lanes * (x.shape[0] * x.shape[2] * x.shape[3] + count * rows * columns)
    us = microseconds(cpu, total, streamed(cpu, moved))
    layout = blocked_layout(4, lanes)
    layouts = tuple(layout if v == x else "" for v in problem.body.inputs)
    return [Choice(BLOCKED, layouts, (layout,), (), us, scratch_bytes(regions.scratch(lanes)))]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    scratch = Regions(problem.anchor).scratch(problem.target.cpu.lanes(32))
    return emit_plain(problem, symbol, blocked_code, scratch)


plain(
    "roi_align",
    ["RoiAlign"],
    code,
    cycles,
    "regions of images as small images, of any float type",
    lambda node, cpu: Regions(node).scratch(1),
)
kernel(Row(BLOCKED, frozenset({"RoiAlign"}), match, offers, emit, "the same, with channels in blocks"))
