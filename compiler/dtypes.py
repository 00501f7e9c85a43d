"""Element types: one row per type, with its numpy twin, size in bits and ONNX number."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .errors import IRError, nearest


@dataclass(frozen=True)
class DType:
    """An element type. `tvm` is its spelling in TensorIR, `c` its enumerator in edgec.h."""

    name: str
    numpy: np.dtype[np.generic]
    onnx: int
    tvm: str
    c: str

    @property
    def bytes(self) -> int:
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self.name in ("f16", "bf16", "f32", "f64")

    @property
    def is_int(self) -> bool:
        return self.name[0] in "iu"


def _row(name: str, numpy: npt.DTypeLike, onnx: int, tvm: str, c: str) -> DType:
    return DType(name, np.dtype(numpy), onnx, tvm, c)


DTYPES: dict[str, DType] = {
    row.name: row
    for row in (
        _row("f32", np.float32, 1, "float32", "EC_F32"),
        _row("f16", np.float16, 10, "float16", "EC_F16"),
        _row("bf16", ml_dtypes.bfloat16, 16, "bfloat16", "EC_BF16"),
        _row("f64", np.float64, 11, "float64", "EC_F64"),
        _row("i8", np.int8, 3, "int8", "EC_I8"),
        _row("u8", np.uint8, 2, "uint8", "EC_U8"),
        _row("i16", np.int16, 5, "int16", "EC_I16"),
        _row("u16", np.uint16, 4, "uint16", "EC_U16"),
        _row("i32", np.int32, 6, "int32", "EC_I32"),
        _row("u32", np.uint32, 12, "uint32", "EC_U32"),
        _row("i64", np.int64, 7, "int64", "EC_I64"),
        _row("u64", np.uint64, 13, "uint64", "EC_U64"),
        _row("bool", np.bool_, 9, "bool", "EC_BOOL"),
    )
}
_BY_NUMPY = {row.numpy: row for row in DTYPES.values()}
_BY_ONNX = {row.onnx: row for row in DTYPES.values()}


def dtype(name: str) -> DType:
    """The row of a type name; an unknown one is an `IRError` with the nearest name."""
    if name not in DTYPES:
        raise IRError(f"unknown element type {name!r}{nearest(name, DTYPES)}")
    return DTYPES[name]


def of_numpy(array_dtype: npt.DTypeLike) -> str:
    """Our name of a numpy type."""
    row = _BY_NUMPY.get(np.dtype(array_dtype))
    if row is None:
        raise IRError(f"element type {np.dtype(array_dtype)} is not supported{nearest(str(array_dtype), DTYPES)}")
    return row.name


def of_onnx(number: int) -> str | None:
    """Our name of an ONNX `TensorProto.DataType`, or None where we have none (string, complex ...)."""
    row = _BY_ONNX.get(number)
    return row.name if row else None
