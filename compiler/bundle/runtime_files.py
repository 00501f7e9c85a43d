"""The C runtime in a bundle: which of its files, and the library of them, which is compiled once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .. import toolchain as tools
from ..target import Target
from . import tables
from .elf_slim import slim_files

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
CORE = ("control.c", "core.c", "cpu.c", "requantize.c", "selftest.c", "slices.c", "status.c")
DEVICE = ("cuda.c", "cuda_driver.c", "cuda_run.c", "cuda_shared.c", "cuda_steps.c", "cuda_use.c")


def runtime_units(hosted: bool) -> list[str]:
    """C files of the runtime: without an operating system only the core."""
    return sorted(p.name for p in (RUNTIME / "src").glob("*.c")) if hosted else list(CORE)


def copy_runtime(folder: Path, hosted: bool) -> list[str]:
    """Headers and sources of the runtime; the names of its units."""
    shutil.copytree(RUNTIME / "include" / "edgec", folder / "edgec")
    (folder / "src").mkdir()
    units = runtime_units(hosted)
    for unit in units:
        shutil.copyfile(RUNTIME / "src" / unit, folder / "src" / unit)
    for inner in (RUNTIME / "src").glob("*.h"):
        shutil.copyfile(inner, folder / "src" / inner.name)
    return units


def built_runtime(chain: tools.Toolchain, target: Target, units: Sequence[str]) -> Path:
    """Folder with the compiled runtime: made once for these sources, tools and target, then taken from the cache."""
    flags = ("-std=c11", "-I.", "-ffunction-sections", "-fdata-sections")
    hosted = tools.has_os(target)
    places = "" if hosted else tables.section_of_runtime(".text.f")
    digest = hashlib.sha256(repr((chain, flags, target.triple, _identity(chain.cc), places)).encode())
    for path in sorted([*(RUNTIME / "include" / "edgec").iterdir(), *(RUNTIME / "src").iterdir()]):
        digest.update(path.name.encode() + path.read_bytes())
    built = tools.cache_folder() / f"runtime-{digest.hexdigest()[:20]}"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=tools.writable_cache()) as temporary:
            work = Path(temporary) / "work"
            shutil.copytree(RUNTIME / "include" / "edgec", work / "edgec")
            for path in (RUNTIME / "src").iterdir():
                shutil.copyfile(path, work / f"edgec_{path.name}" if path.suffix == ".c" else work / path.name)
            objects = chain.compile([f"edgec_{unit}" for unit in units], work, flags)
            if not hosted:
                slim_files(work, objects, tables.section_of_runtime)
            chain.archive("libedgec.a", objects, work)
            with contextlib.suppress(OSError):  # another process was faster
                os.replace(work, built)
    return built


def _identity(cc: Sequence[str]) -> str:
    """Changes when the compiler is updated."""
    found = shutil.which(cc[0])
    status = os.stat(os.path.realpath(found)) if found else None
    return f"{found} {status.st_size} {status.st_mtime_ns}" if status else cc[0]
