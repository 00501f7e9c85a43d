"""Inputs and outputs of compiled models, and arrays for them: at random, from .npz files, checked by name and type."""

from __future__ import annotations

import io
import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .dtypes import DTYPES, DType, integer_limits, raw
from .errors import EdgecError, nearest
from .files import replaced
from .narrow import POWERS


@dataclass(frozen=True)
class Port:
    """An input or output: `dtype` is numpy's name. Quantized: real value = (element - zero_point) * scale.

    `count_axis`: of an output whose size depends on data, the axis that may be shorter than `shape` says.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None
    count_axis: int | None = None


def cut(x: npt.NDArray[Any], axis: int, count: int) -> npt.NDArray[Any]:
    """The first `count` entries of an axis."""
    return x[(*(slice(None),) * axis, slice(count))]


def random_inputs(ports: Any, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Seeded inputs that most models can digest: reals in [-1, 1), integers of 8 bits and fewer in full range, others
    0 or 1. Powers of two, which know no other numbers, are 1.
    """
    rng, out = np.random.default_rng(seed), {}
    for port in ports:
        row, shape = _named(port.dtype), tuple(port.shape)
        if row.is_whole and row.bits <= 8:
            limits = integer_limits(row)
            array: npt.NDArray[Any] = rng.integers(*limits, shape, endpoint=True)
        elif row.is_whole or row.name == "bool":
            array = rng.integers(0, 2, shape)
        else:
            array = np.ones(shape) if row.name == POWERS else rng.uniform(-1, 1, shape)
        out[port.name] = np.asarray(array).astype(row.numpy)
    return out


def check_names(names: Iterable[str], known: Sequence[str]) -> None:
    """An `EdgecError` for a name that no input has, and for inputs that have no value."""
    there = list(names)
    for name in there:
        if name not in known:
            raise EdgecError(f"the model has no input {name!r}{nearest(name, known)}")
    if missing := [repr(name) for name in known if name not in there]:
        raise EdgecError(f"no value for input {', '.join(missing)}")


def named_dtype(name: str) -> np.dtype[Any]:
    """The element type of a manifest (numpy's names, and those of ml_dtypes)."""
    return _named(name).numpy


def _named(name: str) -> DType:
    return next(row for row in DTYPES.values() if row.numpy.name == name)


def read_arrays(path: str | Path) -> dict[str, npt.NDArray[Any]] | npt.NDArray[Any]:
    """All arrays of a .npz file, by name, or the one of a .npy file; an `EdgecError` for whatever else it may hold."""
    what = f"{path}: is no file of arrays"
    try:
        with open(path, "rb") as start:
            magic = start.read(4)
        if magic == b"\x93NUM":
            array: npt.NDArray[Any] = np.load(path, allow_pickle=False, mmap_mode="r")
            return array
        if not magic.startswith(b"PK"):
            raise EdgecError(f"{what}; numpy.savez(file, name=array) makes one")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise EdgecError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _BROKEN_ARCHIVE as error:
        raise EdgecError(f"{what}: {error}") from error
    for name, held in arrays.items():
        if not isinstance(held, np.ndarray):
            raise EdgecError(f"{what}: {name!r} is no array")
    return arrays


# What numpy and zipfile raise on damaged or hostile archives; RuntimeError: one with a password; the last two: what
# numpy's parser of headers does.
_BROKEN_ARCHIVE = (
    *(ValueError, EOFError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, SyntaxError, tokenize.TokenError),
)


def write_arrays(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """A .npz file of exactly this name; `numpy.savez` would add a suffix, and stumble over an array named `file`."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, raw(array), allow_pickle=False)
    replaced(path, whole.getvalue())
