"""Rows of GridSample: one for any type and rank, row-major; one for blocks of channels of f32.

A task is a block of points of one image. It works out their positions and weights once and then reads all channels:
row-major it has neighbouring points in the lanes of a vector, and reads element by element; with channels in blocks
a vector is a block of channels of one point, and every read is a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.common import reach
from edgec.compiler.ops.sampling import wide_kind
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..common import blocked_layout, ceil_div, f32
from ..cost import microseconds, streamed
from ..plain import Tensors, emit_plain, plain, scratch_bytes
from ..shared_tasks import shared_tasks
from .sampler import BLOCK, Sampler

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

BLOCKED = "grid_sample_f32_blocked"
READ_CYCLES = 1.75  # of one element among others of a vector
POINT_CYCLES = 2.0  # per tap of an axis of one point, to work out its position and weight
Task = Callable[["Expr"], "Stmt"]


def sampler_of(node: Node) -> Sampler:
    attrs: Any = full_attrs(node)
    x = node.args[0]
    kind = dtype(wide_kind(x.type.dtype)).tvm
    return Sampler(x.shape[2:], attrs["mode"], attrs["padding_mode"], bool(attrs["align_corners"]), kind)


def points_of(node: Node) -> int:
    """Points per image."""
    return prod(node.types[0].shape[2:])


def reads(sampler: Sampler) -> int:
    """Elements that a point reads of each channel."""
    return prod([sampler.taps] * len(sampler.sizes))


def cycles(node: Node, cpu: Cpu) -> float:
    sampler, (images, channels) = sampler_of(node), node.args[0].shape[:2]
    each = channels * reads(sampler) * READ_CYCLES + POINT_CYCLES * sampler.taps * len(sampler.sizes)
    return images * points_of(node) * each


def points_loop(total: int, lanes: int, block: Expr, run: Callable[[Expr, int], Stmt]) -> Stmt:
    """`run(slot, lanes)` for all points of a block, in vectors; fewer lanes for the last ones of an image."""
    from tvm import tirx

    from ... import tir

    whole, rest = divmod(total, lanes)
    per_block = BLOCK // lanes
    first = block * per_block
    count = tirx.min(tir.i32(per_block), whole - first) if total % BLOCK else tir.i32(per_block)
    body = tir.loop(count, lambda k: run(k * lanes, lanes), "vector") if whole else None
    if not rest:
        return tir.seq(body)
    return tir.seq(body, tir.when(block == total // BLOCK, run(tir.i32(whole * lanes % BLOCK), rest)))


def positions(tensors: Tensors, sampler: Sampler, image: Expr, block: Expr, lanes: int, unit: int) -> Stmt:
    """Work out the points of a block: the grid holds x, y, z, the last axis of the data first."""
    from ... import tir
    from ...conversions import fetched, widen
    from ...floats import kind
    from ...tir import lit

    node, grid, rank = tensors.node, tensors.args[1], len(sampler.sizes)
    total, zeros = points_of(node), [0] * (len(node.args[1].shape) - 1)

    def run(slot: Expr, count: int) -> Stmt:
        def at(axis: int, lane: Expr) -> Expr:
            point = image * total + block * BLOCK + slot + lane
            g = widen(fetched(tir.load(grid, *zeros, point * rank + (rank - 1 - axis)), node.args[1].type.dtype))
            n = sampler.sizes[axis]
            one, two = lit(1.0, kind(g)), lit(2.0, kind(g))
            if sampler.corners:
                return (g + one) / two * lit(float(n - 1), kind(g))
            return ((g + one) * lit(float(n), kind(g)) - one) / two

        return sampler.prepare(tensors.scratch, slot, count, at, unit)

    return points_loop(total, lanes, block, run)


def returned(value: Expr, name: str) -> Expr:
    """A weighed sample in the element type of the result: integers are cut and saturated."""
    from tvm import tirx

    from ...conversions import narrow
    from ...floats import at_least, at_most, kind
    from ...tir import lit

    if dtype(name).is_int:
        low, high = reach(name)
        return tirx.Cast(dtype(name).tvm, at_most(at_least(value, lit(low, kind(value))), lit(high, kind(value))))
    if name == "bool":
        return tirx.NE(value, lit(0, kind(value)))
    return narrow(value, dtype(name).tvm)


def code(tensors: Tensors) -> tuple[int, Task]:
    """Row-major: lanes are neighbouring points."""
    from tvm import tirx

    from ... import tir
    from ...conversions import fetched, held, put, widen

    node, sampler = tensors.node, sampler_of(tensors.node)
    x, (images, channels), total = node.args[0], node.args[0].shape[:2], points_of(node)
    lanes, plane = max(1, tensors.problem.target.cpu.lanes(dtype(wide_kind(x.type.dtype)).bytes * 8)), prod(x.shape[2:])
    blocks = ceil_div(total, BLOCK)
    zeros, name = [0] * (len(x.shape) - 1), x.type.dtype
    nearest = sampler.mode == "nearest"
    zero = tir.lit(0, held(name) if nearest else sampler.kind)

    def channel(image: Expr, block: Expr, c: Expr) -> Stmt:
        first, bind_first = tir.let((image * channels + c) * plane, "plane")
        out, bind_out = tir.let((image * channels + c) * total + block * BLOCK, "out")

        def read(offset: Expr) -> Expr:
            element = fetched(tir.load(tensors.args[0], *zeros, first + offset), name)
            return element if nearest else tirx.Cast(sampler.kind, widen(element))

        def run(slot: Expr, count: int) -> Stmt:
            def lane(v: Expr) -> Stmt:
                value = sampler.sample(tensors.scratch, slot + v, read, zero)
                value = value if nearest else returned(value, name)
                return tir.store(tensors.results[0], put(value, name), *zeros, out + slot + v)

            return tir.vectorized(count, lane)

        return tir.seq(bind_first, bind_out, points_loop(total, lanes, block, run))

    def run_block(at: Sequence[Expr], each: Callable[..., Stmt]) -> Stmt:
        image, block = at
        return tir.seq(positions(tensors, sampler, image, block, lanes, 1), each(lambda c: channel(image, block, c)))

    return shared_tasks((images, blocks), channels, tensors.problem.threads, run_block)


def blocked_code(tensors: Tensors) -> tuple[int, Task]:
    """Blocks of channels: a vector is a block of one point."""
    from tvm import tirx

    from ... import tir

    node, sampler = tensors.node, sampler_of(tensors.node)
    x, images, total = node.args[0], node.args[0].shape[0], points_of(node)
    lanes = tensors.problem.target.cpu.lanes(32)
    groups, blocks, plane = ceil_div(x.shape[1], lanes), ceil_div(total, BLOCK), prod(x.shape[2:]) * lanes
    zeros = [0] * (len(x.shape))
    zero = tirx.Broadcast(tir.lit(0, "float32"), lanes)

    def group(image: Expr, block: Expr, g: Expr) -> Stmt:
        first, bind_first = tir.let((image * groups + g) * plane, "plane")
        out, bind_out = tir.let((image * groups + g) * (total * lanes) + block * (BLOCK * lanes), "out")

        def read(offset: Expr) -> Expr:
            return tir.load(tensors.args[0], *zeros, tir.ramp(first + offset, lanes))

        def point(slot: Expr) -> Stmt:
            value = sampler.sample(tensors.scratch, slot, read, zero, lanes)
            return tir.store(tensors.results[0], value, *zeros, tir.ramp(out + slot * lanes, lanes))

        count = tirx.min(tir.i32(BLOCK), total - block * BLOCK) if total % BLOCK else tir.i32(BLOCK)
        return tir.seq(bind_first, bind_out, tir.loop(count, point, "point"))

    def run_block(at: Sequence[Expr], each: Callable[..., Stmt]) -> Stmt:
        image, block = at
        return tir.seq(positions(tensors, sampler, image, block, lanes, lanes), each(lambda g: group(image, block, g)))

    return shared_tasks((images, blocks), groups, tensors.problem.threads, run_block)


def match(problem: Problem) -> Literal[True] | str:
    x, cpu = problem.anchor.args[0], problem.target.cpu
    if not f32(x.type) or len(x.shape) not in (3, 4):
        return "samples f32 along one or two axes"
    if not cpu.has_vectors:
        return "needs vector registers"
    return True


def offers(problem: Problem) -> Sequence[Choice]:
    node, cpu = problem.anchor, problem.target.cpu
    sampler, x, lanes = sampler_of(node), node.args[0], cpu.lanes(32)
    layout = blocked_layout(len(x.shape), lanes)
    far = 2.0 if 4 * lanes * prod(x.shape[2:]) > cpu.l2 // 2 else 1.0  # a block's plane is read here and there
    each = ceil_div(x.shape[1], lanes) * (2.0 + 2.0 * far * reads(sampler)) + POINT_CYCLES * sampler.taps * len(
        sampler.sizes
    )
    stored = x.shape[0] * ceil_div(x.shape[1], lanes) * lanes
    moved = 4.0 * stored * (prod(x.shape[2:]) + points_of(node))
    us = microseconds(cpu, x.shape[0] * points_of(node) * each, streamed(cpu, moved))
    layouts = tuple(layout if v == x else "" for v in problem.body.inputs)
    return [Choice(BLOCKED, layouts, (layout,), (), us, scratch_bytes(sampler.parts()))]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    return emit_plain(problem, symbol, blocked_code, sampler_of(problem.anchor).parts())


plain(
    "grid_sample",
    ["GridSample"],
    code,
    cycles,
    "samples at any positions, of any type and rank",
    lambda node, cpu: sampler_of(node).parts(),
)
kernel(Row(BLOCKED, frozenset({"GridSample"}), match, offers, emit, "samples at any positions, channels in blocks"))
