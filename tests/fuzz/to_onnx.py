"""Canonical graphs as ONNX models: most nodes are ONNX nodes whose attributes became arguments.

A form takes (node, names of its arguments, Writer) and writes one ONNX node. Operators without a form here are written
under their own name with their own attributes; what ONNX cannot say raises `NoForm`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, inf
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Array, Graph, Node, Type, Value
from edgec.compiler.op import const_array, full_attrs
from edgec.compiler.ops.common import limits

OPSET = 21
_IR_VERSION = 10


class NoForm(Exception):
    """ONNX has no node for it."""


class Writer:
    """An ONNX graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.asarray(values, np.int64))

    def node(self, op: str, args: Sequence[str], outputs: Sequence[str], **attrs: Any) -> None:
        self.nodes.append(helper.make_node(op, list(args), list(outputs), **attrs))


Form = Callable[[Node, list[str], list[str], dict[str, Any], Writer], None]
FORMS: dict[str, Form] = {}


def model(graph: Graph) -> onnx.ModelProto:
    """The graph as an ONNX model with the same names of inputs and outputs."""
    writer = Writer()
    names: dict[Value, str] = {v: v.name for v in graph.inputs}
    wanted = {v: name for name, v in reversed(graph.results)}
    for number, node in enumerate(graph.nodes()):
        if node.op == "Input":
            continue
        if node.op == "Const":
            names[Value(node)] = writer.constant(const_array(Value(node)))
            continue
        outputs = [wanted.get(v, f"v{number}_{v.index}") for v in node.results]
        names.update(zip(node.results, outputs, strict=True))
        write(node, [names[a] for a in node.args], outputs, writer)
    given = [_info(v.name, v.type) for v in graph.inputs]
    results = [_info(name, v.type) for name, v in graph.results]
    for name, value in graph.results:
        if names[value] != name:
            writer.node("Identity", [names[value]], [name])
    return _model(helper.make_graph(writer.nodes, graph.name, given, results, writer.constants))


def single(node: Node) -> onnx.ModelProto:
    """A model of one node, its arguments `a0`, `a1` ... and its results `r0`, `r1` ..."""
    writer = Writer()
    args, results = [f"a{k}" for k in range(len(node.args))], [f"r{k}" for k in range(len(node.types))]
    write(node, args, results, writer)
    given = [_info(name, a.type) for name, a in zip(args, node.args, strict=True)]
    made = [_info(name, t) for name, t in zip(results, node.types, strict=True)]
    return _model(helper.make_graph(writer.nodes, "one", given, made, writer.constants))


def write(node: Node, args: list[str], outputs: list[str], writer: Writer) -> None:
    """The ONNX node of a node; `NoForm` where ONNX has none for its element types or attributes."""
    if onnx.defs.has(node.op, OPSET, ""):
        formal = onnx.defs.get_schema(node.op, OPSET, "").inputs
        for k, arg in enumerate(node.args):
            name = helper.tensor_dtype_to_string(dtype(arg.type.dtype).onnx).rpartition(".")[2].lower()
            if f"tensor({name})" not in formal[min(k, len(formal) - 1)].types:
                raise NoForm(f"{node.op} of {arg.type.dtype}")
    attrs: dict[str, Any] = dict(full_attrs(node))
    if any(isinstance(v, Graph) for v in attrs.values()):
        raise NoForm(f"{node.op} with graphs of its own")
    form = FORMS.get(node.op)
    if form is not None:
        form(node, args, outputs, attrs, writer)
    elif node.op.startswith("Edgec.") or not onnx.defs.has(node.op, OPSET, ""):
        raise NoForm(node.op)
    else:
        known = onnx.defs.get_schema(node.op, OPSET, "").attributes
        attrs = {k: v for k, v in attrs.items() if k != "shape" or v != ()}
        if strange := [key for key in attrs if key not in known]:
            raise NoForm(f"{node.op} with {strange[0]}")
        writer.node(node.op, args, outputs, **{k: v for k, v in attrs.items() if v != ()})


def _info(name: str, t: Type) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype(t.dtype).onnx, t.shape)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)


def _form(*ops: str) -> Callable[[Form], Form]:
    def register(form: Form) -> Form:
        FORMS.update(dict.fromkeys(ops, form))
        return form

    return register


