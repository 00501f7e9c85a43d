"""Decides which driver a model for CUDA runs on: the machine's own, or the emulated one of runtime/emulated."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from .. import toolchain as tools
from ..errors import EdgecError

SOURCES = Path(__file__).resolve().parents[2] / "runtime" / "emulated"
VARIABLE = "EDGEC_CUDA_DRIVER"  # as cuda_driver.c has it
_environment = Lock()


def emulated_driver() -> Path:
    """The emulated driver as a shared library: built once with this machine's C++ compiler."""
    sources = sorted(SOURCES.iterdir())
    digest = hashlib.sha256(platform.machine().encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()
    library = tools.cache_folder() / f"emulated-{digest[:20]}" / "libcuda_emulated.so"
    if library.exists():
        return library
    compiler = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    if compiler is None:
        raise EdgecError("no C++ compiler to build the emulated CUDA driver with; install g++")
    with tempfile.TemporaryDirectory(dir=tools.writable_cache(library.parent.name)) as temporary:
        built = str(Path(temporary) / library.name)
        flags = ("-std=c++17", "-O2", "-shared", "-fPIC")
        units = [str(path) for path in sources if path.suffix == ".cpp"]
        tools.Toolchain((compiler,), ()).link(built, [*units, "-ldl"], Path(temporary), flags)
        os.replace(built, library)
    return library


def has_driver() -> bool:
    """Whether this machine has a driver of NVIDIA's."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def emulates(manifest: Mapping[str, Any]) -> bool:
    """Whether a bundle runs on the emulated driver here.

    It does where it can, nobody named another driver, and there is no driver or it has no code for a GPU.
    """
    kinds = {image["kind"] for image in (manifest.get("device") or {}).get("images", [])}
    return "emulated" in kinds and not os.environ.get(VARIABLE) and (kinds == {"emulated"} or not has_driver())


@contextmanager
def driver_for(manifest: Mapping[str, Any]) -> Iterator[None]:
    """While a model opens, the environment names the driver that it shall run on."""
    if not emulates(manifest):
        yield
        return
    with _environment:
        os.environ[VARIABLE] = str(emulated_driver())
        try:
            yield
        finally:
            del os.environ[VARIABLE]
