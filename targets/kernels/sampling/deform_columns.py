"""Rows of the columns of a deformable convolution: of any float type row-major, and of f32 over blocks of channels.

A task is a block of output positions of one image. Per group of offsets and element of the window it works out where
the block reads, as GridSample does, and then reads all channels of the group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.deform import Window
from edgec.compiler.ops.sampling import wide_kind
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..common import blocked_layout, ceil_div, f32
from ..cost import microseconds, streamed
from ..plain import Tensors, emit_plain, plain, scratch_bytes
from ..shared_tasks import shared_tasks
from .grid_sample import POINT_CYCLES, READ_CYCLES, points_loop, reads, returned
from .sampler import BLOCK, Sampler

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

BLOCKED = "deform_columns_f32_blocked"
Task = Callable[["Expr"], "Stmt"]


@dataclass(frozen=True)
class Columns:
    """A node, in numbers."""

    node: Node

    @cached_property
    def window(self) -> Window:
        attrs: Any = full_attrs(self.node)
        return Window(**attrs)

    @cached_property
    def sampler(self) -> Sampler:
        x = self.node.args[0]
        return Sampler(x.shape[2:], "linear", "zeros", True, dtype(wide_kind(x.type.dtype)).tvm)

    @property
    def images(self) -> int:
        return self.node.args[0].shape[0]

    @property
    def channels(self) -> int:
        return self.node.args[0].shape[1]

    @property
    def points(self) -> int:
        return prod(self.node.types[0].shape[2:])

    @property
    def units(self) -> int:
        """Times that a block's positions are worked out."""
        return self.window.offset_group * self.window.size

    def prepare(self, tensors: Tensors, image: Expr, block: Expr, unit: Expr, lanes: int, distance: int) -> Stmt:
        """Positions of a block for element `unit` of (group of offsets, window)."""
        from tvm import tirx

        from ... import tir
        from ...conversions import fetched, widen

        name, rank, sizes = self.node.args[0].type.dtype, self.window.rank, self.node.types[0].shape[2:]
        zeros = [0] * (len(sizes) + 1)
        _, element = tir.split(unit, self.window.offset_group, self.window.size)
        taps = tir.split(element, *self.window.kernel_shape)
        if rank > 1:
            taps = (tirx.floormod(taps[0], self.window.kernel_shape[0]), *taps[1:])

        def read(k: int, plane: Expr, point: Expr) -> Expr:
            return widen(fetched(tir.load(tensors.args[k], *zeros, plane * self.points + point), name))

        def run(slot: Expr, count: int) -> Stmt:
            def at(axis: int, lane: Expr) -> Expr:
                point = block * BLOCK + slot + lane
                inner = prod(sizes[axis + 1 :])
                out = tirx.floormod(tirx.floordiv(point, inner), sizes[axis])
                place = (
                    out * self.window.strides[axis] - self.window.pads[axis] + taps[axis] * self.window.dilations[axis]
                )
                moved = read(1, (image * self.units + unit) * rank + axis, point)
                return moved + tirx.Cast(str(moved.ty.dtype), place)

            def scale(lane: Expr) -> Expr:
                return read(2, image * self.units + unit, block * BLOCK + slot + lane)

            masked = scale if len(tensors.args) > 2 else None
            return self.sampler.prepare(tensors.scratch, slot, count, at, distance, masked)

        return points_loop(self.points, lanes, block, run)

    def column(self, unit: Expr, channel: Expr, each: int) -> Expr:
        """Where the result has a channel for an element of the window; `each` channels lie side by side, as one."""
        from tvm import tirx

        group = self.channels // self.window.group // each
        element = tirx.floormod(unit, self.window.size)
        return (tirx.floordiv(channel, group) * self.window.size + element) * group + tirx.floormod(channel, group)

    def tasks(self, tensors: Tensors, each: int, lanes: int, read_all: Callable[..., Stmt]) -> tuple[int, Task]:
        """`each`: channels that are read at once; `read_all(image, block, unit, channel)` reads them for a block."""
        from ... import tir

        blocks, group = ceil_div(self.points, BLOCK), self.channels // self.window.offset_group // each

        def run(at: Sequence[Expr], every: Callable[..., Stmt]) -> Stmt:
            image, block = at

            def unit(u: Expr) -> Stmt:
                first, bind = tir.let(tir.split(u, self.window.offset_group, self.window.size)[0] * group, "first")
                loop = tir.loop(group, lambda c: read_all(image, block, u, first + c), "channel")
                return tir.seq(self.prepare(tensors, image, block, u, lanes, each), bind, loop)

            return every(unit)

        return shared_tasks((self.images, blocks), self.units, tensors.problem.threads, run)