@_form("Edgec.Layout")
def _copy(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Identity", args, outputs)


@_form("Cast")
def _cast(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    if attrs["to"] == "f8e8m0":
        raise NoForm("Cast with round_mode")
    w.node("Cast", args, outputs, to=dtype(attrs["to"]).onnx, saturate=attrs["saturate"])


@_form("QuantizeLinear", "DequantizeLinear")
def _quantized(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    extra = {"saturate": attrs["saturate"]} if node.op == "QuantizeLinear" else {}
    w.node(node.op, args, outputs, axis=attrs["axis"], block_size=attrs["block"], **extra)


@_form("TopK")
def _top(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("TopK", [*args, w.ints([attrs["k"]])], outputs, axis=-1, largest=attrs["largest"], sorted=1)


@_form("Col2Im")
def _columns(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    shapes = [w.ints(attrs.pop("image_shape")), w.ints(attrs.pop("block_shape"))]
    w.node("Col2Im", [*args, *shapes], outputs, **{k: v for k, v in attrs.items() if v})


@_form("RoiAlign")
def _regions(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    how = "half_pixel" if attrs.pop("half_pixel") else "output_half_pixel"
    w.node("RoiAlign", args, outputs, coordinate_transformation_mode=how, **attrs)


@_form("Clip")
def _clip(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    kind = node.types[0].dtype
    low, high = limits(kind)
    numbers = [(attrs["min"], -inf), (attrs["max"], inf)]
    ends = ["" if x == none else w.constant(_number(min(max(x, low), high), kind)) for x, none in numbers]
    w.node("Clip", [*args, *ends], outputs)


def _number(x: float, kind: str) -> Array:
    return np.asarray(x).astype(dtype(kind).numpy)


@_form("Reshape")
def _reshape(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Reshape", [*args, w.ints(attrs["shape"])], outputs, allowzero=int(0 in attrs["shape"]))


@_form("Expand", "Tile")
def _repeated(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node(node.op, [*args, w.ints(attrs["shape"] if node.op == "Expand" else attrs["repeats"])], outputs)


@_form("Trilu")
def _trilu(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Trilu", [*args, w.constant(np.int64(attrs["k"]))], outputs, upper=attrs["upper"])


@_form("Split")
def _split(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("Split", [*args, w.ints(attrs["split"])], outputs, axis=attrs["axis"])


@_form("Slice")
def _slice(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    """An end before the first element counts from the back in ONNX."""
    shape = node.args[0].shape
    ends = [-shape[a] - 1 if e == -1 else e for a, e in zip(attrs["axes"], attrs["ends"], strict=True)]
    w.node("Slice", [*args, *(w.ints(x) for x in (attrs["starts"], ends, attrs["axes"], attrs["steps"]))], outputs)


@_form("Pad")
def _pad(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    value = [w.constant(_number(attrs["value"], node.types[0].dtype))] if attrs["mode"] == "constant" else []
    w.node("Pad", [*args, w.ints(attrs["pads"]), *value], outputs, mode=attrs["mode"])


@_form("Resize")
def _resize(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    """By scales where they give the sizes, by sizes where these give the scales."""
    sizes, scales = attrs.pop("sizes"), attrs.pop("scales")
    axes = list(zip(node.args[0].shape, scales, sizes, strict=True))
    if all(floor(np.float32(s) * np.float32(n)) == m for n, s, m in axes):
        given = ["", w.constant(np.asarray(scales, np.float32))]
    elif all(abs(s - m / n) < 1e-6 * s for n, s, m in axes):
        given = ["", "", w.ints(sizes)]
    else:
        raise NoForm("Resize whose sizes and scales differ")
    w.node("Resize", [*args, *given], outputs, **attrs)


@_form("CumSum")
def _cumulated(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node("CumSum", [*args, w.constant(np.int64(attrs.pop("axis")))], outputs, **attrs)


def _reduce(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    w.node(node.op, [*args, w.ints(attrs["axes"])], outputs, keepdims=attrs["keepdims"], noop_with_empty_axes=1)


for _name in "Sum Mean Max Min Prod SumSquare L1 L2 LogSum LogSumExp".split():
    FORMS[f"Reduce{_name}"] = _reduce
