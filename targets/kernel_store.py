"""Kernels that earlier runs have built, as files: what is found there is not built again.

A file is named after all that its code follows from: the kernel's body, row and tiles, the target, every source file of
the compiler, and TVM's release. So nothing ever becomes stale, and a bundle is the same with and without the store.
Files appear whole, so that processes share it; one that is damaged counts as not there. `EDGEC_KERNELS=off`: no store.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from edgec.compiler.errors import EdgecError
from edgec.compiler.files import replaced
from edgec.compiler.registry import ROWS
from edgec.compiler.target import Target
from edgec.compiler.toolchain import cache_folder

from .build_jobs import Built, Job

SWITCH = "EDGEC_KERNELS"
MOST = 128 << 20  # bytes; the files that nobody has used for longest go first
_HEAD = b"edgec kernel 1\n"
_DIGEST = sha256().digest_size
_WORD = 4  # bytes of a number before the code: of tasks, how many numbers the code reads, these


class Store:
    """The files of one target's kernels. A folder that cannot be read or written is an empty one."""

    def __init__(self, target: Target) -> None:
        off = target.gpu is not None or os.environ.get(SWITCH) == "off"
        self._folder = None if off else cache_folder() / "kernels"
        self._made_by = f"{_SOURCES} {described(target)}"
        self._written = False

    def read(self, job: Job) -> Built | None:
        """What was built of a kernel, under the name that all have before they are in a program."""
        path = self._path(job)
        if path is None:
            return None
        try:
            data = path.read_bytes()
            os.utime(path)  # it is used
        except OSError:
            return None
        start = len(_HEAD) + _DIGEST
        body = data[start:]
        if len(body) < 2 * _WORD or data[:start] != _HEAD + sha256(body).digest():
            return None
        tasks, many = struct.unpack_from("<2i", body)
        numbers = struct.unpack_from(f"<{many}i", body, 2 * _WORD)
        return Built(body[(2 + many) * _WORD :], tasks, numbers=numbers)

    def write(self, job: Job, built: Built) -> None:
        """Keep what was built."""
        path = self._path(job)
        if path is None or built.launch is not None:
            return
        numbers = built.numbers
        body = struct.pack(f"<{2 + len(numbers)}i", built.tasks, len(numbers), *numbers) + built.code
        with suppress(OSError, EdgecError):  # then the next run builds it again
            path.parent.mkdir(parents=True, exist_ok=True)
            replaced(path, _HEAD + sha256(body).digest() + body)
            self._written = True

    def close(self) -> None:
        """Drop the oldest files where there are too many."""
        if self._written and self._folder is not None:
            self._written = False
            trim(self._folder, MOST)

    def _path(self, job: Job) -> Path | None:
        """None for a row of a plugin, whose sources are not known."""
        row = ROWS.get(job.choice.row)
        ours = row is not None and getattr(row.emit, "__module__", "").startswith("edgec.targets.")
        if self._folder is None or not ours:
            return None
        return self._folder / sha256(f"{self._made_by} {job.content}".encode()).hexdigest()


def trim(folder: Path, most: int) -> None:
    """Leave three quarters of `most` bytes in a folder that holds more, those used last."""
    found = sorted(_files(folder), reverse=True)
    if sum(size for _, size, _ in found) <= most:
        return
    left = 3 * most // 4
    for _, size, path in found:
        left -= size
        if left < 0:
            with suppress(OSError):  # another process was faster
                os.unlink(path)


def _files(folder: Path) -> Iterator[tuple[int, int, str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                known = entry.stat()
                yield known.st_mtime_ns, known.st_size, entry.path


def described(target: Target) -> str:
    """A target apart from what no kernel depends on."""
    core = replace(target, name="", summary="", zig="", pipeline="", compilers=(), emulator=(), machine=None)
    return json.dumps(asdict(replace(core, memory=(), levels=())), default=sorted)


def _compiler() -> str:
    """Every source file that may have a part in a kernel's code, and the release of TVM that brings LLVM."""
    root, digest = Path(__file__).resolve().parents[1], sha256()
    for folder in ("targets", "compiler"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(root)} ".encode() + sha256(path.read_bytes()).digest())
    return f"{digest.hexdigest()} tvm {version('apache-tvm')}"


_SOURCES = _compiler()  # as they are now: they may change while this process runs what it has imported