def code(tensors: Tensors) -> tuple[int, Task]:
    """Row-major: lanes are neighbouring points."""
    from tvm import tirx

    from ... import tir
    from ...conversions import fetched, put, widen

    c = Columns(tensors.node)
    x, sampler, total = c.node.args[0], c.sampler, c.points
    lanes, plane = max(1, tensors.problem.target.cpu.lanes(8 * np.dtype(sampler.kind).itemsize)), prod(x.shape[2:])
    zeros, name, zero = [0] * (len(x.shape) - 1), x.type.dtype, tir.lit(0, sampler.kind)

    def channel(image: Expr, block: Expr, unit: Expr, at: Expr) -> Stmt:
        first, bind_first = tir.let((image * c.channels + at) * plane, "plane")
        column = image * (c.window.size * c.channels) + c.column(unit, at, 1)
        out, bind_out = tir.let(column * total + block * BLOCK, "out")

        def read(offset: Expr) -> Expr:
            return tirx.Cast(sampler.kind, widen(fetched(tir.load(tensors.args[0], *zeros, first + offset), name)))

        def run(slot: Expr, count: int) -> Stmt:
            def lane(v: Expr) -> Stmt:
                value = returned(sampler.sample(tensors.scratch, slot + v, read, zero), name)
                return tir.store(tensors.results[0], put(value, name), *zeros, out + slot + v)

            return tir.vectorized(count, lane)

        return tir.seq(bind_first, bind_out, points_loop(total, lanes, block, run))

    return c.tasks(tensors, 1, lanes, channel)


def blocked_code(tensors: Tensors) -> tuple[int, Task]:
    """Blocks of channels: a vector is a block of one point."""
    from tvm import tirx

    from ... import tir

    c = Columns(tensors.node)
    x, total = c.node.args[0], c.points
    lanes = tensors.problem.target.cpu.lanes(32)
    plane, groups = prod(x.shape[2:]) * lanes, c.channels // lanes
    zeros, zero = [0] * len(x.shape), tirx.Broadcast(tir.lit(0, "float32"), lanes)

    def group(image: Expr, block: Expr, unit: Expr, at: Expr) -> Stmt:
        first, bind_first = tir.let((image * groups + at) * plane, "plane")
        column = image * (c.window.size * groups) + c.column(unit, at, lanes)
        out, bind_out = tir.let((column * total + block * BLOCK) * lanes, "out")

        def read(offset: Expr) -> Expr:
            return tir.load(tensors.args[0], *zeros, tir.ramp(first + offset, lanes))

        def point(slot: Expr) -> Stmt:
            value = c.sampler.sample(tensors.scratch, slot, read, zero, lanes)
            return tir.store(tensors.results[0], value, *zeros, tir.ramp(out + slot * lanes, lanes))

        count = tirx.min(tir.i32(BLOCK), total - block * BLOCK) if total % BLOCK else tir.i32(BLOCK)
        return tir.seq(bind_first, bind_out, tir.loop(count, point, "point"))

    return c.tasks(tensors, lanes, lanes, group)


def cycles(node: Node, cpu: Cpu) -> float:
    c = Columns(node)
    taps = reads(c.sampler)
    positions = POINT_CYCLES * 2 * len(c.sampler.sizes) * c.units
    return c.images * c.points * (c.channels * c.window.size * taps * READ_CYCLES + positions)


def match(problem: Problem) -> Literal[True] | str:
    c, cpu = Columns(problem.anchor), problem.target.cpu
    lanes = cpu.lanes(32)
    if not f32(c.node.args[0].type) or c.window.rank > 2:
        return "samples f32 along one or two axes"
    if not cpu.has_vectors:
        return "needs vector registers"
    if any(c.channels // n % lanes for n in (c.window.group, c.window.offset_group)):
        return f"needs groups of a multiple of {lanes} channels"
    return True


def offers(problem: Problem) -> Sequence[Choice]:
    c, cpu = Columns(problem.anchor), problem.target.cpu
    lanes, x = cpu.lanes(32), c.node.args[0]
    layout = blocked_layout(len(x.shape), lanes)
    far = 2.0 if 4 * lanes * prod(x.shape[2:]) > cpu.l2 // 2 else 1.0
    read = c.channels // lanes * c.window.size * (2.0 + 2.0 * far * reads(c.sampler))
    each = read + POINT_CYCLES * 2 * c.window.rank * c.units
    moved = 4.0 * (x.type.size + c.node.types[0].size)
    us = microseconds(cpu, c.images * c.points * each, streamed(cpu, moved))
    layouts = tuple(layout if v == x else "" for v in problem.body.inputs)
    return [Choice(BLOCKED, layouts, (layout,), (), us, scratch_bytes(c.sampler.parts()))]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    return emit_plain(problem, symbol, blocked_code, Columns(problem.anchor).sampler.parts())


plain(
    "deform_columns",
    ["Edgec.DeformColumns"],
    code,
    cycles,
    "elements under windows whose elements are moved by offsets",
    lambda node, cpu: Columns(node).sampler.parts(),
)
kernel(Row(BLOCKED, frozenset({"Edgec.DeformColumns"}), match, offers, emit, "the same, with channels in blocks"))
