"""From a file, bytes or a ModelProto to a checked model in memory, or one line that says what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, external_data_helper
from onnx_graphsurgeon.logger import G_LOGGER

from ..errors import EdgecError

OLDEST_OPSET = 6
ONNX_DOMAINS = ("", "ai.onnx")
_BYTES = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.INT8: 1, TensorProto.UINT8: 1}
_SMALL = 4096  # bytes of a weight that is checked as it is
# The checker refuses these; the importer sorts, lists every such node, or knows operators that are deprecated.
_LATER = ("No Op registered for", "topologically sorted", "No opset import for domain", "deprecated in domain_version")


def read_model(source: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model, checked and complete, and how messages call it. Raises `EdgecError`."""
    model, where, folder = _parse(source)
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise EdgecError(f"{where}: is not an ONNX model, or is empty")
    if not model.graph.output:
        raise EdgecError(f"{where}: has no outputs: there is nothing to compute")
    opset = opset_of(model)
    if opset < OLDEST_OPSET and not _means_the_same(model, opset):
        wanted = f"expected {OLDEST_OPSET} or later; onnx.version_converter can raise it"
        raise EdgecError(f"{where}: is written for opset {opset}; {wanted}")
    if opset > (newest := onnx.defs.onnx_opset_version()):
        wanted = f"onnx {onnx.__version__}, which is installed, knows no later than {newest}: install a newer one"
        raise EdgecError(f"{where}: is written for opset {opset}; {wanted}, or export the model for opset {newest}")
    _load_external(model, where, folder)
    _check(model, where)
    _name_overloads(model)
    return model, where


def _check(model: onnx.ModelProto, where: str) -> None:
    """ONNX's own checker. It insists on types of outputs and on shapes, which edgec does not read: missing ones are
    lent to it."""
    untyped = [v for v in model.graph.output if v.type.WhichOneof("value") is None]
    for v in untyped:
        v.type.tensor_type.elem_type = TensorProto.FLOAT
    tensors = [v.type.tensor_type for v in (*model.graph.input, *model.graph.output) if v.type.HasField("tensor_type")]
    lent = [t for t in tensors if not t.HasField("shape")]
    for t in lent:
        t.shape.SetInParent()
    try:
        onnx.checker.check_model(_without_weights(model))
    except onnx.checker.ValidationError as error:
        if not any(text in str(error) for text in _LATER):
            raise EdgecError(f"{where}: {one_line(error)}") from None
    except (ValueError, RuntimeError, MemoryError) as error:  # e.g. beyond 2 GiB
        raise EdgecError(f"{where}: cannot be checked: {one_line(error)}") from None
    for t in lent:
        t.ClearField("shape")
    for v in untyped:
        v.ClearField("type")
    if any(not isinstance(text, str) for text in _texts(model)):
        raise EdgecError(f"{where}: is not an ONNX model: its names are not text")


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with large weights empty: the checker, which takes a copy, looks at no element. Weights whose bytes do
    not fit their shape are left to it."""
    light = onnx.ModelProto()
    copy_besides(model, light, "graph")
    copy_besides(model.graph, light.graph, "initializer")
    for tensor in model.graph.initializer:
        made, size = light.graph.initializer.add(), prod(tensor.dims) * _BYTES.get(tensor.data_type, 0)
        if size > _SMALL and len(tensor.raw_data) == size and min(tensor.dims) > 0:
            copy_besides(tensor, made, "raw_data")
            made.dims[:], made.raw_data = [0], b""
        else:
            made.CopyFrom(tensor)
    return light


def copy_besides(source: Any, to: Any, besides: str) -> None:
    """All fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == besides:
            continue
        if hasattr(value, "extend"):
            getattr(to, field.name).extend(value)
        elif field.type == field.TYPE_MESSAGE:
            getattr(to, field.name).CopyFrom(value)
        else:
            setattr(to, field.name, value)


