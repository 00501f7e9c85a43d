"""Weights in 8 bits, symmetric, with a scale per output channel; biases in 32 bits with the scale of the sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..layers import Layer
from ..ops.common import Tensor
from ..rescale.bounds import SUMS
from .short_scales import End, short_scales

MOST, BYTE = 127, 255
ROOM = 2.0**30  # a bias takes at most half of the range of the sums
SHORT = 0.95 * 2.0**17  # ... and less where 16 bits are to hold it, together with the others of its layer
DEAD, QUICK = 2.0**20, 2.0 ** (SUMS - 1)  # ... and of what kernels convert quickly (bounds.near), if it is all there is


@dataclass(frozen=True)
class Weights:
    """real weights = stored * scale along `axis`; real bias = bias * (scale of the input * scale)."""

    stored: Tensor
    scale: Tensor
    axis: int
    bias: Tensor | None

    @property
    def real(self) -> Tensor:
        return np.asarray(self.stored * _along(self.scale, self.stored, self.axis), np.float32)

    def real_bias(self, input_scale: float) -> Tensor | None:
        """The bias that the integers stand for."""
        if self.bias is None:
            return None
        step = bias_scale(self.scale, input_scale, len(self.bias))
        return np.asarray(self.bias.astype(np.float64) * step, np.float32)


def _along(values: Tensor, like: Tensor, axis: int) -> Tensor:
    return values.reshape([-1 if k == axis else 1 for k in range(like.ndim)])


def weight_scales(layer: Layer, input_scale: float, end: End | None = None) -> Tensor:
    """The largest magnitude of each channel stands for 127; never so small that the bias leaves its range, which is
    a smaller one where all products of a channel together are nothing beside its bias. With `end`, multipliers
    and biases fit 16 bits (shorten.py)."""
    others = tuple(k for k in range(layer.weights.ndim) if k != layer.axis)
    sizes = np.abs(layer.weights.astype(np.float64))
    scale = sizes.max(axis=others, initial=0.0) / MOST
    bias = np.zeros(len(scale))
    if layer.bias is not None:
        bias = np.abs(layer.bias.astype(np.float64)).reshape(-1, len(scale)).max(axis=0)
        products = sizes.sum(axis=others) * BYTE * input_scale
        room = SHORT if end is not None else np.where(products * DEAD < bias, QUICK, ROOM)
        scale = np.maximum(scale, bias / (room * input_scale))
    made = np.asarray(np.maximum(scale, 1e-30), np.float32)
    if end is None:
        return made
    each = layer.weights.size // max(len(scale), 1)  # rounding may move any by a step
    sums = (sizes.sum(axis=others) / made + each) * BYTE + bias / (made * input_scale) + 1
    return short_scales(made, input_scale, end, sums)


def nearest_weights(layer: Layer, input_scale: float, end: End | None = None) -> Weights:
    """Every weight rounded to the nearest step."""
    scale = weight_scales(layer, input_scale, end)
    stored = np.rint(layer.weights / _along(scale, layer.weights, layer.axis))
    return with_bias(layer, stored, scale, layer.bias, input_scale)


def with_bias(layer: Layer, stored: Tensor, scale: Tensor, bias: Tensor | None, input_scale: float) -> Weights:
    """Weights in steps, and a real bias in steps of the sums."""
    whole = np.clip(stored, -MOST, MOST).astype(np.int8)
    if bias is None:
        return Weights(whole, scale, layer.axis, None)
    step = bias_scale(scale, input_scale, len(bias)).astype(np.float64)
    steps = np.clip(np.rint(bias.astype(np.float64) / step), -(2.0**31) + 1, 2.0**31 - 1)
    return Weights(whole, scale, layer.axis, steps.astype(np.int32))


def bias_scale(scale: Tensor, input_scale: float, channels: int) -> Tensor:
    """The scales of the sums, as f32; those of a transposed convolution repeat for each of its groups."""
    step = np.float32(input_scale) * scale.astype(np.float32)
    return np.asarray(np.tile(step, channels // len(step)), np.float32)
