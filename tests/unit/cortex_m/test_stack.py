"""The bound of the stack: as large as what painting measures, hardly larger, and never a guess."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.bundle.firmware import Firmware
from edgec.compiler.bundle.stack import Program
from edgec.compiler.bundle.thumb import Unclear
from edgec.compiler.target import find_target
from edgec.compiler.toolchain import toolchain
from tests.support.emulated import needs_board
from tests.unit.cortex_m.test_firmware import made

pytestmark = pytest.mark.firmware
BOARDS = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m55")
X = np.ones((2, 4), np.float32)
# What a kernel may do with the stack; each uses all that it takes.
USES = {
    "little": "",
    "words": "volatile int a[50]; for (int i = 0; i < 50; i++) a[i] = i;",
    "kilobytes": "volatile char a[5000]; for (int i = 0; i < 5000; i++) a[i] = 1;",
    "odd": "volatile char a[70001]; for (int i = 0; i < 70001; i += 64) a[i] = 1; a[0] = 1;",
    "aligned": "volatile _Alignas(64) char a[100]; for (int i = 0; i < 100; i++) a[i] = 1;",
    "divides": "volatile long long a = 1LL << 60, b = 7; a = a / b;",
    "doubles": "volatile double a = 3, b = 7; a = a / b + a;",
    "copies": "volatile int n = 300; char a[400], b[400]; __builtin_memset(b, 1, n); __builtin_memcpy(a, b, n);"
    ' __asm__ volatile("" : : "r"(a) : "memory");',
    "switches": "volatile int n = 3, m; switch (n) { case 0: m = 5; break; case 1: m = 99; break; case 2: m = n * 3;"
    " break; case 3: { volatile int a[30]; a[n] = n; for (int i = 0; i < 30; i++) a[i] = n; m = a[2]; break; }"
    " case 4: m = 1000; break; case 5: m = n + 8; break; case 6: m = n / 3; break; default: m = 0; } (void)m;",
}


QUICK = {
    ("words", "cortex-m55"),
    *((use, "cortex-m0plus") for use in ("switches", "kilobytes", "divides")),
    *((use, "cortex-m4") for use in ("little", "kilobytes", "aligned", "switches", "copies")),
}


@pytest.mark.parametrize(
    ("use", "board"),
    [
        pytest.param(use, board, marks=[] if (use, board) in QUICK else [pytest.mark.long])
        for board in BOARDS
        for use in USES
    ],
)
def test_bound_and_measure_agree(use: str, board: str, tmp_path: Path) -> None:
    needs_board()
    bundle = made(tmp_path, board, USES[use])
    assert bundle.footprint is not None
    bound = bundle.footprint["ram"]["stack"]
    assert bound is not None, bundle.manifest["notes"]
    if use == "odd":  # more than is painted
        assert 70_001 <= bound < 70_800
        return
    measured = Firmware(bundle).count([{"x": X}]).stack_bytes
    slack = 64 if use == "aligned" else 24  # where the stack happens to lie; what a wrapper in front may push
    assert measured <= bound <= measured + slack


def linked(text: str, board: str, folder: Path) -> Program:
    """A program of which `start` is the beginning."""
    (folder / "a.c").write_text(text)
    chain = toolchain(find_target(board))
    chain.compile(["a.c"], folder, ["-std=c11"])
    chain.link("a.elf", ["a.o"], folder, ("-nostartfiles", "-static", "-Wl,-e,start"))
    return Program((folder / "a.elf").read_bytes())


LEAF = "__attribute__((noinline)) void leaf(void) { volatile int a[20]; for (int i = 0; i < 20; i++) a[i] = i; }\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int start(int n) { return n < 2 ? n : start(n - 1) * start(n - 2) + 1; }", "start calls itself"),
        (
            "void use(volatile char *a) { *a = 1; }\nvoid start(int n) { volatile char a[n]; use(a); }",
            "start: the stack",
        ),
        ("void start(void (*f)(void)) { f(); f(); }", "start calls through a register"),
        ('void start(void) { __asm__ volatile("1: push {r0, r1}\\n b 1b"); }', "start: the stack grows in a loop"),
        ('void start(void) { __asm__ volatile("msr psp, r0"); }', "start: msr of a stack pointer"),
        ('void start(void) { __asm__ volatile("mov sp, r2"); }', "start: the stack pointer becomes r2"),
    ],
)
@pytest.mark.parametrize("board", ["cortex-m0plus", "cortex-m4"])
def test_what_cannot_be_known_is_said(text: str, message: str, board: str, tmp_path: Path) -> None:
    needs_board()
    with pytest.raises(Unclear, match=message):
        linked(text, board, tmp_path).stack(["start"], [], [])


@pytest.mark.parametrize("board", BOARDS)
def test_calls_add_up(board: str, tmp_path: Path) -> None:
    needs_board()
    text = LEAF + 'void deep(void) { leaf(); leaf(); __asm__(""); }\nvoid start(void (*f)(void)) { f(); f(); }'
    program = linked(text, board, tmp_path)
    leaf, deep = (program.stack([name], [], []) for name in ("leaf", "deep"))
    assert 80 <= leaf <= 104 and leaf + 8 <= deep <= leaf + 16
    through = program.stack(["start"], ["leaf", "deep"], ["start"])
    assert deep + 8 <= through <= deep + 16


def test_a_return_in_the_middle_ends_no_function(tmp_path: Path) -> None:
    """`popeq {r4, pc}` behind an `it` may also go on."""
    needs_board()
    text = (
        '__attribute__((naked)) void start(void) { __asm__ volatile(".syntax unified\\n push {r4, lr}\\n cmp r0, #1\\n"'
        '" it eq\\n popeq {r4, pc}\\n sub sp, #256\\n add sp, #256\\n pop {r4, pc}"); }'
    )
    assert linked(text, "cortex-m4", tmp_path).stack(["start"], [], []) == 264


@pytest.mark.parametrize("moves", ["vldrh.s32 q4, [r5], #8", "vstrh.32 q1, [r5], #-8", "vstrh.32 q0, [r5, #4]!"])
def test_vectors_of_narrow_elements_do_not_move_the_stack_pointer(moves: str, tmp_path: Path) -> None:
    """Three bits name the register of their address, next to one of their size: r5 looks like the stack pointer."""
    needs_board()
    code = f"sub sp, #64\\n {moves}\\n add sp, #64\\n bx lr"
    text = f'__attribute__((naked)) void start(void) {{ __asm__ volatile("{code}"); }}'
    assert linked(text, "cortex-m55", tmp_path).stack(["start"], [], []) == 64


def test_objdump_agrees_on_lengths(tmp_path: Path) -> None:
    needs_board()
    bundle = made(tmp_path, "cortex-m55", USES["switches"])
    firmware = Firmware(bundle)
    program = Program((firmware.work / "firmware.elf").read_bytes())
    said = subprocess.run(
        ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", firmware.work / "firmware.elf"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines = {int(at, 16) for at in re.findall(r"^ *([0-9a-f]+):\t(?!\.)", said, re.M)}
    for name in ("tiny_scale", "tiny_squash", "ec_open", "ec_step_next"):
        assert set(program._instructions(program.places[name])) <= lines
