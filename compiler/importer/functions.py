"""What stands for a node whose operator is defined by others: ONNX's own definitions and the functions of the model.

A body is made for one node: its attributes put in, the arguments that it leaves out left out, and where the definition
depends on element types or shapes, for the node's own. It is converted where the node stands (`convert.py`), in a scope
and with operator sets of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from ..dtypes import dtype
from ..errors import EdgecError
from ..ir import Value
from .context import Held, Items
from .read import cleaned, one_line, subgraphs
from .table import Refused

Versions: TypeAlias = "Mapping[str, int]"  # of operator sets, by domain; ONNX's own is ""
Functions: TypeAlias = "Mapping[tuple[str, str], onnx.FunctionProto]"  # by domain and name
Definition: TypeAlias = "onnx.FunctionProto | onnx.defs.OpSchema"


@dataclass(frozen=True)
class Body:
    """The names that stand for a node's arguments and results, and the nodes between them.

    `free` are values from outside that graphs among the node's attributes read; here they are named by `outside`.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    graph: gs.Graph
    versions: Versions
    free: Collection[str]


def definition(node: gs.Node, versions: Versions, functions: Functions) -> Definition | None:
    """What defines a node's operator by others: a function of the model, else ONNX itself; None where nothing does."""
    domain = plain_domain(node.domain)
    if (domain, node.op) in functions:
        return functions[domain, node.op]
    version = versions.get(domain, 0)
    if not onnx.defs.has(node.op, version, domain):
        return None
    schema = onnx.defs.get_schema(node.op, version, domain)
    return schema if schema.has_function or schema.has_context_dependent_function else None  # type: ignore[attr-defined]


def plain_domain(domain: str | None) -> str:
    """The domain under the name that it has here: ONNX's own has two."""
    return "" if domain in (None, "ai.onnx") else str(domain)


def body(
    node: gs.Node,
    defined: Definition,
    types: Sequence[onnx.TypeProto | None],
    wanted: Collection[int],
    versions: Versions,
) -> Body:
    """The definition for one node; `types` are its arguments', None where left out, `wanted` the results to compute."""
    try:
        proto = OnnxExporter.export_node(node)
        free = {n for graph in subgraphs(proto) for n in _name_free(graph, frozenset())}
        if isinstance(defined, onnx.FunctionProto):
            function = onnx.FunctionProto()
            function.CopyFrom(defined)
            defaults: Iterable[onnx.AttributeProto] = function.attribute_proto
        else:
            defaults = [a.default_value for a in defined.attributes.values() if a.default_value.name]
            function = _of_schema(defined, proto, types, versions)
    except (RuntimeError, ValueError, TypeError, DecodeError) as error:
        raise Refused(f"its definition cannot be expanded: {one_line(error)}") from None
    if len(types) > len(function.input) or len(node.outputs) > len(function.output):
        raise EdgecError(f"{function.name!r} has {len(function.input)} arguments and {len(function.output)} results")
    given = {a.name: a for a in (*defaults, *proto.attribute)}
    absent = {name for name, t in zip_longest(function.input, types) if t is None}
    for inner in function.node:
        _bind(inner, given, absent)
    own = {plain_domain(o.domain): o.version for o in function.opset_import}
    outputs = [onnx.ValueInfoProto(name=function.output[k]) for k in wanted]
    model = helper.make_model(helper.make_graph(function.node, function.name, [], outputs))
    return Body(list(function.input), list(function.output), cleaned(model), {**versions, **own}, free)


def _of_schema(
    schema: Any, node: onnx.NodeProto, types: Sequence[onnx.TypeProto | None], versions: Versions
) -> onnx.FunctionProto:
    """ONNX's definition: of those written for several operator sets, the latest that the model knows."""
    depends = schema.has_context_dependent_function
    known = schema.context_dependent_function_opset_versions if depends else schema.function_opset_versions
    version = max((v for v in known if v <= versions.get("", 0)), default=min(known))
    if depends:
        protos = [b"" if t is None else t.SerializeToString() for t in types]
        text = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), protos)
    else:
        text = schema.get_function_with_opset_version(version)
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    if not function.node or not function.output:
        raise ValueError("ONNX has none for these arguments and attributes")
    return function


def type_proto(value: Held) -> onnx.TypeProto:
    """The type as ONNX writes it; of an empty sequence or optional, which has lost it, that of f32 numbers."""
    if isinstance(value, Value):
        return helper.make_tensor_type_proto(dtype(value.type.dtype).onnx, value.shape)
    members = value.members if isinstance(value, Items) else ()
    element = helper.make_tensor_type_proto(dtype(members[0].type.dtype).onnx if members else 1, None)
    make = helper.make_sequence_type_proto if isinstance(value, Items) else helper.make_optional_type_proto
    return make(element)


def _bind(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto], absent: Collection[str]) -> None:
    """Put attributes in the place of references to them, and nothing in the place of arguments that are left out."""
    for k, name in enumerate(node.input):
        if name in absent:
            node.input[k] = ""
    for k in reversed(range(len(node.attribute))):
        attribute = node.attribute[k]
        if not attribute.ref_attr_name:
            continue
        if attribute.ref_attr_name in given:
            name = attribute.name
            attribute.CopyFrom(given[attribute.ref_attr_name])
            attribute.name = name
        else:
            del node.attribute[k]
    for graph in subgraphs(node):
        for inner in graph.node:
            _bind(inner, given, absent)


def outside(name: str) -> str:
    """How a definition calls a value that is none of its own."""
    return f"outer {name}"


def _name_free(graph: onnx.GraphProto, known: Collection[str]) -> set[str]:
    """What a graph reads from outside, renamed there so that no name of a definition hides it."""
    known = {*known, *(t.name for t in (*graph.input, *graph.initializer)), *(o for n in graph.node for o in n.output)}
    free = set()
    for node in graph.node:
        for k, name in enumerate(node.input):
            if name and name not in known:
                node.input[k] = outside(name)
                free.add(name)
        for inner in subgraphs(node):
            free |= _name_free(inner, known)
    return free
