"""Canonical nodes as ONNX nodes: most keep their name, and attributes become arguments.

A form takes (node, names of its arguments and of its results, attributes, Writer) and writes one ONNX node. Operators
without a form here are written under their own name with their own attributes; what ONNX cannot say raises `NoForm`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import floor, inf
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ..dtypes import dtype
from ..ir import Array, Graph, Node
from ..op import const_array, full_attrs, is_const
from ..ops.common import limits
from .opset import NEWEST
from .writer import NoForm, Writer

__all__ = ["NoForm", "form", "write"]

Form = Callable[[Node, list[str], list[str], dict[str, Any], Writer], None]
FORMS: dict[str, Form] = {}


def write(node: Node, args: list[str], outputs: list[str], writer: Writer) -> None:
    """The ONNX node of a node; `NoForm` where ONNX has none for its element types or attributes."""
    if onnx.defs.has(node.op, NEWEST, ""):
        formal = onnx.defs.get_schema(node.op, NEWEST, "").inputs
        args = [_typed(node, k, formal[min(k, len(formal) - 1)].types, args[k], writer) for k in range(len(args))]
    attrs: dict[str, Any] = dict(full_attrs(node))
    if any(isinstance(v, Graph) for v in attrs.values()):
        raise NoForm(f"{node.op} with graphs of its own")
    known_form = FORMS.get(node.op)
    if known_form is not None:
        known_form(node, args, outputs, attrs, writer)
    elif node.op.startswith("Edgec.") or not onnx.defs.has(node.op, NEWEST, ""):
        raise NoForm(node.op)
    else:
        known = onnx.defs.get_schema(node.op, NEWEST, "").attributes
        attrs = {k: v for k, v in attrs.items() if k != "shape" or v != ()}
        if strange := [key for key in attrs if key not in known]:
            raise NoForm(f"{node.op} with {strange[0]}")
        given = {k: v for k, v in attrs.items() if not _says_nothing(k, v) and not _default(known[k], v)}
        writer.node(node.op, args, outputs, **given)


def _typed(node: Node, place: int, known: Collection[str], name: str, writer: Writer) -> str:
    """The name of an argument in a type that ONNX takes there: places of i32 are widened."""
    kind = node.args[place].type.dtype
    if f"tensor({helper.tensor_dtype_to_string(dtype(kind).onnx).rpartition('.')[2].lower()})" in known:
        return name
    if kind != "i32" or set(known) != {"tensor(int64)"}:
        raise NoForm(f"{node.op} of {kind}")
    wide = writer.unique(f"{name}.wide")
    writer.node("Cast", [name], [wide], to=onnx.TensorProto.INT64)
    return wide


def _says_nothing(key: str, value: Any) -> bool:
    """An empty tuple, or one that holds what is meant where it is left out."""
    usual = {"dilations": 1, "strides": 1, "pads": 0, "output_padding": 0}
    return value == () or (key in usual and isinstance(value, tuple) and set(value) == {usual[key]})


def _default(attribute: Any, value: Any) -> bool:
    """Whether an attribute is left out: it says what the definition says anyway."""
    default = attribute.default_value
    if not default.type:
        return False
    plain = helper.get_attribute_value(default)
    return bool((plain.decode() if isinstance(plain, bytes) else plain) == value)


def form(*ops: str) -> Callable[[Form], Form]:
    def register(fn: Form) -> Form:
        FORMS.update(dict.fromkeys(ops, fn))
        return fn

    return register


@form("Edgec.Layout")
def _copy(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Identity", args, outputs)


@form("Cast")
def _cast(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    if attrs["to"] == "f8e8m0":
        raise NoForm("Cast with round_mode")
    extra = {} if attrs["saturate"] else {"saturate": 0}
    w.node("Cast", args, outputs, to=dtype(attrs["to"]).onnx, **extra)


@form("QuantizeLinear", "DequantizeLinear")
def _quantized(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    extra = {"block_size": attrs["block"]} if attrs["block"] else {}
    if attrs.get("saturate") == 0:
        extra["saturate"] = 0
    if node.args[1].type.size > 1:
        extra["axis"] = attrs["axis"]
    scale, zero = node.args[1:]
    if node.op == "DequantizeLinear" and attrs["to"] not in ("", scale.type.dtype):
        if (scale.type.dtype, attrs["to"]) != ("f16", "f32"):
            raise NoForm(f"DequantizeLinear to {attrs['to']}")
        args = [args[0], w.after("Cast", [args[1]], to=dtype("f32").onnx), args[2]]
    if zero.shape != scale.shape:
        if not is_const(zero):
            raise NoForm(f"{node.op} with one zero point that is computed")
        args = [*args[:2], w.constant(np.full(scale.shape, const_array(zero)))]
    elif node.op == "DequantizeLinear" and zero.type.size > 1 and is_const(zero) and not const_array(zero).any():
        args = args[:2]  # zeros are what ONNX takes where there are none
    w.node(node.op, args, outputs, **extra)


@form("TopK")
def _top(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("TopK", [*args, w.ints([attrs["k"]])], outputs, axis=-1, largest=attrs["largest"], sorted=1)


@form("Col2Im")
def _columns(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    shapes = [w.ints(attrs.pop("image_shape")), w.ints(attrs.pop("block_shape"))]
    w.node("Col2Im", [*args, *shapes], outputs, **{k: v for k, v in attrs.items() if v})


@form("RoiAlign")
def _regions(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    how = "half_pixel" if attrs.pop("half_pixel") else "output_half_pixel"
    w.node("RoiAlign", args, outputs, coordinate_transformation_mode=how, **attrs)


@form("Clip")
def _clip(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    kind = node.types[0].dtype
    low, high = limits(kind)
    numbers = [(attrs["min"], -inf), (attrs["max"], inf)]
    ends = ["" if x == none else w.constant(_number(min(max(x, low), high), kind)) for x, none in numbers]
    w.node("Clip", [*args, *ends], outputs)


def _number(x: float, kind: str) -> Array:
    return np.asarray(x).astype(dtype(kind).numpy)


@form("Reshape")
def _reshape(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Reshape", [*args, w.ints(attrs["shape"])], outputs, **({"allowzero": 1} if 0 in attrs["shape"] else {}))


@form("Expand", "Tile")
def _repeated(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node(node.op, [*args, w.ints(attrs["shape"] if node.op == "Expand" else attrs["repeats"])], outputs)


@form("Trilu")
def _trilu(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Trilu", [*args, w.constant(np.int64(attrs["k"]))], outputs, upper=attrs["upper"])


@form("Split")
def _split(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Split", [*args, w.ints(attrs["split"])], outputs, axis=attrs["axis"])


@form("Slice")
def _slice(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    """An end before the first element counts from the back in ONNX."""
    shape = node.args[0].shape
    ends = [-shape[a] - 1 if e == -1 else e for a, e in zip(attrs["axes"], attrs["ends"], strict=True)]
    w.node("Slice", [*args, *(w.ints(x) for x in (attrs["starts"], ends, attrs["axes"], attrs["steps"]))], outputs)


@form("Pad")
def _pad(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    value = [w.constant(_number(attrs["value"], node.types[0].dtype))] if attrs["mode"] == "constant" else []
    w.node("Pad", [*args, w.ints(attrs["pads"]), *value], outputs, mode=attrs["mode"])


@form("Resize")
def _resize(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    """By scales where they give the sizes, by sizes where these give the scales."""
    sizes, scales = attrs.pop("sizes"), attrs.pop("scales")
    axes = list(zip(node.args[0].shape, scales, sizes, strict=True))
    # the sizes that scales give are computed in f32 by some, in f64 by others
    if all(floor(np.float32(s) * np.float32(n)) == m == floor(float(np.float32(s)) * n) for n, s, m in axes):
        given = ["", w.constant(np.asarray(scales, np.float32))]
    elif all(abs(s - m / n) < 1e-6 * s for n, s, m in axes):
        given = ["", "", w.ints(sizes)]
    else:
        raise NoForm("Resize whose sizes and scales differ")
    w.node("Resize", [*args, *given], outputs, **attrs)


@form("Edgec.Blend")
def _blended(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    """One picked and weighted copy for each tap, and their sum."""
    if not all(map(is_const, node.args[1:])):
        raise NoForm("Edgec.Blend whose positions or weights are computed")
    x, kind, axis = args[0], node.types[0].dtype, attrs["axis"] % len(node.types[0].shape)
    if node.args[0].type.dtype != kind:
        x = w.after("Cast", [x], to=dtype(kind).onnx)
    positions = np.clip(const_array(node.args[1]), 0, node.args[0].shape[axis] - 1).astype(np.int64)
    weights = const_array(node.args[2]).reshape(*positions.shape, *(1,) * (len(node.types[0].shape) - axis - 1))
    taps = [
        w.after("Mul", [w.after("Gather", [x, w.constant(where)], axis=axis), w.constant(factor)])
        for where, factor in zip(positions, weights, strict=True)
    ]
    for tap in taps[1:-1]:
        taps[0] = w.after("Add", [taps[0], tap])
    w.node(*(("Add", [taps[0], taps[-1]]) if len(taps) > 1 else ("Identity", taps)), outputs)


@form("CumSum")
def _cumulated(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("CumSum", [*args, w.constant(np.int64(attrs.pop("axis")))], outputs, **attrs)


def _reduce(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    extra = {} if attrs["axes"] else {"noop_with_empty_axes": 1}
    w.node(node.op, [*args, w.ints(attrs["axes"])], outputs, keepdims=attrs["keepdims"], **extra)


for _name in "Sum Mean Max Min Prod SumSquare L1 L2 LogSum LogSumExp".split():
    FORMS[f"Reduce{_name}"] = _reduce
