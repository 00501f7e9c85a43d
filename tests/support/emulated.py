"""Runs one kernel of another architecture under qemu, its buffers between pages that nobody may touch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec.targets.kernels  # noqa: F401  (registers the rows)
from edgec.compiler.interpret import run
from edgec.compiler.layout import layout as parsed
from edgec.compiler.layout import pack, physical_shape, unpack
from edgec.compiler.registry import ROWS, Choice, Problem, laid_out
from edgec.compiler.rescale.bounds import UNKNOWN

DRIVER = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
void kern(void *const *args, int32_t begin, int32_t end);
static const size_t sizes[] = {SIZES};
static const int32_t table[] = {TABLE 0};
static unsigned char *fenced(size_t size, int at_end) {
    const size_t page = 65536, room = (size + page - 1) / page * page;
    unsigned char *p = mmap(0, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(p + page, room, PROT_READ | PROT_WRITE);
    memset(p + page, 0x7f, room);
    return p + page + (at_end ? room - size : 0);
}
int main(void) {
    static unsigned char first[SPACE];
    for (int at_end = 0; at_end < 2; at_end++) {
        void *args[COUNT + 1];
        for (int i = 0; i < COUNT; i++) args[i] = fenced(sizes[i], at_end);
        rewind(stdin);
        for (int i = 0; i < OUT; i++) if (fread(args[i], 1, sizes[i], stdin) != sizes[i]) return 1;
        if (sizeof table > 4) memcpy(args[OUT + 1], table, sizes[OUT + 1]);
        if (OVER >= 0) args[OUT] = args[OVER];
        kern(args, 0, HALF);
        kern(args, HALF, TASKS);
        if (!at_end) memcpy(first, args[OUT], sizes[OUT]);
        else if (fwrite(first, 1, sizes[OUT], stdout) != sizes[OUT]) return 2;
        else if (fwrite(args[OUT], 1, sizes[OUT], stdout) != sizes[OUT]) return 2;
    }
    return 0;
}
"""


def needs_board() -> None:
    """A C compiler and an emulator for boards with a Cortex-M; a test without them is skipped."""
    if not shutil.which("arm-none-eabi-gcc") or not shutil.which("qemu-system-arm"):
        pytest.skip("needs gcc-arm-none-eabi and qemu-system-arm")


TOOLS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64-static"),
    "thumb": ("arm-linux-gnueabihf-gcc", "qemu-arm-static"),  # code for Cortex-M runs as a user's program too
}


def needs_emulator(family: str = "aarch64") -> tuple[str, str]:
    """A C compiler and an emulator for a family of CPUs; a test without them is skipped."""
    compiler, emulator = (shutil.which(tool) for tool in TOOLS[family])
    if not compiler or not emulator:
        pytest.skip(f"needs a cross compiler and an emulator for {family}")
    return compiler, emulator


def laid(problem: Problem, choice: Choice) -> Problem:
    wanted = [v.type.layout if c is None else c for v, c in zip(problem.body.inputs, choice.layouts_in, strict=True)]
    return replace(problem, body=laid_out(problem.body, wanted, choice.layouts_out))


def emulate(
    problem: Problem, choice: Choice, arrays: Sequence[Any], folder: Path, cpu: str = "max", over: int = -1
) -> Any:
    """The kernel's only output, which must not depend on where its buffers lie.

    `over`: an input that the output is written over.
    """
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import object_bytes

    narrow = problem.target.triple.startswith(("thumb", "armv7"))
    compiler, emulator = needs_emulator("thumb" if narrow else "aarch64")
    p = replace(laid(problem, choice), reach=UNKNOWN)  # as code generation has it: what bounds it knows, a choice says
    # without an FPU rescaling calls the runtime, which is not linked here (test_integer_without_fpu.py)
    with built_for.core(p.target.cpu) if p.target.cpu.fpu else nullcontext():
        made = ROWS[choice.row].emit(p, choice, "kern")
    (folder / "k.o").write_bytes(object_bytes([("kern", made.function)], p.target))
    packed = [_filled(np.asarray(a), v.type.layout) for a, v in zip(arrays, p.body.inputs, strict=True)]
    out = p.body.outputs[0].type
    blank = np.zeros(physical_shape(out), run(problem.body, arrays)[0].dtype)
    table = [len(made.numbers) * 4] if made.numbers else []
    sizes = [a.nbytes for a in packed] + [blank.nbytes] + table + [choice.scratch_bytes] * bool(choice.scratch_bytes)
    texts = {
        "SIZES": ", ".join(map(str, sizes)), "SPACE": str(max(1, blank.nbytes)), "COUNT": str(len(sizes)),
        "OUT": str(len(packed)), "HALF": str(made.tasks // 2), "TASKS": str(made.tasks),
        "OVER": str(over), "TABLE": "".join(f"{n}, " for n in made.numbers),
    }  # fmt: skip
    source = DRIVER
    for key, text in texts.items():
        source = source.replace(key, text)
    (folder / "main.c").write_text(source)
    (folder / "in").write_bytes(b"".join(a.tobytes() for a in packed))
    if p.target.triple.startswith("thumb"):  # the linker keeps code for microcontrollers apart by this section
        tool = compiler.replace("gcc", "objcopy")
        subprocess.run([tool, "-R", ".ARM.attributes", "k.o"], cwd=folder, check=True)
    subprocess.run([compiler, "-O1", "-static", "-o", "k", "main.c", "k.o", "-lm"], cwd=folder, check=True)
    with (folder / "in").open("rb") as given:
        done = subprocess.run(
            [emulator, "./k"], cwd=folder, stdin=given, capture_output=True, check=False,
            env={**os.environ, "QEMU_CPU": cpu},
        )  # fmt: skip
    assert done.returncode == 0, f"{choice} ended with {done.returncode} on {cpu}: {done.stderr.decode()}"
    results = np.frombuffer(done.stdout, blank.dtype).reshape(2, *blank.shape)
    first, second = (unpack(r, out.layout, out.shape) for r in results)
    np.testing.assert_array_equal(first, second, err_msg="depends on where its buffers lie")
    return first


def _filled(array: Any, layout: str) -> Any:
    """Packed as activations lie: what pads blocks of channels is anything, and so is what lies behind a constant."""
    packed = pack(array, layout)
    if beyond := parsed(layout, array.ndim).beyond:
        packed[-beyond:] = 77
    if array.dtype == np.int8 and layout in ("NHWC16c", "NWC16c", "NHWC4c", "NWC4c"):
        holes = pack(np.ones_like(array), layout) == 0
        packed[holes] = 93
    return packed
