"""Arrays of many samples that memory cannot hold together: so many bytes of them stay in memory, the others lie in
files for as long as somebody may ask for them.

What is computed with them is the same either way: a file gives the bits that were put there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeAlias, overload

import numpy as np

from ..errors import EdgecError
from ..ops.common import Tensor

BYTES = 1 << 30  # of arrays that are in memory at once
SMALL = 1 << 16  # bytes of an array up to which a file is not worth it


class Held(Sequence[Tensor]):
    """A value's arrays, one per sample; each time that one is asked for it is read anew if it lies in a file."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = list(places)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> Tensor: ...
    @overload
    def __getitem__(self, number: slice) -> Held: ...
    def __getitem__(self, number: int | slice) -> Tensor | Held:
        return Held(self._places[number]) if isinstance(number, slice) else self._places[number].array()


class Store:
    """Where arrays are put; see `storing`. Threads may do so at the same time."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._held, self._count, self._lock = 0, 0, Lock()

    def put(self, array: Tensor) -> Place:
        """A place that has the array for as long as it is referred to."""
        size = array.nbytes
        with self._lock:
            self._count += 1
            name = str(self._count)
            fits = size <= SMALL or self._held + size <= self._most
            self._held += size if fits else 0
        return _Memory(array, self) if fits else _File(array, self._folder / name)

    def all(self, arrays: Iterable[Tensor]) -> tuple[Place, ...]:
        """A place for each."""
        return tuple(self.put(array) for array in arrays)

    def freed(self, size: int) -> None:
        with self._lock:
            self._held -= size


class _Memory:
    def __init__(self, array: Tensor, store: Store) -> None:
        self._array, self._store = array, store

    def array(self) -> Tensor:
        return self._array

    def __del__(self) -> None:
        self._store.freed(self._array.nbytes)


class _File:
    def __init__(self, array: Tensor, path: Path) -> None:
        self._path, self._dtype, self._shape = path, array.dtype, array.shape
        try:
            np.ascontiguousarray(array).tofile(path)
        except OSError as error:
            raise EdgecError(
                f"{path.parent}: {error.strerror or error}: no room for {array.nbytes / 1e6:,.0f} MB more of what the "
                "calibration samples give; expected a folder with more of it (TMPDIR), or fewer samples"
            ) from error

    def array(self) -> Tensor:
        return np.fromfile(self._path, np.uint8).view(self._dtype).reshape(self._shape)

    def __del__(self) -> None:
        self._path.unlink(missing_ok=True)


Place: TypeAlias = _Memory | _File


def by_value(rows: Iterable[Sequence[Place]]) -> list[Held]:
    """Of each of several values the arrays of all samples; `rows` are the samples'."""
    return [Held(column) for column in zip(*rows, strict=True)]


@contextmanager
def storing() -> Iterator[Store]:
    """A store for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        yield Store(Path(folder), BYTES)
