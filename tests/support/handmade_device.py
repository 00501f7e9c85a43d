"""The model of handmade.py for a GPU: the same two steps, with kernels in C for the emulated driver, and in PTX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgec.compiler import toolchain as tools
from edgec.compiler.program import Device, Image, Launch, Port, Program, Ref
from tests.support.handmade import program, target

KERNELS = """
#include <math.h>
#define KERNEL(name) \
    const char name##_waits = 1; \
    void name##_emulated(unsigned gx, unsigned gy, unsigned gz, unsigned block, unsigned shared, void **params)
#define POINTER(name, index) float *name = *(float **)params[index]
static void (*handler)(const char *message);
void ec_emulated_on_fault(void (*h)(const char *)) { handler = h; }
KERNEL(scale)
{
    POINTER(x, 0);
    POINTER(w, 1);
    POINTER(y, 2);
    if (x[0] == 99) handler("scale, block (0, 0, 0), thread 0: refuses 99");
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
_ENTRY = """
.visible .entry NAME(.param .u64 a, .param .u64 b, .param .u64 c)
{
    .reg .pred %p; .reg .f32 %f<8>; .reg .b32 %r<5>; .reg .b64 %a<4>, %i<8>;
    ld.param.u64 %a1, [a]; ld.param.u64 %a2, [b]; ld.param.u64 %a3, [c];
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    mul.wide.u32 %i1, %r4, 4;
    add.s64 %i2, %a1, %i1; add.s64 %i3, %a2, %i1; add.s64 %i4, %a3, %i1;
    ld.f32 %f1, [%i2];
BODY
    ret;
}
"""
_SCALE = "    ld.f32 %f2, [%i3]; mul.f32 %f3, %f1, %f2; st.f32 [%i4], %f3;"
_SQUASH = """    mul.f32 %f2, %f1, 0f4038AA3B; ex2.approx.f32 %f3, %f2;      // tanh(x) = 1 - 2 / (exp(2 x) + 1)
    add.f32 %f3, %f3, 0f3F800000; rcp.rn.f32 %f4, %f3;
    fma.rn.f32 %f5, %f4, 0fC0000000, 0f3F800000; add.f32 %f6, %f5, %f1; st.f32 [%i3], %f6;
    setp.ne.s32 %p, %r4, 0;
    @%p bra DONE;
    ld.f32 %f7, [%a3]; add.f32 %f7, %f7, 0f3F800000; st.f32 [%a3], %f7; st.f32 [%a2+32], %f7;
DONE:"""
PTX = ".version 7.0\n.target sm_75\n.address_size 64\n" + "".join(
    _ENTRY.replace("NAME", name).replace("BODY", body) for name, body in (("scale", _SCALE), ("squash", _SQUASH))
)
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
