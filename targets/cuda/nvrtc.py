"""CUDA C to machine code and PTX: by NVRTC from its wheels (`edgec[cuda]`), or by `nvcc` where that is installed.

Code of CUDA 12 runs with drivers of 12 and 13, that of CUDA 13 with the newer ones only: so of two compilers the older
one is taken that knows the architecture.

Multiplications and additions are not fused (`--fmad=false`): a kernel that wants that says `fmaf`, and so gives the
same bits as its emulation on a CPU.
"""

from __future__ import annotations

import ctypes as c
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from edgec.compiler.errors import EdgecError

Kind = Literal["cubin", "ptx"]
_FLAGS = ("--std=c++17", "--fmad=false", "--extra-device-vectorization")
_PROCESS = Path(__file__).with_name("nvrtc_process.py")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}  # a heap keeps to itself


@dataclass(frozen=True)
class Use:
    """What a kernel takes of a multiprocessor, as the assembler states it; bytes of shared memory are static ones."""

    kernel: str
    registers: int
    shared: int
    spilled: int


@dataclass(frozen=True)
class Code:
    """Code of a module for one architecture (`sm_87`), and of machine code what its kernels use.

    `steady`: the compiler makes the same of the same text each time.
    """

    data: bytes
    uses: tuple[Use, ...]
    steady: bool


def compiled(source: str, arch: str, kind: Kind) -> Code:
    """What the compiler makes of a module's text, prelude included."""
    libraries = _nvrtc()
    if libraries:
        fitting = [paths for paths, known in libraries if arch in known]
        if not fitting:
            newest = libraries[-1][1]
            raise EdgecError(f"arch: the installed NVRTC knows no {arch}; it knows {', '.join(newest)}")
        return _by_nvrtc(fitting[0], source, arch, kind)
    if (nvcc := shutil.which("nvcc")) is not None:
        return _by_nvcc(nvcc, source, arch, kind)
    raise EdgecError("no CUDA compiler: install NVRTC (pip install 'edgec[cuda]') or the CUDA toolkit (nvcc)")


def _by_nvrtc(libraries: Sequence[str], source: str, arch: str, kind: Kind) -> Code:
    real = arch if kind == "cubin" else arch.replace("sm_", "compute_")
    options = [f"--gpu-architecture={real}", *_FLAGS, "--ptxas-options=-v", "--device-int128"]
    wanted = {"libraries": libraries, "options": options, "kind": kind.upper()}
    path = os.environ.get("LD_LIBRARY_PATH")  # where an installed toolkit may be; nothing else may have an influence
    environment = {**_ENVIRONMENT, **({"LD_LIBRARY_PATH": path} if path else {})}
    command = [sys.executable, "-P", "-S", "-s", str(_PROCESS)]
    text = json.dumps(wanted).encode() + b"\n" + source.encode()
    done = subprocess.run(command, input=text, env=environment, cwd="/", capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the process that runs NVRTC ended with {done.returncode}: {done.stderr.decode()}")
    answer, _, code = done.stdout.partition(b"\n")
    said = json.loads(answer)
    log = said["log"]
    if said["status"] and log:
        raise EdgecError(f"NVRTC refuses a kernel for {arch}: {_first_error(log)}") from RuntimeError(log)
    if said["status"]:
        raise EdgecError(f"NVRTC: {said['error']}")
    return Code(code, tuple(uses(log)), said["placed"])


def _by_nvcc(nvcc: str, source: str, arch: str, kind: Kind) -> Code:
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        Path(folder, "kernels.cu").write_text(source)
        real = arch if kind == "cubin" else arch.replace("sm_", "compute_")
        command = [nvcc, f"-arch={real}", f"--{kind}", *_FLAGS, "-Xptxas=-v", "kernels.cu", "-o", "kernels.out"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EdgecError(f"nvcc refuses a kernel for {arch}: {_first_error(done.stderr)}") from RuntimeError(
                done.stderr
            )
        return Code(Path(folder, "kernels.out").read_bytes(), tuple(uses(done.stderr)), steady=False)


def uses(log: str) -> list[Use]:
    """The rows of ptxas' verbose output."""
    found = []
    entry = re.compile(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)",
        re.S,
    )
    for name, _, stores, loads, registers, rest in entry.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        found.append(Use(name, int(registers), int(shared[1]) if shared else 0, int(stores) + int(loads)))
    return found


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")


@cache
def _nvrtc() -> list[tuple[list[str], list[str]]]:
    """The libraries of the wheels nvidia-cuda-nvrtc-cu12 and nvidia-cuda-nvrtc, or of an installed toolkit, the oldest
    first: the paths to load, and the architectures that it knows."""
    found = []
    for path in _libraries():
        paths = [*sorted(map(str, path.parent.glob("libnvrtc-builtins.so.*"))), str(path)]
        try:
            library = c.CDLL(str(path))
        except OSError:  # of another architecture, say: the next may do
            continue
        library.nvrtcGetErrorString.restype = c.c_char_p
        major, minor, count = c.c_int(), c.c_int(), c.c_int()
        _check(library, library.nvrtcVersion(c.byref(major), c.byref(minor)))
        _check(library, library.nvrtcGetNumSupportedArchs(c.byref(count)))
        known = (c.c_int * count.value)()
        _check(library, library.nvrtcGetSupportedArchs(known))
        found.append(((major.value, minor.value), paths, [f"sm_{n}" for n in known]))
    return [(paths, known) for _, paths, known in sorted(found)]


def _libraries() -> list[Path]:
    spec = find_spec("nvidia")
    roots = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    patterns = ("cuda_nvrtc/lib/libnvrtc.so.*", "cu1?/lib/libnvrtc.so.*")
    found = [path for root in roots for pattern in patterns for path in sorted(root.glob(pattern))]
    return [path for path in found if "alt" not in path.name] or [Path("libnvrtc.so")]


def _check(library: Any, status: int) -> None:
    if status:
        raise EdgecError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")
