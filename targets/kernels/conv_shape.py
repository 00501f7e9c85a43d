"""The numbers of a convolution or pooling window, and how its output positions fall into tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Problem

UNROLLED_TAPS = 9  # depthwise and pooling windows up to this size are written out; larger ones loop over their rows


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


def segments(axis: Axis, tile: int) -> tuple[Segment, ...]:
    """Cut an axis into tiles: those that padding touches stand alone, the rest form runs."""
    found: list[Segment] = []
    for start in range(0, axis.out, tile):
        length = min(tile, axis.out - start)
        last = start + length - 1
        edge = not (axis.inside(start, 0) and axis.inside(last, axis.kernel - 1))
        previous = found[-1] if found else None
        if previous and not edge and not previous.edge and previous.length == length:
            found[-1] = replace(previous, count=previous.count + 1)
        else:
            found.append(Segment(start, length, 1, edge))
    return tuple(found)


@dataclass(frozen=True)
class Window:
    """A convolution or pooling in two dimensions (one-dimensional ones have a height of 1)."""

    batch: int
    channels_in: int
    channels_out: int
    height: Axis
    width: Axis
    group: int = 1

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


def conv_operands(node: Node) -> tuple[Value, Value, Value | None]:
    """Input, weights and bias."""
    return node.args[0], node.args[1], node.args[2] if len(node.args) > 2 else None


def geometry(problem: Problem) -> Window:
    """The window of a problem that a convolution row has accepted."""
    shape = conv_window(problem.anchor)
    assert isinstance(shape, Window)
    return shape
