"""Biases that make up for what quantization moves on average: bias correction.

Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, with means measured on
calibration data, and errors weighted by the squared slope of the functions behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..columns import result_axis
from ..ir import Value
from ..layers import Layer
from ..op import evaluate, int_attr
from ..ops.common import Tensor
from .placement import FOLDED, Placement
from .ranges import Scale
from .walk import Walk
from .weights import Weights, with_bias


def corrected(plan: Placement, layer: Layer, walk: Walk, made: Weights, x: Scale) -> Weights:
    """The layer's weights with a bias that makes up for the mean error of its results, and these so."""
    value = layer.value
    axis = result_axis(layer.node)
    others = tuple(k for k in range(len(value.shape)) if k != axis)
    shapes, normal = _behind(plan, value), normalizes(plan, walk, value)
    total, weight = np.zeros(value.shape[axis]), np.full(value.shape[axis], 1e-12)

    def sums(number: int) -> tuple[Tensor, Tensor]:
        real, rough = walk.real[value][number], walk.rough[value][number]
        slope = _slope(shapes, real) if normal is None else normal(number)
        off = ((real - rough) * slope).sum(axis=others, dtype=np.float64)
        return off, np.broadcast_to(slope, real.shape).sum(axis=others, dtype=np.float64)

    for off, slopes in walk.cores.each(sums, range(len(walk.real[value]))):
        total += off
        weight += slopes
    shift = np.nan_to_num(total / weight, nan=0.0, posinf=0.0, neginf=0.0)
    if shapes and normal is None:
        shift = helpful(shapes, walk, value, axis, shift)
    bias = made.real_bias(x.scale)
    assert bias is not None
    new = with_bias(layer, made.stored, made.scale, bias + shift, x.scale)
    moved = new.real_bias(x.scale)
    assert moved is not None
    change = (moved - bias).reshape([-1 if k == axis else 1 for k in range(len(value.shape))])
    before = walk.rough[value]
    walk.rough[value] = walk.each(lambda number: before[number] + change, len(before))
    return new


def helpful(shapes: Sequence[Callable[[Tensor], Tensor]], walk: Walk, value: Value, axis: int, shift: Tensor) -> Tensor:
    """A shift of each channel as far as functions behind are defined there; none of any where all together do not lower
    the error behind them: the mean error of the few elements that a Relu lets through, say, is none of the others,
    which it would let through as well. Judged channel by channel, few samples say little."""
    others = tuple(k for k in range(len(value.shape)) if k != axis)
    along = shift.astype(np.float32).reshape([-1 if k == axis else 1 for k in range(len(value.shape))])

    def errors(number: int) -> Tensor:
        real, rough = walk.real[value][number], walk.rough[value][number]
        with np.errstate(all="ignore"):
            exact = [f(real) for f in shapes]
            found = [
                sum(np.square(f(x) - y).sum(axis=others, dtype=np.float64) for f, y in zip(shapes, exact, strict=True))
                for x in (rough, rough + along)
            ]
        return np.asarray(found)

    before, after = np.asarray(sum(walk.cores.each(errors, range(len(walk.real[value])))))
    sound = np.isfinite(after)
    better = after[sound].sum() < np.where(np.isfinite(before), before, np.inf)[sound].sum()
    return np.where(sound & better, shift, 0.0)


def normalizes(plan: Placement, walk: Walk, value: Value) -> Callable[[int], Tensor] | None:
    """The squared slopes of a LayerNormalization behind sums that a value enters, by the number of a sample: a position
    of large elements counts for little. None where there is none."""
    sums: list[Value] = []
    end = value
    while True:
        readers = plan.users.get(end, [])
        norm = next((n for n in readers if n.op == "LayerNormalization"), None)
        add = next((n for n in readers if n.op == "Add" and n.types[0].shape == value.shape), None)
        if norm is not None or add is None:
            break
        other = next((a for a in add.args if a != end), end)
        if other not in walk.real:
            return None
        sums.append(other)
        end = Value(add)
    if norm is None:
        return None
    axes = tuple(range(int_attr(norm, "axis") % len(value.shape), len(value.shape)))

    def slope(number: int) -> Tensor:
        whole = sum((walk.real[other][number] for other in sums), walk.real[value][number])
        return np.asarray(1 / np.maximum(np.var(whole, axis=axes, keepdims=True, dtype=np.float64), 1e-12))

    return slope


def _slope(shapes: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    """The squared slopes of functions at each element, 1 where there are none; where a step leads out of what a
    function is defined for, as of a logarithm near 0, that to the other side."""
    h = np.float32(1e-2 * (float(x.std(dtype=np.float64)) + 1e-6))
    slopes = []
    with np.errstate(all="ignore"):
        for f in shapes:
            above = f(x + h)
            slope = (above - f(x - h)) / (2 * h)
            if not np.isfinite(slope).all():
                one = (above - f(x)) / h
                slope = np.where(np.isfinite(slope), slope, np.where(np.isfinite(one), one, 0))
            slopes.append(np.square(slope))
    return np.asarray(sum(slopes[1:], slopes[0]) if slopes else np.ones((), np.float32))


def _behind(plan: Placement, value: Value) -> list[Callable[[Tensor], Tensor]]:
    """The functions through which alone a value is read: limits, or chains of elementwise operators."""
    readers = plan.users.get(value, [])
    if value in plan.graph.outputs or not readers:
        return []
    if len(readers) == 1 and readers[0].op in FOLDED:
        node = readers[0]
        return [lambda x: evaluate(node, [x])[0]]
    if any(plan.sources[r] != value for n in readers for r in n.results):
        return []
    return [plan.function(end) for end in plan.ends(value)]