def _texts(model: onnx.ModelProto) -> Iterator[Any]:
    """Every name; a file can hold bytes there that are no text."""
    for named in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        yield named.name
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
    for node in _nodes(model.graph, *model.functions):
        yield from (node.op_type, node.name, node.domain, *node.input, *node.output)
        yield from (name for a in node.attribute for name in (a.name, a.ref_attr_name))


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set; a model that names none is of version 1."""
    return max((o.version for o in model.opset_import if o.domain in ONNX_DOMAINS), default=1)


def _means_the_same(model: onnx.ModelProto, opset: int) -> bool:
    """Whether all operators are as they still were in the oldest set that edgec knows; other domains are for later."""
    ops = {node.op_type for node in _nodes(model.graph) if node.domain in ONNX_DOMAINS}
    return all(
        onnx.defs.has(op, opset, "")
        and onnx.defs.get_schema(op, opset, "").since_version
        == onnx.defs.get_schema(op, OLDEST_OPSET, "").since_version
        for op in ops
    )


def one_line(error: BaseException, limit: int = 300) -> str:
    """The text of an error of a library, on one line."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _parse(source: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, str, Path | None]:
    if isinstance(source, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return copy, source.graph.name or "model", None
    if isinstance(source, bytes):
        return _decode(source, "model"), "model", None
    path = model_file(source)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EdgecError(f"{path}: cannot be read: {error.strerror}") from None
    return _decode(content, str(path)), str(path), path.parent


def model_file(path: str | Path) -> Path:
    """The path of a model; an `EdgecError` where no file is."""
    path = Path(path)
    if not path.exists():
        raise EdgecError(f"{path}: no such file")
    if not path.is_file():
        raise EdgecError(f"{path}: is not a file; expected an ONNX model")
    return path


def _decode(content: bytes, where: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RuntimeError, ValueError):
        hint = "; edgec opt reads graphs in text form" if where.endswith(".eir") else ""
        raise EdgecError(f"{where}: is not an ONNX model, or is truncated{hint}") from None
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in _nodes(model.graph, *model.functions):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for graph in subgraphs(node):
            yield from graph.initializer


def _load_external(model: onnx.ModelProto, where: str, folder: Path | None) -> None:
    """Read weights that lie in other files: only in the model's folder, and no more than those files hold."""
    for tensor in _tensors(model):
        if not external_data_helper.uses_external_data(tensor):
            continue
        what = f"{where}: external data of {tensor.name!r}"
        if folder is None:
            raise EdgecError(f"{what}: a model in memory has no folder to read it from; pass the file's path")
        info = {entry.key: entry.value for entry in tensor.external_data}
        location = info.get("location", "")
        path = (folder / location).resolve()
        if not location or not path.is_relative_to(folder.resolve()):
            raise EdgecError(f"{what}: {location!r} lies outside the model's folder")
        if not path.is_file():
            raise EdgecError(f"{what}: {location!r} is not there")
        try:
            offset, length = int(info.get("offset", 0)), int(info.get("length", 0))
        except ValueError:
            raise EdgecError(f"{what}: offset and length are not numbers") from None
        if offset < 0 or length < 0 or offset + length > path.stat().st_size:
            raise EdgecError(f"{what}: bytes {offset} to {offset + length} are beyond the end of {location!r}")
        with path.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length or -1)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT


def _nodes(*graphs: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """The nodes of graphs and of the graphs that these own."""
    for graph in graphs:
        for node in graph.node:
            yield node
            yield from _nodes(*subgraphs(node))


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node owns."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _name_overloads(model: onnx.ModelProto) -> None:
    """Functions of one name that differ in their overload alone get names of their own."""
    for function in model.functions:
        if function.overload:
            function.name, function.overload = f"{function.name}:{function.overload}", ""
    for node in _nodes(model.graph, *model.functions):
        if node.overload:
            node.op_type, node.overload = f"{node.op_type}:{node.overload}", ""


def cleaned(model: onnx.ModelProto) -> gs.Graph:
    """The graph without nodes that no output needs."""
    G_LOGGER.severity = G_LOGGER.CRITICAL
    try:
        return gs.import_onnx(model).cleanup()
    except RecursionError:
        raise EdgecError("sub-graphs are nested too deeply") from None
    except Exception as error:  # graphsurgeon raises what it likes
        raise EdgecError(f"cannot be read: {one_line(error)}") from None
