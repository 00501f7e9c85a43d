"""Graphs in files: `x.eir`, and the large constants it refers to in `x.npz` or in `weights.npz` of the same folder."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from .dtypes import raw
from .errors import EdgecError
from .files import replaced, whole
from .ir import Array, Graph
from .text import constants, parse, show

SHARED = "weights.npz"


class Stored(Mapping[str, Array]):
    """The arrays of several .npz files, read when asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.files: list[np.lib.npyio.NpzFile] | None = None

    def _open(self) -> list[np.lib.npyio.NpzFile]:
        if self.files is None:
            try:
                self.files = [np.load(path, allow_pickle=False) for path in self.paths if path.is_file()]
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise EdgecError(f"{self.paths[0].parent}: the constants cannot be read: {error}") from error
        return self.files

    def __getitem__(self, key: str) -> Array:
        for file in self._open():
            if key in file:
                array: Array = file[key]
                return array
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (key for file in self._open() for key in file)

    def __len__(self) -> int:
        return sum(len(file) for file in self._open())


def read_eir(path: Path) -> Graph:
    """Read a graph with its constants; errors name file, line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EdgecError(f"{path}: cannot be read: it is no text; expected a graph in .eir form") from error
    except OSError as error:
        raise EdgecError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse(text, Stored([path.with_suffix(".npz"), path.parent / SHARED]), str(path))


def write_eir(graph: Graph, path: Path, weights: str = "") -> None:
    """Write a graph. Large constants are added to `weights` (default: `x.npz` beside `x.eir`), each once."""
    try:
        _write(graph, path, weights)
    except OSError as error:
        raise EdgecError(f"{path}: cannot write: {error.strerror or error}") from error


def _write(graph: Graph, path: Path, weights: str) -> None:
    large = constants(graph)
    if large and weights:
        path.parent.mkdir(parents=True, exist_ok=True)
        _add(large, path.parent / weights)
    elif large and (path.is_file() or not path.exists()):  # beside a pipe or a device there is no place
        with whole(path.with_suffix(".npz")) as archive:
            _add(large, archive)
    replaced(path, show(graph, origins=True).encode())


def _add(large: Mapping[str, Array], archive: Path) -> None:
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as out:
        there = set(out.namelist())
        for key, array in large.items():
            if f"{key}.npy" not in there:
                with out.open(f"{key}.npy", "w", force_zip64=True) as entry:
                    contiguous = np.ascontiguousarray(array).reshape(array.shape)
                    np.lib.format.write_array(entry, raw(contiguous), allow_pickle=False)
