"""Strides of convolutions with few input channels go into the channels, where windows are whole strides long.

A window of 10 elements and a stride of 5 over one channel is a window of 2 and a stride of 1 over five, the phases of
the input: the same products in fewer and longer loops, and by kernels too that want pixels side by side. Patches of an
image that do not overlap become one pixel each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.ir import Array, Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const
from edgec.compiler.rewrite import Sweep, python_rule

F32 = 4  # bytes
MOST_CHANNELS = 48  # that come of it: with more, or windows of images that overlap, it gains nothing
WIDE = {1: 256, 2: 512}  # bits of the vectors with which it gains, by the number of spatial axes


@python_rule("Conv")
def strides_into_channels(value: Value, sweep: Sweep) -> Value | str | None:
    """With constant f32 weights, where nothing outside of the input is read, on CPUs with wide vectors."""
    node = value.node
    x, w, b = node.args
    attrs: Any = full_attrs(node)
    kernel = w.shape[2:]
    rank = len(kernel)
    strides = tuple(attrs["strides"] or (1,) * rank)
    if rank not in WIDE or max(strides) == 1:
        return None
    if not is_const(w) or value.type.dtype != "f32" or attrs["group"] != 1 or set(attrs["dilations"]) - {1}:
        return "the weights are not constant, or the window has groups or dilation"
    if any(k % s for k, s in zip(kernel, strides, strict=True)) or any(attrs["pads"]):
        return f"windows of {kernel} are no whole strides of {strides}, or reach outside"
    if rank > 1 and kernel != strides:
        return "patches overlap"
    phases = int(np.prod(strides))
    if x.shape[1] * phases > min(MOST_CHANNELS, value.shape[1]):
        return f"{x.shape[1] * phases} channels would come of it"
    target = sweep.session.target
    if target is None or target.gpu or target.small or target.cpu.vector_bits < WIDE[rank]:
        return "no kernel of this target gains by it"
    if F32 * x.type.size > target.cpu.l2:
        return "the input, which is written once more, outgrows the cache"
    steps = tuple(k // s for k, s in zip(kernel, strides, strict=True))
    counts = tuple(n + q - 1 for n, q in zip(value.shape[2:], steps, strict=True))
    folded = _folded(x, strides, counts, node.name, node.origin)
    old = const_array(w)
    pairs = [n for pair in zip(steps, strides, strict=True) for n in pair]
    new: Array = old.reshape(*old.shape[:2], *pairs).transpose(0, 1, *_phases_first(rank))
    filters = const(new.reshape(old.shape[0], x.shape[1] * phases, *steps), w.node.name, w.node.origin)
    return build("Conv", folded, filters, b, origin=node.origin, label=node.name)


def _folded(x: Value, strides: tuple[int, ...], counts: tuple[int, ...], name: str, origin: tuple[str, ...]) -> Value:
    """The first `counts` strides of each axis, their elements as channels of `x`'s, the last axis' fastest."""
    rank, label = len(strides), f"{name}_folded"
    ends = tuple(n * s for n, s in zip(counts, strides, strict=True))
    if ends != x.shape[2:]:
        axes = tuple(range(2, 2 + rank))
        cut = {"starts": (0,) * rank, "ends": ends, "axes": axes, "steps": (1,) * rank}
        x = build("Slice", x, **cut, origin=origin, label=f"{label}_cut")
    pairs = [n for pair in zip(counts, strides, strict=True) for n in pair]
    apart = build("Reshape", x, shape=(*x.shape[:2], *pairs), origin=origin, label=f"{label}_apart")
    turned = build("Transpose", apart, perm=(0, 1, *_phases_first(rank)), origin=origin, label=f"{label}_turned")
    shape = (x.shape[0], x.shape[1] * int(np.prod(strides)), *counts)
    return build("Reshape", turned, shape=shape, origin=origin, label=label)


def _phases_first(rank: int) -> tuple[int, ...]:
    """Axes behind the channels', which are pairs of a number of strides and the phase within one: first all phases."""
    numbers = range(2, 2 + 2 * rank, 2)
    return (*(k + 1 for k in numbers), *numbers)
