"""Element types: one row per type, with its numpy twin, size in bits and ONNX number.

Those of fewer than 8 bits, and floats of 8, only *store* numbers: they are moved and converted, never computed with.
In memory every element takes whole bytes; one of 4 bits lies in a byte of its own, sign-extended where it is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .errors import IRError, nearest


@dataclass(frozen=True)
class DType:
    """An element type. `tvm` is the type in TensorIR that holds it, `c` its enumerator in edgec.h.

    What only stores floats (narrow.py) is held as its code, in `tvm`'s lowest `bits`.
    """

    name: str
    numpy: np.dtype[np.generic]
    onnx: int
    tvm: str
    c: str
    bits: int

    @property
    def bytes(self) -> int:
        """What an element takes in memory."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        """Whether it computes with real numbers."""
        return self.name in ("f16", "bf16", "f32", "f64")

    @property
    def is_int(self) -> bool:
        """Whether it computes with whole numbers."""
        return self.is_whole and not self.is_storage

    @property
    def is_storage(self) -> bool:
        """Whether it is only moved and converted."""
        return self.bits < 8 or self.name.startswith("f8")

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole, 4 and 2 bits included."""
        return self.name[0] in "iu"


def _row(name: str, numpy: npt.DTypeLike, onnx: int, tvm: str, c: str, bits: int = 0) -> DType:
    kind = np.dtype(numpy)
    return DType(name, kind, onnx, tvm, c, bits or 8 * kind.itemsize)


# in the order of the enumerators in edgec.h
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
        _row("f8e4m3fn", ml_dtypes.float8_e4m3fn, 17, "uint8", "EC_F8E4M3FN"),
        _row("f8e4m3fnuz", ml_dtypes.float8_e4m3fnuz, 18, "uint8", "EC_F8E4M3FNUZ"),
        _row("f8e5m2", ml_dtypes.float8_e5m2, 19, "uint8", "EC_F8E5M2"),
        _row("f8e5m2fnuz", ml_dtypes.float8_e5m2fnuz, 20, "uint8", "EC_F8E5M2FNUZ"),
        _row("f8e8m0", ml_dtypes.float8_e8m0fnu, 24, "uint8", "EC_F8E8M0"),
        _row("f6e2m3", ml_dtypes.float6_e2m3fn, 27, "uint8", "EC_F6E2M3", 6),
        _row("f6e3m2", ml_dtypes.float6_e3m2fn, 28, "uint8", "EC_F6E3M2", 6),
        _row("f4e2m1", ml_dtypes.float4_e2m1fn, 23, "uint8", "EC_F4E2M1", 4),
        _row("i4", ml_dtypes.int4, 22, "int8", "EC_I4", 4),
        _row("u4", ml_dtypes.uint4, 21, "uint8", "EC_U4", 4),
        _row("i2", ml_dtypes.int2, 26, "int8", "EC_I2", 2),
        _row("u2", ml_dtypes.uint2, 25, "uint8", "EC_U2", 2),
    )
}
_BY_NUMPY = {row.numpy: row for row in DTYPES.values()}
_BY_ONNX = {row.onnx: row for row in DTYPES.values()}


def dtype(name: str) -> DType:
    """The row of a type name; an unknown one is an `IRError` with the nearest name."""
    if name not in DTYPES:
        raise IRError(f"unknown element type {name!r}{nearest(name, DTYPES)}")
    return DTYPES[name]


def integer_limits(row: DType) -> tuple[int, int]:
    """Least and greatest number of a type of whole numbers."""
    signed = row.name[0] == "i"
    return -(1 << (row.bits - 1)) if signed else 0, (1 << (row.bits - signed)) - 1


def of_numpy(array_dtype: npt.DTypeLike) -> str:
    """Our name of a numpy type."""
    row = _BY_NUMPY.get(np.dtype(array_dtype))
    if row is None:
        raise IRError(f"element type {np.dtype(array_dtype)} is not supported{nearest(str(array_dtype), DTYPES)}")
    return row.name


def raw(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array as a .npz file can hold it: element types that only ml_dtypes knows as bytes without a meaning."""
    kind = array.dtype
    return array.view(np.dtype((np.void, kind.itemsize))) if kind.isbuiltin == 2 else array


def known_as(array: npt.NDArray[Any], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """Bytes without a meaning, from a .npz file, as the element type that they must be."""
    fits = kind.isbuiltin == 2 and array.dtype == np.dtype((np.void, kind.itemsize))
    return array.view(kind) if fits else array


def of_onnx(number: int) -> str | None:
    """Our name of an ONNX `TensorProto.DataType`, or None where we have none (string, complex ...)."""
    row = _BY_ONNX.get(number)
    return row.name if row else None
