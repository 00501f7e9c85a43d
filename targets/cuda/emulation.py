"""CUDA C to a shared library that runs the same kernels on this machine's CPU, for tests: an image of arch 0.

A kernel `NAME` becomes `void NAME_emulated(unsigned grid_x, grid_y, grid_z, unsigned block, unsigned shared_bytes,
void **params)`, `params` as cuLaunchKernel takes them. `void ec_emulated_on_fault(void (*handler)(const char *))`
names who is told of faults (barriers that not all threads reach, misaligned accesses, races ...); else they end the
process. `char NAME_waits` is there for kernels that wait for the kernel before them.

The text is changed in three places: a kernel gets its place in the grid as arguments, and shared memory, static and
dynamic, comes from the emulation. Kernels in which threads wait for each other run as fibers, all others in a loop.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from edgec.compiler.errors import EdgecError
from edgec.compiler.toolchain import arch, cache_folder, writable_cache

from ..host import features

Check = Literal["none", "address", "race"]
_HERE = Path(__file__).parent
_FLAGS = (
    *("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-w", "-g1"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing", "-fwrapv"),
)
_RUNTIME = ("emulate_run.cpp", "emulate_warp.cpp", "emulate_race.cpp")
_HEADERS = ("emulate.h", "emulate_run.h", "emulate_switch.h")
_CHECKS: dict[Check, list[str]] = {
    "none": [],
    "address": ["-fsanitize=address", "-fno-omit-frame-pointer"],
    "race": ["-DEC_RACE"],
}
_CHECKED = ["-fsanitize=alignment"]
_V3 = {"AVX2", "FMA", "F16C"}  # what tells a CPU of x86-64-v3

_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\((\d+)[^)]*\)\s*)?(\w+)\s*\(([^)]*)\)')
_ALIGN = r"(?:(?:__align__|alignas)\(\d+\)\s*)?"
_DYNAMIC = re.compile(rf"extern\s+__shared__\s+{_ALIGN}([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_STATIC = re.compile(rf"__shared__\s+{_ALIGN}([\w ]+?)\s+(\w+)\s*\[([^\]]+)\]\s*;")
_WAITS = re.compile(r"__shared__|__sync(threads|warp)|ec_(syncwarp|shfl|warp|ldmatrix|mma|cp\d|cp_)")
_FOLLOWS = "ec_wait_previous("
_PLACE = "const uint3 threadIdx, const uint3 blockIdx, const dim3 blockDim, const dim3 gridDim"


@dataclass(frozen=True)
class KernelSignature:
    """A kernel as its text declares it: types of the parameters, and the most threads of a block."""

    name: str
    parameters: tuple[str, ...]
    threads: int = 1024
    waits: bool = True  # threads of a block wait for each other
    follows: bool = False  # it waits for the kernel before it, and may begin before that has ended


def kernel_signatures(source: str) -> list[KernelSignature]:
    """The kernels that a text defines, in its order."""
    found = [match for match in _KERNEL.finditer(source) if source[match.end() :].lstrip().startswith("{")]
    ends = [match.start() for match in found[1:]] + [len(source)]
    return [
        KernelSignature(
            match[2],
            _types(match[3]),
            int(match[1] or 1024),
            bool(_WAITS.search(source, match.end(), end)),
            source.find(_FOLLOWS, match.end(), end) >= 0,
        )
        for match, end in zip(found, ends, strict=True)
    ]


def _types(parameters: str) -> tuple[str, ...]:
    """`half* __restrict__ a, int n`: half*, int."""
    words = [parameter.replace("__restrict__", " ").strip() for parameter in parameters.split(",") if parameter.strip()]
    return tuple(re.sub(r"\w+$", "", word).strip() for word in words)


def emulated_source(source: str, kernels: Sequence[KernelSignature], check: Check = "none") -> str:
    """The C++ text of a module."""
    count = iter(range(source.count("__shared__")))
    text = _KERNEL.sub(lambda m: f"static inline void {m[2]}({_PLACE}{', ' if m[3].strip() else ''}{m[3]})", source)
    text = _DYNAMIC.sub(r"\1 *const \2 = (\1 *)ec_dynamic();", text)
    text = _STATIC.sub(
        lambda m: f'{m[1]} *const {m[2]} = ({m[1]} *)ec_shared({next(count)}, sizeof({m[1]}) * ({m[3]}), "{m[2]}");',
        text,
    )
    if (left := re.search(r".*(__shared__|__global__|__device__).*", text)) is not None:
        raise EdgecError(f"the emulation of CUDA does not understand: {left[0].strip()}")
    entries = "".join(_entry(kernel, check) for kernel in kernels)
    return f'#include "emulate.h"\n{text}\n{entries}'


def _entry(kernel: KernelSignature, check: Check) -> str:
    name = kernel.name
    arguments = "".join(f", *({kind} *)params[{i}]" for i, kind in enumerate(kernel.parameters))
    visible = 'extern "C" __attribute__((visibility("default")))'
    exported = (f"{visible} char {name}_waits;\nchar {name}_waits = 1;\n" if kernel.follows else "") + (
        f"{visible} void {name}_emulated(unsigned x, unsigned y, unsigned z, "
        "unsigned block, unsigned shared_bytes, void **params) {\n"
    )
    if kernel.waits or check == "race":
        return (
            f"static void {name}_thread(const uint3 *thread, const uint3 *block, const dim3 *threads, "
            f"const dim3 *grid, void **params) {{ {name}(*thread, *block, *threads, *grid{arguments}); }}\n{exported}"
            f'  ec_run_threads("{name}", {name}_thread, dim3{{x, y, z}}, block, {kernel.threads}, '
            "shared_bytes, params);\n}\n"
        )
    held = "".join(f"  {kind} const a{i} = *({kind} *)params[{i}];\n" for i, kind in enumerate(kernel.parameters))
    names = "".join(f", a{i}" for i in range(len(kernel.parameters)))
    return (
        f"static void {name}_grid(const dim3 *block, const dim3 *blocks, void **params) {{\n"
        f"  const dim3 threads = *block, grid = *blocks;\n{held}"
        "  for (unsigned z = 0; z < grid.z; ++z)\n    for (unsigned y = 0; y < grid.y; ++y)\n"
        "      for (unsigned x = 0; x < grid.x; ++x)\n        for (unsigned t = 0; t < threads.x; ++t)\n"
        f"          {name}(uint3{{t, 0, 0}}, uint3{{x, y, z}}, threads, grid{names});\n}}\n{exported}"
        f'  ec_run_plain("{name}", {name}_grid, dim3{{x, y, z}}, block, {kernel.threads}, params);\n}}\n'
    )


def emulated_library(source: str, kernels: Sequence[KernelSignature] | None = None, check: Check = "none") -> bytes:
    """A shared library of a module's kernels (CUDA C without the prelude).

    `check`: "address" for AddressSanitizer, whose library the process must bring (`sanitizer_environment`), "race" for
    accesses of shared and global memory that nothing orders. Kept in the cache folder. An `EdgecError` says that there
    is no C++ compiler, or what it refused.
    """
    text = emulated_source(source, kernel_signatures(source) if kernels is None else kernels, check)
    compiler = [*_compiler(), *_FLAGS, *_machine(), *_CHECKS[check]]
    runtime = _kept("runtime.o", (*_HEADERS, *_RUNTIME), {}, [[*compiler, "-O3", "-r", *_RUNTIME]])
    instrumented = [*_CHECKED, "-fsanitize=thread"] if check == "race" else _CHECKED if check == "address" else []
    commands = [
        [*compiler, *instrumented, "-c", "kernels.cpp", "-o", "kernels.o"],
        [
            *compiler,
            *(["-shared-libasan"] if _is_clang(compiler) else []),
            "-shared",
            "-Wl,--build-id=none",
            "kernels.o",
            str(runtime),
        ],
    ]
    return _kept("kernels.so", _HEADERS, {"kernels.cpp": text}, commands).read_bytes()


def sanitizer_environment() -> dict[str, str]:
    """What a process needs in its environment to load libraries with the check "address"."""
    compiler = _compiler()
    name = f"libclang_rt.asan-{platform.machine()}.so" if _is_clang(compiler) else "libasan.so"
    done = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    if not Path(done.stdout.strip()).is_absolute():
        raise EdgecError(f"{compiler[0]} has no AddressSanitizer ({name})")
    return {"LD_PRELOAD": done.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}


def _is_clang(compiler: Sequence[str]) -> bool:
    return "clang" in Path(compiler[0]).name


def _compiler() -> list[str]:
    """This machine's C++ compiler, $CXX before others."""
    candidates = [own] if (own := shlex.split(os.environ.get("CXX", ""))) else [["g++"], ["clang++"]]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    tried = ", ".join(command[0] for command in candidates)
    raise EdgecError(f"the emulation of CUDA needs a C++ compiler (tried {tried}); install g++ or clang++, or set CXX")


def _machine() -> list[str]:
    """Instructions for fused multiply-adds and halves, where this CPU has them; the results are the same."""
    return ["-march=x86-64-v3"] if arch(platform.machine()) == "x86_64" and features() >= _V3 else []


def _kept(output: str, sources: Sequence[str], texts: dict[str, str], commands: Sequence[Sequence[str]]) -> Path:
    """A file of the cache: what the commands make of sources of this folder and texts; the last one gets `-o`."""
    texts = {**{name: (_HERE / name).read_text() for name in sources}, **texts}
    key = sha256(repr((output, texts, commands)).encode()).hexdigest()[:32]
    kept = cache_folder() / "emulated" / f"{key}-{output}"
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory(prefix="edgec-", dir=writable_cache("emulated")) as temporary:
        for name, text in texts.items():
            Path(temporary, name).write_text(text)
        for command in (*commands[:-1], [*commands[-1], "-o", output]):
            _run(command, temporary)
        os.replace(Path(temporary, output), kept)
    return kept


def _run(command: Sequence[str], folder: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise EdgecError(f"{command[0]} refuses an emulated kernel: {first}") from RuntimeError(done.stderr)
