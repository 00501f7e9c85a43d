"""The model of handmade.py for a GPU: the same two steps, with kernels in C that the emulated driver calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgec.compiler import toolchain as tools
from edgec.compiler.program import Device, Image, Launch, Port, Program, Ref
from tests.unit.handmade import program, target

KERNELS = """
#include <math.h>
#define KERNEL(name) \
    void name##_emulated(unsigned gx, unsigned gy, unsigned gz, unsigned block, unsigned shared, void **params)
#define POINTER(name, index) float *name = *(float **)params[index]
KERNEL(scale)
{
    POINTER(x, 0);
    POINTER(w, 1);
    POINTER(y, 2);
    for (unsigned i = 0; i < gx * block; i++) y[i] = x[i] * w[i] + OFFSET;
}
KERNEL(squash)
{
    POINTER(x, 0);
    POINTER(y, 1);
    POINTER(runs, 2);
    for (unsigned i = 0; i < gx * block; i++) y[i] = tanhf(x[i]) + x[i];
    y[gx * block] = ++*runs;
}
"""
DEVICE_ARENA = 1024


def emulated_image(folder: Path, offset: float = 0.0) -> Image:
    folder.mkdir(exist_ok=True)
    (folder / "device.c").write_text(KERNELS)
    flags = ("-std=c11", "-O1", "-shared", "-fPIC", "-s", f"-DOFFSET={offset:f}f")
    tools.toolchain(target()).link("device.so", ["device.c"], folder, flags)
    return Image(0, "emulated", (folder / "device.so").read_bytes())


def device_program(folder: Path, images: tuple[Image, ...] = (), name: str = "tiny", offset: float = 0.0) -> Program:
    """Input and outputs are at other places on the device than here; `runs` counts in memory that was zero."""
    base = program(folder, name=name)
    x, m, y, runs = (Ref("arena", at) for at in (512, 256, 0, 32))
    mul, act = base.steps
    steps = (
        replace(
            mul, symbol="", args=(x, Ref("weights", 0), m), tasks=8, launch=Launch("scale", (2, 1, 1), 4, 50 << 10)
        ),
        replace(
            act,
            symbol="",
            args=(m, y, Ref("zeros", 0)),
            tasks=8,
            scratch_stride=0,
            launch=Launch("squash", (2, 1, 1), 4),
        ),
    )
    results = [replace(stored, ref=ref) for step, ref in zip(steps, (m, y), strict=True) for stored in step.results]
    steps = tuple(replace(step, results=(stored,)) for step, stored in zip(steps, results, strict=True))
    return replace(
        base,
        steps=steps,
        objects=(),
        outputs=(
            *(replace(p, ref=Ref("arena", 64)) for p in base.outputs),
            Port("runs", "f32", (1,), 4, Ref("arena", 128)),
        ),
        arena_bytes=192,
        lower_bound=DEVICE_ARENA,
        threads=1,
        isa=(),
        device=Device(
            modules=(images or (emulated_image(folder, offset),),),
            arena_bytes=DEVICE_ARENA,
            inputs=(x,),
            outputs=(y, runs),
            counts=(None, None),
            zeros_bytes=4,
            source="// kernels\n",
        ),
    )
