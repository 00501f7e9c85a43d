"""Opens the shared library of a bundle, after all that would make the system's loader die, or a model not run here."""

from __future__ import annotations

import ctypes as c
import mmap
import platform
import tempfile
from pathlib import Path
from typing import Any

from .. import toolchain as tools
from ..bundle import elf
from ..bundle.manifest import ABI, Bundle
from ..errors import EdgecError
from ..isa import isa_names
from . import abi as abi


def opened(bundle: Bundle) -> tuple[int, Any]:
    """The loader's handle of the library, and a pointer to the first of its descriptors."""
    folder, manifest, library = bundle.folder, bundle.manifest, bundle.shared_library
    if not tools.runs_here(manifest["triple"]):
        here = f"this machine is {tools.arch(platform.machine())}; run it there"
        if not manifest.get("device"):
            here += f", or check it here through an emulator: edgec verify MODEL --bundle {folder}"
        raise EdgecError(f"{folder}: compiled for {manifest['triple']}, {here}")
    if not library.exists():
        raise EdgecError(f"{folder}: {library.name} is missing; compile the model again")
    if not _complete(library):
        raise EdgecError(f"{library}: is damaged or cut short; compile the model again")
    # The loader answers a path it has seen with the library it holds; a name of our own makes it look at the file.
    with tempfile.TemporaryDirectory(prefix="edgec-") as temporary:
        link = Path(temporary) / "bundle.so"
        link.symlink_to(library.resolve())
        try:
            loaded = c.CDLL(str(link))
            entry = loaded.edgec_model
        except (OSError, AttributeError) as error:
            reason = str(error).removeprefix(f"{link}: ")  # a name that nobody knows
            raise EdgecError(f"{library}: is no bundle's library for this machine: {reason}") from error
    entry.restype = c.POINTER(abi.Desc)
    first = entry()
    if first.contents.abi != ABI:
        raise EdgecError(
            f"{folder}: compiled for version {first.contents.abi} of the C ABI, this runtime has {ABI}: "
            "compile the model again"
        )
    return loaded._handle, first


def description(bundle: Bundle, first: Any, level: str) -> Any:
    """The descriptor of a level of the CPU, which must run here; `first`: the one that leads to all others."""
    bundle.at(level)  # or it says which levels there are
    desc = first
    while desc.contents.target.decode() != level:
        desc = desc.contents.fallback
    if missing := desc.contents.isa & ~abi.runtime_library().ec_cpu_isa():
        names = ", ".join(isa_names(missing))
        raise EdgecError(f"{bundle.folder}: level {level!r}: this CPU lacks {names}")
    return desc


def _complete(library: Path) -> bool:
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return elf.complete(data)
    except (OSError, ValueError):  # no permission; no bytes
        return False
