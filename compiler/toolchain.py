"""Decides which C compiler, linker and archiver build a bundle for a target, and runs them reproducibly."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .errors import EdgecError
from .target import Target

_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}

_C_LIBRARY = "crt1.o"  # comes with the headers: some systems have a cross compiler without them

_HOSTED = ("-O2", "-fPIC")
_LONG_CALLS = "-Wl,--long-plt"  # on 32-bit ARM, over more than 256 MB of weights; zig's linker makes them where needed
# Tables without addresses to fill in lie in flash; nothing unwinds the stack.
_BARE = (
    "-Os",
    "-ffreestanding",
    "-fno-pic",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)


@dataclass(frozen=True)
class Toolchain:
    """Command prefixes of a C compiler (which also assembles and links) and an archiver; how to compile for what runs
    the code."""

    cc: tuple[str, ...]
    ar: tuple[str, ...]
    flags: tuple[str, ...] = _HOSTED
    libraries: tuple[str, ...] = ("-lm",)

    def compile(self, sources: Sequence[str], folder: Path, flags: Sequence[str] = ()) -> list[str]:
        """Compile sources to objects beside them. Names are relative to `folder`: no path of this machine gets in."""
        objects = [f"{Path(source).stem}.o" for source in sources]
        for source, obj in zip(sources, objects, strict=True):
            mapping = f"-ffile-prefix-map={folder}=."
            self.run([*self.cc, *self.flags, "-g0", mapping, *flags, "-c", source, "-o", obj], folder)
        return objects

    def archive(self, library: str, objects: Sequence[str], folder: Path) -> None:
        """Static library without timestamps or owners."""
        self.run([*self.ar, "rcsD", library, *objects], folder)

    def link(self, output: str, objects: Sequence[str], folder: Path, flags: Sequence[str] = ()) -> None:
        """Shared library or program (by `flags`), without build id."""
        self.run([*self.cc, *flags, "-Wl,--build-id=none", "-o", output, *objects, *self.libraries], folder)

    def finds(self, library: str) -> bool:
        """Whether the compiler has a file of this name to link with."""
        asked = subprocess.run([*self.cc, f"-print-file-name={library}"], capture_output=True, text=True, check=False)
        return asked.returncode == 0 and Path(asked.stdout.strip()).is_absolute()

    def run(self, command: Sequence[str], folder: Path) -> None:
        """Run one tool in `folder`; an `EdgecError` quotes what it said."""
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                env={**os.environ, "LC_ALL": "C", "ZERO_AR_DATE": "1"},
            )
        except OSError as error:
            raise EdgecError(f"cannot run {command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            said = done.stderr.splitlines()
            telling = ("undefined reference", "region `", "error")  # the last alone says only that the linker failed
            said = [s for s in said if not s.startswith("collect2:")] or said or ["no message"]
            lines = next((found for word in telling if (found := [s for s in said if word in s])), said)
            raise EdgecError(f"{' '.join(command[:3])} failed: {lines[0].strip()}") from RuntimeError(
                f"{shlex.join(command)}\n{done.stderr}"
            )


def arch(triple: str) -> str:
    """Architecture of a triple or machine name, in LLVM's spelling."""
    first = triple.partition("-")[0].lower()
    return _ALIASES.get(first, first)


def has_os(target: Target) -> bool:
    """Whether programs of the target are loaded by an operating system that knows shared libraries."""
    return "linux" in target.triple


def runs_here(triple: str) -> bool:
    """Whether this process could load a library compiled for `triple`."""
    return "linux" in triple and sys.platform == "linux" and arch(triple) == arch(platform.machine())


def toolchain(target: Target) -> Toolchain:
    """The tools for a target: this machine's own compiler where it fits, a cross compiler, or ziglang."""
    if runs_here(target.triple):
        own = shlex.split(os.environ.get("CC", ""))
        if own:
            if shutil.which(own[0]) is None:
                raise EdgecError(f"CC={os.environ['CC']}: no such compiler")
            return Toolchain(tuple(own), _archiver(own[0]))
        candidates: tuple[str, ...] = ("cc", "gcc", "clang")
    else:
        candidates = target.compilers
    flags, alone = _HOSTED if has_os(target) else _BARE, []
    far = (_LONG_CALLS,) if has_os(target) and arch(target.triple).startswith("armv") else ()
    for name in filter(shutil.which, candidates):
        chain = Toolchain((name, *target.cflags), _archiver(name), flags, ("-lm", *far))
        if runs_here(target.triple) or not has_os(target) or chain.finds(_C_LIBRARY):
            return chain
        alone.append(f"{name}, which has no C library")
    if target.zig and find_spec("ziglang") is not None:
        zig = (sys.executable, "-m", "ziglang")
        libraries = ("-lm",) if has_os(target) else ()  # without a system its compiler brings what there is
        return Toolchain((*zig, "cc", "-target", *shlex.split(target.zig)), (*zig, "ar"), flags, libraries)
    tried = ", ".join((*(alone or candidates), "ziglang"))
    package = "" if has_os(target) else "apt install gcc-arm-none-eabi, or "
    raise EdgecError(
        f"no C compiler for target {target.name!r} (tried {tried}); install one with: {package}pip install edgec[cross]"
    )


def _archiver(compiler: str) -> tuple[str, ...]:
    """`ar` that belongs to a compiler: the same prefix for cross compilers, else the system's."""
    for ending in ("gcc", "clang", "cc"):
        stem = Path(compiler).name
        if stem.endswith("-" + ending):
            prefixed = compiler[: -len(ending)] + "ar"
            if shutil.which(prefixed):
                return (prefixed,)
    if shutil.which("ar"):
        return ("ar",)
    if find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "ar")
    raise EdgecError("no archiver (ar) found; install binutils, or: pip install edgec[cross]")


def emulator(target: Target) -> str | None:
    """The installed program that runs the target's programs on this machine."""
    return next((name for name in target.emulator if shutil.which(name)), None)


def cache_folder() -> Path:
    """Where built runtimes are kept: $EDGEC_CACHE, else the user's cache folder."""
    if own := os.environ.get("EDGEC_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgec"
    except RuntimeError as error:  # a user whom the system does not know
        raise EdgecError("no home folder is known for the cache; set EDGEC_CACHE to a folder") from error


def writable_cache(name: str = "") -> Path:
    """The cache, or a folder of it, made; an `EdgecError` that says what else could be the cache."""
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder):
            return folder
    except OSError as error:
        wanted = "set EDGEC_CACHE to a folder that can be"
        raise EdgecError(f"{folder}: the cache cannot be written: {error.strerror or error}; {wanted}") from error
