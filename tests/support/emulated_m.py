"""Runs one kernel on an emulated Cortex-M board, its buffers in regions of the MPU that end where they end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.layout import pack, physical_shape, unpack
from edgec.compiler.registry import ROWS, Choice, Problem
from tests.support.emulated import laid

BOARDS = {"cortex-m55": "mps3-an547"}
DRIVER = r"""
#include <stddef.h>
#include <stdint.h>
#define REG(a) (*(volatile uint32_t *)(a))
void kern(void *const *args, int32_t begin, int32_t end);
static const size_t sizes[] = {SIZES};
extern uint32_t stack_end;
static int32_t host(int32_t op, const void *arg) {
    register int32_t r0 __asm__("r0") = op;
    register const void *r1 __asm__("r1") = arg;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
static int32_t host3(int32_t op, uintptr_t a, uintptr_t b, uintptr_t c) {
    const uintptr_t block[3] = {a, b, c};
    return host(op, block);
}
static void stop(int32_t code) { host3(0x20, 0x20026, (uintptr_t)code, 0); for (;;) {} }
static void fault(void) { stop(3); }
void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int c, size_t n) {
    for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = (char)c;
    return to;
}
static void region(uint32_t number, uint32_t first, uint32_t end, uint32_t how) {
    REG(0xE000ED98) = number;
    REG(0xE000ED9C) = first | how;
    REG(0xE000EDA0) = ((end - 1) & ~31u) | 1;
}
static void go(void) {
    const int32_t in = host3(1, (uintptr_t)"in", 1, 2), out = host3(1, (uintptr_t)"out", 5, 3);
    for (int at_end = 0; at_end < 2; at_end++) {
        void *args[COUNT + 1];
        uint32_t at = 0x21000100;
        host3(0x0A, (uintptr_t)in, 0, 0);
        REG(0xE000ED94) = 0;
        region(0, 0, 0x80000, 6);
        region(1, 0x20000000, 0x20080000, 2);
        for (int i = 0; i < COUNT; i++) {
            const uint32_t size = ((uint32_t)sizes[i] + 3) & ~3u, room = (size + 31) & ~31u;
            memset((void *)(at - 64), 0x7f, room + 128);
            args[i] = (void *)(at + (at_end ? room - size : 0));
            if (sizes[i]) region((uint32_t)i + 2, at, at + room, 2);
            at += room + 128;
        }
        for (int i = 0; i < OUT; i++) host3(6, (uintptr_t)in, (uintptr_t)args[i], sizes[i]);
        if (OVER >= 0) args[OUT] = args[OVER];
        __asm__ volatile("dsb" ::: "memory");
        REG(0xE000ED94) = 1;
        __asm__ volatile("dsb\n isb" ::: "memory");
        kern(args, 0, HALF);
        kern(args, HALF, TASKS);
        __asm__ volatile("dsb" ::: "memory");
        REG(0xE000ED94) = 0;
        __asm__ volatile("dsb\n isb" ::: "memory");
        host3(5, (uintptr_t)out, (uintptr_t)args[OUT], sizes[OUT]);
    }
    stop(0);
}
void reset(void) {
    REG(0xE000ED88) |= 0xFu << 20;
    __asm__ volatile("dsb\n isb");
    go();
}
__attribute__((section(".isr"), used)) static const void *const vectors[16] = {
    &stack_end, reset, fault, fault, fault, fault, fault};
"""
LINK = """
SECTIONS
{
  .text 0x0 : { KEEP(*(.isr)) *(.text*) *(.rodata*) *(.data*) *(.bss*) }
  stack_end = 0x20080000;
  /DISCARD/ : { *(.ARM.exidx*) *(.ARM.extab*) *(.comment*) *(.note*) }
}
"""


def needs_emulator() -> tuple[str, str]:
    """A C compiler and an emulator for Cortex-M; a test without them is skipped."""
    compiler, emulator = shutil.which("arm-none-eabi-gcc"), shutil.which("qemu-system-arm")
    if not compiler or not emulator:
        pytest.skip("needs a cross compiler and an emulator for Cortex-M")
    return compiler, emulator


def emulate(problem: Problem, choice: Choice, arrays: Sequence[Any], folder: Path, over: int = -1) -> Any:
    """The kernel's only output, which must not depend on where its buffers lie. They begin on multiples of 4 bytes.

    `over`: an input that the output is written over.
    """
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import object_bytes

    compiler, emulator = needs_emulator()
    p = laid(problem, choice)
    with built_for.core(p.target.cpu):
        made = ROWS[choice.row].emit(p, choice, "kern")
    (folder / "k.o").write_bytes(object_bytes([("kern", made.function)], p.target))
    packed = [filled(np.asarray(a), v.type.layout) for a, v in zip(arrays, p.body.inputs, strict=True)]
    out = p.body.outputs[0].type
    blank = np.zeros(physical_shape(out), run(problem.body, arrays)[0].dtype)
    sizes = [a.nbytes for a in packed] + [blank.nbytes] + [choice.scratch_bytes] * bool(choice.scratch_bytes)
    texts = {
        "SIZES": ", ".join(map(str, sizes)), "COUNT": str(len(sizes)), "OUT": str(len(packed)),
        "HALF": str(made.tasks // 2), "TASKS": str(made.tasks), "OVER": str(over),
    }  # fmt: skip
    source = DRIVER
    for key, text in texts.items():
        source = source.replace(key, text)
    (folder / "main.c").write_text(source)
    (folder / "in").write_bytes(b"".join(a.tobytes() for a in packed))
    (folder / "link.ld").write_text(LINK)
    flags = [
        *p.target.cflags,
        "-O1",
        "-w",
        "-ffreestanding",
        "-nostdlib",
        "-T",
        "link.ld",
        "-Wl,--no-warn-rwx-segments,-z,noexecstack",
    ]
    subprocess.run([compiler, *flags, "-o", "k.elf", "main.c", "k.o", "-lgcc"], cwd=folder, check=True)
    board = [emulator, "-M", BOARDS[p.target.name], "-nographic", "-semihosting", "-kernel", "k.elf"]
    done = subprocess.run(board, cwd=folder, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, f"{choice} ended with {done.returncode}: {done.stderr.decode()}"
    results = np.frombuffer((folder / "out").read_bytes(), blank.dtype).reshape(2, *blank.shape)
    first, second = (unpack(r, out.layout, out.shape) for r in results)
    np.testing.assert_array_equal(first, second, err_msg="depends on where its buffers lie")
    return first


def filled(array: Any, layout: str) -> Any:
    """Packed as activations lie: what pads blocks of channels is anything."""
    packed = pack(array, layout)
    if array.dtype == np.int8 and layout in ("NHWC4c", "NWC4c"):
        holes = pack(np.ones_like(array), layout) == 0
        packed[holes] = 93
    return packed
