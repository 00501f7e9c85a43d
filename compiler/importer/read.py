"""From a file, bytes or a ModelProto to a checked model in memory, or one line that says what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, inliner

from ..errors import EdgecError, Unsupported, UnsupportedModel
from .table import CONVERTERS

OLDEST_OPSET = 7
ONNX_DOMAINS = ("", "ai.onnx")
# The checker refuses these; the importer sorts, or lists every such node.
_LATER = ("No Op registered for", "topologically sorted", "No opset import for domain")


def read_model(source: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model, checked and complete, and how messages call it. Raises `EdgecError`."""
    model, where, folder = _parse(source)
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise EdgecError(f"{where}: is not an ONNX model, or is empty")
    opset = opset_of(model)
    if opset < OLDEST_OPSET:
        raise EdgecError(
            f"{where}: is written for opset {opset}; edgec reads {OLDEST_OPSET} and later: convert it with onnx.version_converter"
        )
    _load_external(model, where, folder)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        if not any(text in str(error) for text in _LATER):
            raise EdgecError(f"{where}: {one_line(error)}") from None
    except (ValueError, RuntimeError, MemoryError) as error:  # e.g. beyond 2 GiB
        raise EdgecError(f"{where}: cannot be checked: {one_line(error)}") from None
    return _inlined(model, where), where


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set; a model that names none is of version 1."""
    return max((o.version for o in model.opset_import if o.domain in ONNX_DOMAINS), default=1)


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
    path = Path(source)
    if not path.exists():
        raise EdgecError(f"{path}: no such file")
    if not path.is_file():
        raise EdgecError(f"{path}: is not a file; expected an ONNX model")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EdgecError(f"{path}: cannot be read: {error.strerror}") from None
    return _decode(content, str(path)), str(path), path.parent


def _decode(content: bytes, where: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RuntimeError, ValueError):
        raise EdgecError(f"{where}: is not an ONNX model, or is truncated") from None
    return model


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)


def _load_external(model: onnx.ModelProto, where: str, folder: Path | None) -> None:
    """Read weights that lie in other files: only in the model's folder, and no more than those files hold."""
    for tensor in _tensors(model.graph):
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


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(inner)


def _inlined(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Model functions, and ONNX operators that have no converter but a definition by others, replaced by their bodies."""
    own = {(f.domain, f.name) for f in model.functions}
    defined = {
        (node.domain, node.op_type)
        for node in _nodes(model.graph)
        if node.domain in ONNX_DOMAINS and node.op_type not in CONVERTERS and _has_body(node.op_type, opset_of(model))
    }
    if not own and not defined:
        return model
    try:
        if own:
            model = inliner.inline_local_functions(model)
        if defined:
            model = inliner.inline_selected_functions(model, sorted(defined), inline_schema_functions=True)
    except (RuntimeError, ValueError, DecodeError) as error:
        names = ", ".join(sorted(name for _, name in own | defined))
        entry = Unsupported(where, names, opset_of(model), f"its definition cannot be expanded: {one_line(error)}")
        raise UnsupportedModel([entry]) from None
    return model


def _has_body(op: str, opset: int) -> bool:
    if not onnx.defs.has(op, opset, ""):
        return False
    schema: Any = onnx.defs.get_schema(op, opset, "")
    return bool(schema.has_function or schema.has_context_dependent_function)
