"""Rows of normalizations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.onnx.versions import CUBE, IMAGE, K, Row, f32


def normalized() -> Iterator[Row]:
    four = tuple(np.abs(f32(4)) + 0.5 for _ in range(4))
    for attrs in ({}, {"epsilon": 0.1}):
        yield Row("BatchNormalization", (IMAGE, *four), attrs)
        yield Row("BatchNormalization", (IMAGE, *map(K, four)), attrs)
    yield Row("BatchNormalization", (f32(3, 4), *four))
    each = tuple(np.abs(f32(4, 6, 5)) + 0.5 for _ in range(4))
    for results, momentum in ((1, 0.9), (5, 0.6)):
        meaning = _per_element if results == 1 else _trained_per_element
        attrs = {"spatial": 0, "momentum": momentum}
        yield Row("BatchNormalization", (IMAGE, *each), attrs, until=8, results=results, meaning=meaning)
    yield Row("BatchNormalization", (IMAGE, *four), {"momentum": 0.6}, until=13, results=5, meaning=_trained)
    for x in (IMAGE, f32(6, 4)):
        yield Row("BatchNormalization", (x, *four), {"training_mode": 1, "momentum": 0.6}, since=14, results=3)
    yield from (Row("InstanceNormalization", (IMAGE, f32(4), f32(4)), attrs) for attrs in ({}, {"epsilon": 0.1}))
    zeros = np.concatenate([CUBE, np.zeros((1, 3, 4), np.float32)])
    for p in (1, 2):
        yield from (Row("LpNormalization", (zeros,), {"axis": axis, "p": p}) for axis in (0, 1, -1))
    attrs = {"alpha": 0.5, "beta": 0.6, "bias": 2.0}
    yield from (Row("LRN", (IMAGE,), {"size": n, **attrs}) for n in (1, 3))
    yield Row("LRN", (IMAGE,), {"size": 4, **attrs}, meaning=_of_four_channels)
    yield from (Row("MeanVarianceNormalization", (IMAGE,), attrs) for attrs in ({}, {"axes": [1, 3]}))
    yield Row("GroupNormalization", (IMAGE, f32(2), f32(2)), {"num_groups": 2}, until=20, meaning=_by_groups)
    yield Row("GroupNormalization", (IMAGE, f32(4), f32(4)), {"num_groups": 2, "epsilon": 0.1}, since=21)
    for rest in ((f32(4),), (f32(4), f32(4))):
        yield Row("LayerNormalization", (CUBE, *rest), results=3)
    yield Row("LayerNormalization", (CUBE, f32(3, 4), f32(3, 4)), {"axis": 1, "epsilon": 0.1}, results=3)
    yield from (
        Row("RMSNormalization", (CUBE, scale), {"axis": axis}) for scale, axis in ((f32(4), -1), (f32(3, 4), 1))
    )


def _of_four_channels(x: Any) -> Any:
    """The channel before, its own, and two after."""
    squares = np.pad(x * x, [(0, 0), (1, 2), (0, 0), (0, 0)])
    total = sum(squares[:, k : k + x.shape[1]] for k in range(4))
    return x / (2 + 0.5 / 4 * total) ** 0.6


def _by_groups(x: Any, scale: Any, bias: Any) -> Any:
    """Before opset 21, scale and bias were those of a group."""
    parts = x.reshape(x.shape[0], 2, -1)
    centred = parts - parts.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return (y * scale[:, None] + bias[:, None]).reshape(x.shape)


def _per_element(x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


def _trained_per_element(x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    now = x.mean(0), x.var(0)
    return _per_element(x, scale, bias, *now), mean * 0.6 + now[0] * 0.4, variance * 0.6 + now[1] * 0.4, *now


def _trained(x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    now = x.mean((0, 2, 3)), x.var((0, 2, 3))
    args = [v[:, None, None] for v in (scale, bias, *now)]
    return _per_element(x, *args), mean * 0.6 + now[0] * 0.4, variance * 0.6 + now[1] * 0.4, *now
