"""Runs a bundle for AArch64 under an emulator and counts how often each step executes each block of its kernels."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import elf
from ..bundle.emulate import Emulated
from ..bundle.manifest import Bundle
from ..errors import EdgecError
from .blocks import COUNTER_BYTES, JUMP_WORDS, WORD, Block, blocks_of, counting, jump

_PROGRAM = """/* argv: inputs (concatenated), counters after each step (uint32 step, then all), which fallback. */
#include <stdio.h>
#include <stdlib.h>
#include "NAME.h"

__asm__(".text\\n.balign 64\\n.globl edgec_jumps\\nedgec_jumps: .space ROOM*32\\n");
EC_ALIGNAS(4096) uint64_t edgec_counters[ROOM];
EC_ALIGNAS(BIG_ARENA_ALIGN) static uint8_t arena[BIG_ARENA_BYTES];
extern char edgec_jumps[];

static int fail(const char *what) { fprintf(stderr, "%s\\n", what); return 1; }

int main(int argc, char **argv)
{
    ec_model model;
    const ec_desc *desc = &NAME_desc;
    if (argc != 4 || !edgec_jumps[0]) return fail("usage");
    for (int i = atoi(argv[3]); i > 0; i--) desc = desc->fallback;
    ec_status status = ec_open(&model, desc, arena, sizeof arena);
    if (status < 0) return fail(ec_strerror(status));
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (!in || !out) return fail("cannot open files");
    for (uint32_t i = 0; i < NAME_desc.n_inputs; i++) {
        ec_tensor t = ec_input(&model, i);
        if (fread(t.data, 1, t.io->bytes, in) != t.io->bytes) return fail("short input");
    }
    do {
        const uint32_t step = model.next;
        if ((status = ec_step_next(&model)) < 0) return fail(ec_strerror(status));
        fwrite(&step, sizeof step, 1, out);
        fwrite(edgec_counters, sizeof edgec_counters[0], USED, out);
    } while (status > 0);
    return fclose(out) == 0 ? 0 : fail("cannot write");
}
"""


@dataclass(frozen=True)
class Kernel:
    """A function of the linked program."""

    symbol: str
    address: int
    blocks: tuple[Block, ...]
    first: int  # number of its first block's counter


@dataclass(frozen=True)
class Counts:
    """What a run counted: for each step, how often it executed the blocks, by the number of their counters."""

    program: Path
    kernels: tuple[Kernel, ...]
    steps: npt.NDArray[np.int64]


class Counting(Emulated):
    """A bundle behind an emulator whose kernels count. Close it (`folder.cleanup()`) when its program has been read."""

    def __init__(self, bundle: Bundle, level: str | None = None) -> None:
        if not bundle.manifest["triple"].startswith("aarch64"):
            raise EdgecError(
                f"{bundle.folder}: compiled for {bundle.manifest['triple']}; cores are modelled of AArch64"
            )
        self.room = bundle.code_bytes // (2 * WORD) // 64 * 64 + 64  # a block has two instructions or more
        super().__init__(bundle, level or bundle.levels[0])
        self.kernels = self._kernels()

    def source(self) -> str:
        return _PROGRAM.replace("ROOM", str(self.room)).replace("USED", str(self.room))

    def _kernels(self) -> tuple[Kernel, ...]:
        data = (self.work / "driver").read_bytes()
        found, first = [], 0
        for name, address, size in elf.functions(data):
            if name.startswith(f"{self.bundle.name}_k"):
                at = elf.file_offset(data, address)
                blocks = tuple(blocks_of(data[at : at + size], address))
                found.append(Kernel(name, address, blocks, first))
                first += len(blocks)
        return tuple(found)

    def count(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Counts:
        """One inference."""
        self._patch()
        self.feed(inputs)
        command = [str(self.emulator), "./counting", "inputs", "counts", str(self.fallback)]
        self.run(command)
        data = (self.work / "counts").read_bytes()
        steps = np.zeros((len(self.bundle.steps), self.room), np.int64)
        before, size = np.zeros(self.room, np.int64), 4 + COUNTER_BYTES * self.room
        for at in range(0, len(data), size):
            (step,) = struct.unpack_from("<I", data, at)
            now = np.frombuffer(data, "<i8", self.room, at + 4)
            steps[step] += now - before
            before = now
        return Counts(self.work / "driver", self.kernels, steps)

    def _patch(self) -> None:
        """The program with jumps in place of instructions, as the file `counting`."""
        data = bytearray((self.work / "driver").read_bytes())
        jumps, counters = (elf.address_of(bytes(data), f"edgec_{what}") for what in ("jumps", "counters"))
        offset, original = elf.file_offset(bytes(data), jumps), bytes(data)
        for kernel in self.kernels:
            shift = elf.file_offset(original, kernel.address) - kernel.address
            for i, block in enumerate(kernel.blocks, kernel.first):
                place, here = WORD * JUMP_WORDS * i, block.counter + shift
                code = counting(original[here : here + WORD], block, jumps + place, counters + COUNTER_BYTES * i)
                data[offset + place : offset + place + len(code)] = code
                data[here : here + WORD] = jump(block.counter, jumps + place)
        path = self.work / "counting"
        path.write_bytes(data)
        path.chmod(0o755)
