"""Results whose size depends on data as ONNX nodes: what ONNX finds, zeros after it, and how much it has found."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from ..dtypes import dtype
from ..ir import Node, Type
from .forms import form
from .writer import NoForm, Writer


def _filled(found: str, t: Type, axis: int, outputs: list[str], w: Writer) -> None:
    """Both results: the count, and what was found in the type of its largest size."""
    w.node("Gather", [w.after("Shape", [found]), w.constant(np.int64(axis))], [outputs[1]])
    zero = helper.make_tensor("zero", dtype(t.dtype).onnx, (1,), [0])
    rest = w.after("ConstantOfShape", [w.ints(t.shape)], value=zero)
    ends = [w.ints([n]) for n in (0, t.shape[axis], axis)]
    w.node("Slice", [w.after("Concat", [found, rest], axis=axis), *ends], [outputs[0]])


@form("Edgec.NonZero")
def _non_zero(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    _filled(w.after("NonZero", args), node.types[0], 1, outputs, w)


@form("Edgec.Compress")
def _compress(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    axis = attrs["axis"] % len(node.types[0].shape)
    _filled(w.after("Compress", args, axis=axis), node.types[0], axis, outputs, w)


@form("Edgec.NonMaxSuppression")
def _suppression(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    """Nothing yet: ONNX has it together with the list that is made of its results."""


@form("Edgec.Listed")
def _list(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    suppression = node.args[0].node
    if suppression.op != "Edgec.NonMaxSuppression":
        raise NoForm(f"{node.op} of {suppression.op}")
    if suppression.args[0].type.dtype != "f32":
        raise NoForm(f"{suppression.op} of {suppression.args[0].type.dtype}")
    center = {"center_point_box": 1} if suppression.attrs["center"] else {}
    boxes, scores, *limits = (w.names[a] for a in suppression.args)
    limits = [w.after("Reshape", [limit, w.ints([1])]) for limit in limits]
    _filled(w.after("NonMaxSuppression", [boxes, scores, *limits], **center), node.types[0], 0, outputs, w)


@form("Edgec.Below")
def _below(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Less", [w.ints(range(attrs["size"])), *args], outputs)


@form("Edgec.Sized")
def _sized(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    axis = attrs["axis"] % len(node.types[0].shape)
    there = w.after("Less", [w.ints(range(node.types[0].shape[axis])), args[1]])
    w.node("Compress", [args[0], there], outputs, axis=axis)
