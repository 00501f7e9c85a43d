"""How Helium multiplies bytes, and what that makes of a window: what dense rows and their TensorIR share. No TVM.

`vmladava` adds sixteen products of bytes to a register of the core. Activations of a few pixels stay in vector
registers, in chunks of `MOST` vectors; for each output channel its weights stream past them once. Sums lie in scratch
between chunks, with the output channels of a pixel side by side, and become bytes four at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import physical_shape
from edgec.compiler.registry import Problem
from edgec.compiler.target import Cpu

from ...common import ceil_div
from ...conv.shape import Window, geometry
from ...generic.choice import quads_last

QUAD = 4  # channels of a block in memory, sums of a vector
BYTES = 16  # of a vector
MOST = 5  # vectors of activations that stay in registers; the others hold weights and limits of results
PIXELS = (1, 2, 3, 4, 5)  # of a tile
ENDS = 15.0  # cycles that a vector of four sums takes to become bytes
TILE = 20.0  # cycles to start and leave a tile


def channels_last(rank: int, padded: bool) -> str:
    """The layout of activations of 8 bits: channels of a pixel side by side, padded to fours or not at all."""
    return quads_last(rank) if padded else "NHWC" if rank == 4 else "NWC"


def beside(problem: Problem, value: Value) -> str:
    """The layout of an input or output of the body that is no operand of the anchor, channels padded to fours."""
    shape, t = problem.anchor.types[0].shape, value.type
    missing = len(shape) - len(t.shape)
    if len(shape) not in (3, 4) or any(n.op == "Edgec.Table" and n.args[1] == value for n in problem.body.nodes()):
        return ""
    if missing > 1 or (t.shape[1 - missing] == 1 and t.shape != shape):
        return ""
    if missing:
        return f"{'CHW' if len(shape) == 4 else 'CW'}{QUAD}c"
    if t.dtype in ("u8", "i8"):
        return channels_last(len(shape), padded=True)
    return f"{'NCHW' if len(shape) == 4 else 'NCW'}{QUAD}c"


def window_of(problem: Problem) -> Window:
    """The window of a convolution; one column is turned into one row: there are more pixels side by side then."""
    w = geometry(problem)
    alone = w.width.size == w.width.out == w.width.kernel == 1 and w.width.pad == 0
    return replace(w, height=w.width, width=w.height) if alone else w


@dataclass(frozen=True)
class Reach:
    """The products of one output: `taps` of the window with `pitch` input channels each as weights lie, `stored` as
    the input lies. `direct`: one tap, which is read where it lies."""

    taps: int
    stored: int
    pitch: int
    direct: bool

    @property
    def length(self) -> int:
        return self.taps * self.pitch

    @property
    def vectors(self) -> int:
        return ceil_div(self.length, BYTES)


def reach(w: Window, stored: int) -> Reach:
    """At least one vector, for which weights are padded where the window has fewer bytes."""
    direct = w.taps == 1 and all(a.inside(0, 0) and a.inside(a.out - 1, 0) for a in (w.height, w.width))
    pitch = stored if w.taps * stored >= BYTES else ceil_div(BYTES, w.taps)
    return Reach(w.taps, stored, pitch, direct)


def stored_channels(t: Type) -> int:
    """Bytes of a pixel of a tensor whose channels lie side by side; of a row of a matrix."""
    return prod(physical_shape(t)[-2:]) if t.layout.endswith("c") else physical_shape(t)[-1]


def chunks(vectors: int, pixels: int) -> list[int]:
    """Vectors of each chunk: as equal as they can be."""
    count = ceil_div(vectors * pixels, MOST // pixels * pixels)
    return [vectors // count + (k < vectors % count) for k in range(count)]


def tile_cycles(r: Reach, outputs: int, pixels: int, copied: float) -> float:
    """A tile of pixels: for each channel the products, a load and a store; vector operations take two cycles."""
    turn = sum(2.0 * size * pixels + 2.0 * pixels + 1.0 for size in chunks(r.vectors, pixels))
    patch = 0.0 if r.direct else copied
    return turn * outputs + pixels * (ceil_div(outputs, QUAD) * ENDS + patch) + TILE * len(chunks(r.vectors, pixels))


def dense_us(cpu: Cpu, w: Window, r: Reach, pixels: int) -> float:
    """Modelled time in us; a window is copied by rows, or tap by tap where those do not lie side by side."""
    together = r.pitch == r.stored and w.width.dilation == 1
    pieces = w.height.kernel * (1 if together else w.width.kernel)
    copied = pieces * 12.0 + 4.0 * r.vectors
    tiles = ceil_div(w.batch * w.pixels, pixels)
    return tiles * tile_cycles(r, w.channels_out, pixels, copied) / (cpu.ghz * 1e3) + 0.2
