"""Puts a bundle where the user wants it: written beside it first, moved at the end; the old one stays whole."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EdgecError
from ..files import existing

_LONGEST_NAME = 200  # file systems take 255; temporary names beside it are longer


def check_output(out: str | Path) -> Path:
    """The absolute output folder; an `EdgecError` when a bundle cannot be written there. Leaves nothing behind."""
    if not isinstance(out, str | Path) or not str(out) or "\0" in str(out):
        raise EdgecError(f"{str(out)!r}: is not the name of a folder")
    out = Path(os.path.abspath(out))
    nearest = existing(out)
    if too_long := [part for part in out.parts if len(os.fsencode(part)) > _LONGEST_NAME]:
        raise EdgecError(
            f"{too_long[0][:40]}...: cannot write the bundle: the name is longer than {_LONGEST_NAME} bytes"
        )
    if not nearest.is_dir():
        raise EdgecError(f"{out}: cannot write the bundle: {nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise EdgecError(f"{out}: cannot write the bundle: no permission to write in {nearest}")
    try:
        with tempfile.TemporaryDirectory(prefix=".edgec-", dir=nearest):
            pass
    except OSError as error:
        raise EdgecError(f"{out}: cannot write the bundle: {error.strerror}") from error
    return out


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A temporary folder whose content becomes that of `out` when the block ends without an error."""
    out = check_output(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = out.parent if os.access(out.parent, os.W_OK) else out
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=beside) as temporary:
            folder = Path(temporary) / "bundle"
            folder.mkdir()
            yield folder
            _publish(folder, out)
    except OSError as error:
        raise EdgecError(f"{out}: cannot write the bundle: {error.strerror or error}") from error


def _publish(folder: Path, out: Path) -> None:
    if not out.exists():
        os.replace(folder, out)
    elif (
        _foreign(out) or out.resolve() == Path.cwd() or out.is_symlink() or out.is_mount() or not _exchange(folder, out)
    ):
        _merge(folder, out)


def _foreign(out: Path) -> bool:
    """Whether the folder holds anything that is not an old bundle's."""
    return bool({str(p.relative_to(out)) for p in out.rglob("*") if p.is_symlink() or not p.is_dir()} - _owned(out))


def _owned(out: Path) -> set[str]:
    """Files that an earlier bundle in this folder says are its own."""
    files: set[str] = set()
    for path in out.glob("*.json"):
        try:
            table = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(table, dict) and "edgec" in table and isinstance(table.get("files"), list):
            files |= {
                name
                for name in table["files"]
                if isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
            }
    return files


def _exchange(new: Path, old: Path) -> bool:
    """Swap two folders in one step, where the system can; the old one is deleted with the temporary folder."""
    at_cwd, exchange = -100, 2
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange) == 0)


def _merge(folder: Path, out: Path) -> None:
    """File by file, for a folder that holds other things too; the manifest comes last."""
    new = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    for stale in _owned(out) - new:
        (out / stale).unlink(missing_ok=True)
    for name in sorted(new, key=lambda n: (n.endswith(".json"), n)):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name, out / name)
    shutil.rmtree(folder, ignore_errors=True)
