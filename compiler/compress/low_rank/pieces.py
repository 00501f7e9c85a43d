"""What a layer becomes when it is split: nodes of the same kind in a chain, known by the shapes of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Attr, Node, Value
from ...layers import Layer
from ...macs import node_macs
from ...op import build, const, full_attrs
from ...ops.common import Tensor, fill


@dataclass(frozen=True)
class Piece:
    """One node: `shape` of its weights is [outputs, inputs of a group, *window]; no window is a matrix product."""

    shape: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    group: int = 1
    matrix: bool = False

    @property
    def attrs(self) -> dict[str, Attr]:
        """Of the node that it becomes."""
        if self.matrix:
            return {}
        return {"strides": self.strides, "pads": self.pads, "dilations": self.dilations, "group": self.group}

    def along(self, outputs: int, inputs: int, axes: Sequence[int], group: int = 1) -> Piece:
        """A piece whose window, stride, padding and dilation are this one's on some axes, and none on the others."""
        if self.matrix:
            return Piece((outputs, inputs), matrix=True)
        rank = len(self.window)
        kept = [k in axes for k in range(rank)]
        window = tuple(n if keep else 1 for n, keep in zip(self.window, kept, strict=True))
        strides = tuple(n if keep else 1 for n, keep in zip(self.strides, kept, strict=True))
        dilations = tuple(n if keep else 1 for n, keep in zip(self.dilations, kept, strict=True))
        pads = tuple(n if keep else 0 for n, keep in zip(self.pads, kept * 2, strict=True))
        return Piece((outputs, inputs, *window), strides, pads, dilations, group)

    def pointwise(self, outputs: int, inputs: int) -> Piece:
        """A piece of the same kind that mixes channels only."""
        return self.along(outputs, inputs, ())

    @property
    def outputs(self) -> int:
        return self.shape[0]

    @property
    def inputs(self) -> int:
        return self.shape[1] * self.group

    @property
    def window(self) -> tuple[int, ...]:
        return self.shape[2:]


def piece_of(layer: Layer) -> Piece:
    """A layer as it is."""
    shape = layer.weights.shape
    if layer.node.op == "MatMul":
        return Piece((shape[1], shape[0]), matrix=True)
    attrs, rank = full_attrs(layer.node), len(shape) - 2
    strides, dilations, pads = (
        fill(attrs[k], n * rank, usual, k)  # type: ignore[arg-type]
        for k, n, usual in (("strides", 1, 1), ("dilations", 1, 1), ("pads", 2, 0))
    )
    return Piece(shape, tuple(strides), tuple(pads), tuple(dilations), int(str(attrs.get("group", 1))))


def weights_of(layer: Layer) -> Tensor:
    """A layer's weights as [outputs, inputs, *window]."""
    return np.asarray(layer.weights.T if layer.node.op == "MatMul" else layer.weights)


def chain(
    x: Value,
    pieces: Sequence[Piece],
    weights: Sequence[Tensor] | None = None,
    bias: Tensor | None = None,
    name: str = "",
    origin: Sequence[str] = (),
) -> list[Node]:
    """The nodes in order; without `weights` these are ones that take no memory. The last has the name and bias."""
    nodes: list[Node] = []
    for k, piece in enumerate(pieces):
        # Not zeros: kernels leave those out, and would cost nothing.
        w = np.broadcast_to(np.float32(1), piece.shape) if weights is None else _stored(weights[k])
        last = k + 1 == len(pieces)
        label = name if last or not name else f"{name}_low_rank{k + 1 if len(pieces) > 2 else ''}"
        if piece.matrix:
            x = build("MatMul", x, const(w.T if weights is None else _stored(w.T)), origin=origin, label=label)
        else:
            b = bias if last and bias is not None else np.zeros(piece.outputs, np.float32)
            x = build("Conv", x, const(w), const(_stored(b)), origin=origin, label=label, **piece.attrs)
        nodes.append(x.node)
    return nodes


def chain_macs(x: Value, pieces: Sequence[Piece]) -> int:
    """Multiplications of pieces on an input."""
    return sum(map(node_macs, chain(x, pieces)))


def _stored(array: Tensor) -> Tensor:
    return np.ascontiguousarray(array, np.float32)
