"""Files that edgec writes where the user says: whole or not at all, their folders made, never over what was read."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EdgecError


def replaced(path: str | Path, data: bytes) -> None:
    """Write a file, whose old content stays where that fails. Devices and pipes get the bytes as they are."""
    with whole(path) as new:
        new.write_bytes(data)


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path to write to, whose content becomes that of `path` when the block ends without an error."""
    if "\0" in str(path):
        raise EdgecError(f"{str(path)!r}: is not the name of a file")
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            _refuse_folder(path)
            yield Path(path)
            return
        place = Path(os.path.realpath(path))  # a link stays one
        if not place.parent.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".edgec-", dir=place.parent) as folder:
            new = Path(folder) / "new"
            yield new
            os.replace(new, place)
    except OSError as error:
        raise EdgecError(f"{path}: cannot write: {error.strerror or error}") from error


def check_other(path: str | Path, source: str | Path) -> None:
    """An `EdgecError` when the file to write is the one that is read."""
    with suppress(OSError):  # one of them is not there
        if os.path.samefile(path, source):
            raise EdgecError(f"{path}: cannot write: the result would take the place of what is read")


def check_file(path: str | Path) -> None:
    """An `EdgecError` when a file cannot be written: better known before the work. Leaves nothing behind."""
    try:
        _refuse_folder(path)
        if not os.path.exists(path) or os.path.isfile(path):
            with tempfile.TemporaryDirectory(prefix=".edgec-", dir=existing(Path(os.path.realpath(path)).parent)):
                pass
    except OSError as error:
        raise EdgecError(f"{path}: cannot write: {error.strerror or error}") from error


def existing(path: Path) -> Path:
    """The path itself, or the nearest above it that is there: what lies between is made when it is needed."""
    while not os.path.lexists(path):
        path = path.parent
    return path


def _refuse_folder(path: str | Path) -> None:
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
