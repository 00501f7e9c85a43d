"""Phases of a transposed convolution as convolutions of their own, where most need fewer taps than the largest.

Side by side as channels, all phases have the window of the largest, filled up with zeros: of a 3x3 window of stride 2
one phase has four taps, two have two, and one has one, which are 9 of 16 multiplications.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from edgec.compiler.ir import Array, Value
from edgec.compiler.op import build, const
from edgec.compiler.target import Target

from .phase_axes import Axis

LEAST_GAIN = 1.3  # times as many taps side by side as apart: less does not pay for reading the input several times
ALONG = 256  # bits of vectors from which on there is a kernel whose vectors are pixels (conv_f32_along)
FAST_WINDOW = (3, 3)  # side by side this takes fewer multiplications (winograd.py)

Reach = list[range]  # taps of an axis that each of its phases has


def reaches(axes: list[Axis], sizes: tuple[int, ...]) -> list[Reach]:
    """Taps of the phases of each axis, for an input of these sizes: those that are read, and those without which
    padding would be negative."""
    return [[_reach(a, phase, size) for phase in range(a.stride)] for a, size in zip(axes, sizes, strict=True)]


def _reach(a: Axis, phase: int, size: int) -> range:
    used = [to for (of, _), to in a.taps.items() if of == phase]
    return range(min([*used, a.before, a.kernel - 1]), max([*used, a.kernel - 1 - a.after(size)]) + 1)


def worth_it(axes: list[Axis], taken: list[Reach], outputs: int, row: int, target: Target | None) -> bool:
    """Whether convolutions apart are faster: on a CPU with vectors that the channels of each fill, or its pixels in
    rows of `row`, with far fewer taps."""
    if target is None or target.gpu is not None or target.microcontroller:
        return False
    lanes = target.cpu.lanes(32)
    filled = outputs % lanes == 0 or (target.cpu.vector_bits >= ALONG and row >= lanes)
    joined, each = prod(a.stride * a.kernel for a in axes), prod(sum(map(len, r)) for r in taken)
    window = tuple(a.kernel for a in axes)
    return lanes > 1 and filled and joined >= LEAST_GAIN * each and window != FAST_WINDOW


def apart(x: Value, weights: Array, bias: Array, axes: list[Axis], taken: list[Reach], made: dict[str, Any]) -> Value:
    """The phases one after the other along the channels: `weights` and `bias` are those of one convolution that
    computes them all, phases the slow digit of its outputs."""
    outputs = weights.shape[0] // prod(a.stride for a in axes)
    ends = [a.after(size) - (a.kernel - 1) for a, size in zip(axes, x.shape[2:], strict=True)]
    parts = []
    for number, taps in enumerate(product(*taken)):
        these = slice(number * outputs, (number + 1) * outputs)
        before = [a.before - t.start for a, t in zip(axes, taps, strict=True)]
        after = [end + t.stop - 1 for end, t in zip(ends, taps, strict=True)]
        filters = const(weights[(these, slice(None), *(slice(t.start, t.stop) for t in taps))])
        parts.append(build("Conv", x, filters, const(bias[these]), pads=(*before, *after), **made))
    return build("Concat", *parts, axis=1, **made)
