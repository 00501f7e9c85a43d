"""What numpy lacks at ONNX Runtime's Python interface: of element types bytes go in and floats come out; maps come out
as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..dtypes import DTYPES, dtype, of_numpy

Arrays = dict[str, npt.NDArray[Any]]
_SUFFIX = " as float"


def foreign(kind: str) -> str:
    """Our name of an ONNX Runtime type, `tensor(bfloat16)` say, that numpy lacks; "" where it has it."""
    names = {f"tensor({onnx.TensorProto.DataType.Name(row.onnx).lower()})": row for row in DTYPES.values()}
    row = names.get(kind)
    return row.name if row and row.numpy.isbuiltin == 2 else ""


def show_as_floats(proto: Any, kinds: Mapping[str, str]) -> None:
    """Cast these outputs of a model to f32, which holds each of their numbers."""
    for output in proto.graph.output:
        if output.name in kinds:
            proto.graph.node.append(
                onnx.helper.make_node("Cast", [output.name], [output.name + _SUFFIX], to=onnx.TensorProto.FLOAT)
            )
            output.CopyFrom(onnx.ValueInfoProto(name=output.name + _SUFFIX))


def run(session: Any, feed: Mapping[str, npt.NDArray[Any]], kinds: Mapping[str, str]) -> Arrays:
    """Outputs by name; `kinds` names the element types of those that come as floats."""
    names = [o.name for o in session.get_outputs()]
    if not any(map(_is_foreign, feed.values())):
        values = session.run(names, dict(feed))
    else:
        given = {name: _value(array) for name, array in feed.items()}
        values = [value.numpy() for value in session.run_with_ort_values(names, given)]
    arrays = {k: _from_maps(v) for k, v in zip(names, values, strict=True)}
    found = {k: v for k, v in arrays.items() if isinstance(v, np.ndarray)}
    return {
        name.removesuffix(_SUFFIX): array.astype(dtype(kinds[name.removesuffix(_SUFFIX)]).numpy)
        if name.endswith(_SUFFIX)
        else array
        for name, array in found.items()
    }


def _from_maps(value: Any) -> Any:
    """Maps from label to score as rows, by ascending label; anything else as it is."""
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        return value
    return np.asarray([[row[label] for label in sorted(row)] for row in value], np.float32)


def _is_foreign(array: npt.NDArray[Any]) -> bool:
    return array.dtype.isbuiltin == 2


def _value(array: npt.NDArray[Any]) -> Any:
    import onnxruntime as ort

    if not _is_foreign(array):
        return ort.OrtValue.ortvalue_from_numpy(array)
    row = dtype(of_numpy(array.dtype))
    codes = np.ascontiguousarray(array).view(f"u{row.bytes}").copy()
    if row.bits == 4:
        _pack(codes.reshape(-1))
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(codes, row.onnx)


def _pack(codes: npt.NDArray[np.uint8]) -> None:
    """Two elements of 4 bits per byte, in the first half: there ONNX Runtime looks for them."""
    pairs = np.append(codes & 15, np.zeros(codes.size % 2, np.uint8))
    codes[: pairs.size // 2] = pairs[::2] | pairs[1::2] << 4
