"""The numbers of a convolution or pooling window, and how its output positions fall into tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, Literal

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Problem
from edgec.compiler.target import Target

UNROLLED_TAPS = 9  # of the largest depthwise and pooling windows whose rows are written out
WRITTEN = 16  # taps of an axis that are at most written out for a tile at an edge


@dataclass(frozen=True)
class Axis:
    """One spatial axis: sizes in and out, window, stride, dilation, padding before."""

    size: int
    out: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    def inside(self, position: int, tap: int) -> bool:
        """Whether the window of an output position reads a true element at this tap."""
        return 0 <= position * self.stride - self.pad + tap * self.dilation < self.size

    @property
    def plain(self) -> bool:
        """One input element per output element."""
        return self.kernel == 1 and self.stride == 1 and self.pad == 0 and self.size == self.out


@dataclass(frozen=True)
class Segment:
    """`count` consecutive tiles of `length` positions from `start`; a tile at an edge stands alone."""

    start: int
    length: int
    count: int
    edge: bool


@cache
def segments(axis: Axis, tile: int) -> tuple[Segment, ...]:
    """Cut an axis into tiles: those that padding touches stand alone, the rest form runs."""
    reach = (axis.kernel - 1) * axis.dilation
    first = -(-axis.pad // axis.stride)  # positions from here to before `end` lie inside with their whole windows
    end = max(first, min(axis.out, (axis.size - 1 + axis.pad - reach) // axis.stride + 1))
    low, high = -(-first // tile), end // tile  # numbers of the whole tiles inside
    found = [_edge(axis, tile, k) for k in range(min(low, -(-axis.out // tile)))]
    if high > low:
        found.append(Segment(low * tile, tile, high - low, False))
    for k in range(max(low, high), -(-axis.out // tile)):
        last = _edge(axis, tile, k)
        inside = last.start >= first and last.start + last.length <= end
        found.append(replace(last, edge=not inside))
    return tuple(found)


def _edge(axis: Axis, tile: int, number: int) -> Segment:
    return Segment(number * tile, min(tile, axis.out - number * tile), 1, True)


@dataclass(frozen=True)
class Window:
    """A convolution or pooling in two dimensions (one-dimensional ones have a height of 1).

    `by_columns`: over one channel without padding, where a step of the reduction takes neighbours in a row.
    """

    batch: int
    channels_in: int
    channels_out: int
    height: Axis
    width: Axis
    group: int = 1
    by_columns: bool = False

    @property
    def taps(self) -> int:
        return self.height.kernel * self.width.kernel

    @property
    def pixels(self) -> int:
        return self.height.out * self.width.out

    @property
    def macs(self) -> int:
        return self.batch * self.channels_out * (self.channels_in // self.group) * self.taps * self.pixels

    @property
    def pointwise(self) -> bool:
        return self.height.plain and self.width.plain

    def flat(self) -> Window:
        """A pointwise window over one row that holds all pixels."""
        return replace(self, height=Axis(1, 1), width=Axis(self.pixels, self.pixels))


def window(node: Node, kernel: tuple[int, ...] | None = None) -> Window | str:
    """The window of a Conv or pooling node with one or two spatial axes, or why it has none."""
    attrs: dict[str, Any] = full_attrs(node)
    x, out = node.args[0].shape, node.types[0].shape
    rank = len(x) - 2
    if rank not in (1, 2):
        return f"{rank} spatial axes; this kernel knows one or two"
    kernel = kernel or tuple(attrs["kernel_shape"])
    strides, dilations = tuple(attrs.get("strides") or (1,) * rank), tuple(attrs.get("dilations") or (1,) * rank)
    pads = tuple(attrs.get("pads") or (0,) * (2 * rank))
    axes = [Axis(x[2 + i], out[2 + i], kernel[i], strides[i], dilations[i], pads[i]) for i in range(rank)]
    height, width = axes if rank == 2 else (Axis(1, 1), axes[0])
    return Window(x[0], x[1], out[1], height, width, int(attrs.get("group", 1)))


def conv_window(node: Node) -> Window | str:
    return window(node, node.args[1].shape[2:])


def of_group(w: Window) -> Window:
    """The window with the channels of one group."""
    return replace(w, channels_in=w.channels_in // w.group, channels_out=w.channels_out // w.group)


def unrolled(w: Window, target: Target) -> bool:
    """Whether the rows of a depthwise or pooling window are written out; else there is a loop over them."""
    return w.taps <= UNROLLED_TAPS and not target.small


def conv_operands(node: Node) -> tuple[Value, Value, Value | None]:
    """Input, weights and bias."""
    return node.args[0], node.args[1], node.args[2] if len(node.args) > 2 else None


def dense(node: Node) -> Literal[True] | str:
    """True for a convolution that has a window and no groups."""
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    return True if shape.group == 1 else "has groups"


def depthwise(node: Node) -> Window | str:
    """The window of a convolution with several channels, each with one filter of its own."""
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    return shape if shape.group == shape.channels_in == shape.channels_out != 1 else "is not depthwise"


def rows_as_pixels(problem: Problem) -> Window:
    """A product with one matrix as a pointwise convolution: rows are pixels, K and columns channels in and out."""
    out = problem.anchor.types[0].shape
    rows = prod(out[:-1])
    return Window(1, problem.anchor.args[0].shape[-1], out[-1], Axis(1, 1), Axis(rows, rows))


def geometry(problem: Problem) -> Window:
    """The window of a problem that a convolution row has accepted."""
    shape = conv_window(problem.anchor)
    assert isinstance(shape, Window)
    return shape
