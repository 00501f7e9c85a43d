"""Builds one kernel and runs it on numpy arrays, in this process or under an emulator; links kernels with a timer."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Array
from edgec.compiler.layout import pack, physical_shape, unpack
from edgec.compiler.registry import ROWS, Choice, Problem, laid_out

from .host import claim_tiles

CLOCK = r"""
#include <stdint.h>
#include <time.h>
typedef void kernel_fn(void *const *, int32_t, int32_t);
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}
"""


def with_layouts(problem: Problem, choice: Choice) -> Problem:
    """The problem with the choice's layouts on the types of its body's inputs and outputs."""
    layouts_in = [layout or "" for layout in choice.layouts_in]
    return replace(problem, body=laid_out(problem.body, layouts_in, choice.layouts_out))


class Built:
    """A kernel's object and its arguments as arrays. `inputs` are logical, one per body input."""

    def __init__(self, problem: Problem, choice: Choice, inputs: Sequence[Array]) -> None:
        from . import built_for
        from .codegen_llvm import object_bytes

        laid = with_layouts(problem, choice)
        with built_for.core(laid.target.cpu):
            emitted = ROWS[choice.row].emit(laid, choice, "edgec_kernel")
        self.tasks, self.target = emitted.tasks, laid.target
        self.out_types = [v.type for v in laid.body.outputs]
        self.arrays = [
            _aligned(pack(np.asarray(a), v.type.layout)) for a, v in zip(inputs, laid.body.inputs, strict=True)
        ]
        self.outs = [_aligned(np.full(physical_shape(t), 77, dtype(t.dtype).numpy)) for t in self.out_types]
        self.outs_at = len(self.arrays)
        self.arrays += self.outs
        if choice.scratch_bytes:
            self.arrays.append(_aligned(np.zeros(choice.scratch_bytes, np.uint8)))
        self.object = object_bytes([("edgec_kernel", emitted.function)], laid.target)

    def results(self, outs: Sequence[Array]) -> list[Array]:
        """The logical outputs of physical ones."""
        return [unpack(out, t.layout, t.shape) for out, t in zip(outs, self.out_types, strict=True)]

    def emulate(self, compiler: str, emulator: str) -> Array:
        """Run all tasks in a program of the kernel's target, and return the logical output, which is the only one."""
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            (here / "k.o").write_bytes(self.object)
            (here / "main.c").write_text(_driver([a.nbytes for a in self.arrays], self.outs_at, self.tasks))
            _shell([compiler, "-O1", "-static", "-o", "k", "main.c", "k.o", "-lm"], here)
            data = b"".join(a.tobytes() for a in self.arrays)
            done = subprocess.run([emulator, "./k"], cwd=here, input=data, capture_output=True, check=False)
            if done.returncode:
                raise EdgecError(f"the kernel failed under {emulator}: {done.stderr.decode().strip()}")
        (out,) = self.outs
        return self.results([np.frombuffer(done.stdout, out.dtype).reshape(out.shape)])[0]


def _driver(sizes: Sequence[int], out: int, tasks: int) -> str:
    """A C program that reads every argument from its input, runs the kernel, and writes argument `out`."""
    slots = "\n".join(f"static _Alignas(64) unsigned char a{i}[{size + 64}];" for i, size in enumerate(sizes))
    reads = "".join(f"fread(a{i}, 1, {size}, stdin) == {size} && " for i, size in enumerate(sizes))
    return f"""#include <stdint.h>
#include <stdio.h>
void edgec_kernel(void *const *args, int32_t begin, int32_t end);
{slots}
int main(void) {{
    void *args[] = {{{", ".join(f"a{i}" for i in range(len(sizes)))}}};
    if (!({reads}1)) return 1;
    edgec_kernel(args, 0, {tasks});
    return fwrite(a{out}, 1, {sizes[out]}, stdout) != {sizes[out]};
}}
"""


class Measured(Built):
    """A kernel in this process."""

    def __init__(self, problem: Problem, choice: Choice, inputs: Sequence[Array]) -> None:
        super().__init__(problem, choice, inputs)
        self.library = link([self.object])
        self.args = (ctypes.c_void_p * len(self.arrays))(*[a.ctypes.data for a in self.arrays])

    def run(self, parts: int = 1) -> Array:
        """Run all tasks, in `parts` calls, and return the logical output, which is the only one."""
        (out,) = self.run_all(parts)
        return out

    def run_all(self, parts: int = 1) -> list[Array]:
        """Run all tasks, in `parts` calls, and return the logical outputs."""
        cuts = [self.tasks * i // parts for i in range(parts + 1)]
        for begin, end in zip(cuts, cuts[1:], strict=False):
            self.library.edgec_kernel(self.args, begin, end)
        return self.results(self.outs)


def _aligned(array: Array, to: int = 64) -> Array:
    """A copy at an address that is a multiple of `to`."""
    raw = np.zeros(array.nbytes + to, np.uint8)
    start = -raw.ctypes.data % to
    view = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def link(objects: Sequence[bytes], timer: str = "") -> Any:
    """The objects, and a timer in C that may call `now` (in us), as a loaded shared library."""
    claim_tiles()
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        here = Path(folder)
        names = [f"k{i}.o" for i in range(len(objects))]
        for name, data in zip(names, objects, strict=True):
            (here / name).write_bytes(data)
        (here / "timer.c").write_text(CLOCK + timer)
        _shell(["cc", "-O2", "-shared", "-fPIC", "-o", "k.so", *names, "timer.c", "-lm"], here)
        try:
            return ctypes.CDLL(str(here / "k.so"))
        except OSError as error:
            raise EdgecError(f"measured kernels cannot be loaded: {error}") from error


def _shell(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgecError(f"{command[0]} cannot link a kernel: {done.stderr.strip()}")
