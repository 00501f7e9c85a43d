"""What a layer multiplies its weights with: one column of inputs per position of its result.

A layer's weights as rows: [groups, outputs of a group, inputs of an output].
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .ir import Node
from .op import full_attrs, ints_attr
from .ops.common import Tensor, fill, widened


def groups_of(node: Node) -> int:
    """How many parts of the inputs make parts of the outputs of their own."""
    return int(str(full_attrs(node).get("group", 1)))


def rows_of(node: Node, weights: Tensor) -> Tensor | None:
    """The weights as rows; None for a stack of matrices."""
    if node.op == "MatMul":
        return None if prod(weights.shape[:-2]) != 1 else np.asarray(weights.reshape(weights.shape[-2:]).T[None])
    groups = groups_of(node)
    if node.op == "Conv":
        return np.asarray(weights.reshape(groups, len(weights) // groups, -1))
    flipped = np.flip(weights, tuple(range(2, weights.ndim))).reshape(groups, -1, *weights.shape[1:])
    return np.asarray(np.swapaxes(flipped, 1, 2).reshape(groups, weights.shape[1], -1))


def weights_of(node: Node, rows: Tensor, like: Tensor) -> Tensor:
    """Rows as weights of the shape and type of `like`."""
    if node.op == "MatMul":
        made = rows[0].T.reshape(like.shape)
    elif node.op == "Conv":
        made = rows.reshape(like.shape)
    else:
        groups = len(rows)
        split = rows.reshape(groups, like.shape[1], like.shape[0] // groups, *like.shape[2:])
        made = np.flip(np.swapaxes(split, 1, 2).reshape(like.shape), tuple(range(2, like.ndim)))
    return np.ascontiguousarray(made.astype(like.dtype))


def result_axis(node: Node) -> int:
    """The axis of a layer's result that its outputs lie along."""
    return 1 if node.op != "MatMul" else len(node.types[0].shape) - 1


def columns(node: Node, x: Tensor, shape: tuple[int, ...], places: Tensor) -> Tensor:
    """[groups, inputs of an output, positions] in f32; `shape` of the result, `places` among its positions."""
    x = widened(x)
    if node.op == "MatMul":
        return np.ascontiguousarray(x.reshape(-1, x.shape[-1])[places].T[None], np.float32)
    windows = _windows(node, x)
    chosen = windows[_at(places, shape)]  # positions, channels, taps
    rows = chosen.reshape(len(places), groups_of(node), -1)
    return np.ascontiguousarray(rows.transpose(1, 2, 0), np.float32)


def results(node: Node, y: Tensor, places: Tensor) -> Tensor:
    """[groups, outputs of a group, positions] of an array like the layer's result."""
    y = widened(y)
    if node.op == "MatMul":
        return np.ascontiguousarray(y.reshape(-1, y.shape[-1])[places].T[None], np.float32)
    rows = y[_at(places, y.shape)].reshape(len(places), groups_of(node), -1)
    return np.ascontiguousarray(rows.transpose(1, 2, 0), np.float32)


def _at(places: Tensor, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Index of all channels at some positions of an array [N, channels, ...]."""
    first, *at = np.unravel_index(places, (shape[0], *shape[2:]))
    return (first, slice(None), *at)


def positions(node: Node) -> int:
    """How many columns one run of the layer has."""
    shape = node.types[0].shape
    return prod(shape) // max(shape[result_axis(node)], 1)


def _windows(node: Node, x: Tensor) -> Tensor:
    """A view [N, channels, positions ..., taps ...]."""
    attrs, rank, kernel = full_attrs(node), x.ndim - 2, node.args[1].shape[2:]
    strides = fill(ints_attr(node, "strides"), rank, 1, "strides")
    dilations = fill(ints_attr(node, "dilations"), rank, 1, "dilations")
    pads = fill(ints_attr(node, "pads"), 2 * rank, 0, "pads")
    if node.op == "ConvTranspose":
        assert isinstance(attrs["output_padding"], tuple)
        extra = fill(ints_attr(node, "output_padding"), rank, 0, "output_padding")
        x, strides = _spread(x, strides), (1,) * rank
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        pads = (
            *(r - pads[k] for k, r in enumerate(reach)),
            *(r - pads[k + rank] + extra[k] for k, r in enumerate(reach)),
        )
    x = np.pad(x, [(0, 0), (0, 0), *((max(pads[k], 0), max(pads[k + rank], 0)) for k in range(rank))])
    cut = (slice(max(-pads[k], 0), x.shape[k + 2] - max(-pads[k + rank], 0)) for k in range(rank))
    x = x[(slice(None), slice(None), *cut)]
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reaches, tuple(range(2, 2 + rank)))
    steps = (*(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    return np.asarray(windows[(slice(None), slice(None), *steps)])


def _spread(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Zeros between the positions of a transposed convolution's input."""
    size = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]
    wide = np.zeros((*x.shape[:2], *size), x.dtype)
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = x
    return wide
