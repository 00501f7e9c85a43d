"""The axes of a transposed convolution, cut into phases of its stride.

Output position o of an axis of stride s lies in phase p = (o + c) mod s at step q = (o + c) div s, for a shift c of our
choice. The taps that reach it read input q + (p + pads - c - tap) / s, so each phase is a convolution of stride 1 with
every s-th tap (Shi et al., 2016, "Is the deconvolution layer the same as a convolutional layer?").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs


@dataclass(frozen=True)
class Axis:
    """One spatial axis: `shift` is c above; tap t of phase p is tap `taps[p, t]` of the new kernel of `kernel` taps."""

    stride: int
    shift: int
    kernel: int
    before: int  # padding
    steps: int  # positions q that hold all outputs
    taps: dict[tuple[int, int], int]

    def after(self, size: int) -> int:
        """Padding behind an input of `size` elements."""
        return max(0, self.steps + self.kernel - 1 - size - self.before)

    def positions(self, size: int) -> int:
        return size + self.before + self.after(size) - self.kernel + 1


def axis(stride: int, kernel: int, pad: int, out: int) -> Axis:
    """The split with the fewest taps; of equal ones that without a shift: nothing need be cut off."""

    def at(shift: int) -> Axis:
        read = {
            (p, t): (p + pad - shift - t) // stride
            for p, t in product(range(stride), range(kernel))
            if (p + pad - shift - t) % stride == 0
        }
        low = min(read.values())
        taps = {key: delta - low for key, delta in read.items()}
        return Axis(stride, shift, max(taps.values()) + 1, -low, -(-(out + shift) // stride), taps)

    return min((at(0), at(pad % stride)), key=lambda a: a.kernel)


def axes_of(node: Node) -> list[Axis] | str:
    """Of a transposed convolution; text where it has no phases."""
    x, w, _ = node.args
    attrs: Any = full_attrs(node)
    rank = len(x.shape) - 2
    if any(d != 1 for d in attrs["dilations"]):
        return "the window is dilated"
    strides, pads = attrs["strides"] or (1,) * rank, attrs["pads"] or (0,) * (2 * rank)
    axes = [axis(strides[k], w.shape[2 + k], pads[k], node.types[0].shape[2 + k]) for k in range(rank)]
    return "the padding cuts off whole strides" if any(a.before < 0 for a in axes) else axes
