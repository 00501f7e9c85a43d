"""Writes a canonical graph as an ONNX model with the same names of inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from ..dtypes import dtype
from ..errors import EdgecError
from ..files import replaced
from ..ir import Graph, Type, Value
from ..op import const_array
from . import counted as counted
from . import recurrence as recurrence
from .forms import NoForm, write
from .opset import least_opset
from .writer import Writer

__all__ = ["NoForm", "export_model", "save_model"]

_IR_VERSIONS = {21: 10, 19: 9, 15: 8, 13: 7}


def export_model(graph: Graph, opset: int | None = None) -> onnx.ModelProto:
    """The model in an opset, by default the least, 13 or later, that says all of it; `NoForm` names what ONNX cannot
    say."""
    wanted = {v: name for name, v in reversed(graph.results)}
    writer = Writer({v.name for v in graph.inputs} | {name for name, _ in graph.results})
    names = writer.names
    names.update((v, v.name) for v in graph.inputs)
    for node in graph.nodes():
        if node.op == "Input":
            continue
        if node.op == "Const":
            names[Value(node)] = writer.constant(const_array(Value(node)), node.name)
            continue
        outputs = [wanted[v] if v in wanted else writer.unique(v.name or node.op) for v in node.results]
        names.update(zip(node.results, outputs, strict=True))
        write(node, [names[a] for a in node.args], outputs, writer)
    for name, value in graph.results:
        if names[value] != name:
            writer.node("Identity", [names[value]], [name])
    writer.leave_out_unread(name for name, _ in graph.results)
    made, read = writer.made() | {v.name for v in graph.inputs}, writer.read() | set(wanted.values())
    for value, name in names.items():
        if name in read and name not in made:
            raise NoForm(f"{value.node.op} without what follows it")
    given = [_info(v.name, v.type) for v in graph.inputs]
    results = [_result(name, v) for name, v in graph.results]
    body = helper.make_graph(writer.nodes, graph.name, given, results, writer.constants)
    opset = opset or least_opset(writer.nodes)
    version = next(ir for least, ir in _IR_VERSIONS.items() if opset >= least)
    return helper.make_model(
        body, opset_imports=[helper.make_opsetid("", opset)], ir_version=version, producer_name="edgec"
    )


def save_model(graph: Graph, path: str | Path) -> onnx.ModelProto:
    """Write the model to a file, which appears as a whole or not at all."""
    try:
        model = export_model(graph)
    except NoForm as error:
        raise EdgecError(f"{path}: ONNX cannot say {error}") from error
    data = model.SerializeToString(deterministic=True)
    replaced(path, data)
    return model


def _result(name: str, value: Value) -> onnx.ValueInfoProto:
    """An output whose size depends on data has a symbolic dimension."""
    info = _info(name, value.type)
    if value.node.op == "Edgec.Sized":
        info.type.tensor_type.shape.dim[value.node.attrs["axis"]].dim_param = f"{name}.count"
    return info


def _info(name: str, t: Type) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype(t.dtype).onnx, t.shape)
