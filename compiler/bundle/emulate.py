"""Runs a bundle of another architecture: a small C program linked with it, under the target's emulator (qemu-user)."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import toolchain as tools
from ..errors import EdgecError
from ..ports import cut, named_dtype
from ..target import Target, find_target
from .manifest import Bundle

_PROGRAM = """/* argv: inputs (concatenated), probes, outputs (probed memory, then outputs with counts), which fallback.
 * A probe is uint32 step, offset, bytes; probes are sorted by step. */
#include <stdio.h>
#include <stdlib.h>
#include "NAME.h"

EC_ALIGNAS(BIG_ARENA_ALIGN) static uint8_t arena[BIG_ARENA_BYTES];

static int fail(const char *what) { fprintf(stderr, "%s\\n", what); return 1; }

int main(int argc, char **argv)
{
    ec_model model;
    uint32_t probe[3];
    const ec_desc *desc = &NAME_desc;
    if (argc != 5) return fail("usage");
    for (int i = atoi(argv[4]); i > 0; i--) desc = desc->fallback;
    ec_status status = ec_open(&model, desc, arena, sizeof arena);
    if (status < 0) return fail(ec_strerror(status));
    FILE *in = fopen(argv[1], "rb"), *probes = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
    if (!in || !probes || !out) return fail("cannot open files");
    for (uint32_t i = 0; i < NAME_desc.n_inputs; i++) {
        ec_tensor t = ec_input(&model, i);
        if (fread(t.data, 1, t.io->bytes, in) != t.io->bytes) return fail("short input");
    }
    int more = fread(probe, sizeof probe, 1, probes) == 1;
    do {
        const uint32_t step = model.next;
        if ((status = ec_step_next(&model)) < 0) return fail(ec_strerror(status));
        for (; more && probe[0] == step; more = fread(probe, sizeof probe, 1, probes) == 1)
            fwrite(arena + probe[1], 1, probe[2], out);
    } while (status > 0);
    for (uint32_t i = 0; i < NAME_desc.n_outputs; i++) {
        ec_tensor t = ec_output(&model, i);
        int64_t count = ec_output_count(&model, i);
        fwrite(t.data, 1, t.io->bytes, out);
        fwrite(&count, sizeof count, 1, out);
    }
    return fclose(out) == 0 ? 0 : fail("cannot write");
}
"""


class Emulated:
    """A bundle behind an emulator, with the `trace` of `runtime.Model`, at its least demanding level by default."""

    def __init__(self, bundle: Bundle, level: str | None = None) -> None:
        self.bundle = bundle.at(level or bundle.levels[-1])
        self.fallback = bundle.levels.index(level or bundle.levels[-1])
        self.target = target_of(bundle)
        if bundle.manifest.get("device"):
            raise EdgecError(
                f"{bundle.folder}: compiled for a GPU beside {bundle.manifest['triple']}: verify it there, or "
                "its kernels here in a bundle for --target cuda --arch emulated"
            )
        self.emulator = tools.emulator(self.target)
        if self.emulator is None:
            tried = ", ".join(self.target.emulator) or "none is known"
            raise EdgecError(
                f"{bundle.folder}: compiled for {bundle.manifest['triple']}; no emulator for it here ({tried}): "
                "install qemu-user-static, or verify on the device"
            )
        self.folder = tempfile.TemporaryDirectory(prefix="edgec-")
        self.work = Path(self.folder.name)
        source = re.sub("NAME|BIG", lambda m: bundle.name if m[0] == "NAME" else bundle.name.upper(), self.source())
        (self.work / "driver.c").write_text(source)
        parts = ["driver.c", str(bundle.static_library.resolve())]
        _static(tools.toolchain(self.target), self.target).link(
            "driver", parts, self.work, ("-static", "-O1", "-std=c11", f"-I{bundle.folder.resolve()}")
        )

    def source(self) -> str:
        """The program in C: NAME is the model's, BIG that in capitals."""
        return _PROGRAM

    def feed(self, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the inputs where the program reads them."""
        with (self.work / "inputs").open("wb") as file:
            for port in self.bundle.manifest["inputs"]:
                file.write(np.ascontiguousarray(inputs[port["name"]], port["dtype"]).tobytes())

    def run(self, command: Sequence[str]) -> None:
        """Run the program; an `EdgecError` quotes what it said last."""
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise EdgecError(
                f"{self.bundle.folder}: failed in {self.emulator}: {said[-1] if said else done.returncode}"
            )

    def trace(
        self, inputs: Mapping[str, npt.NDArray[Any]], probes: Sequence[tuple[int, int, int]]
    ) -> tuple[dict[str, npt.NDArray[Any]], list[bytes]]:
        """One inference; each probe (step, offset, bytes) gives the arena's bytes after that step."""
        order = sorted(range(len(probes)), key=lambda i: probes[i][0])
        self.feed(inputs)
        (self.work / "probes").write_bytes(b"".join(struct.pack("<3I", *probes[i]) for i in order))
        command = [str(self.emulator), "./driver", "inputs", "probes", "outputs", str(self.fallback)]
        self.run(command)
        return self._read((self.work / "outputs").read_bytes(), order, probes)

    def _read(
        self, data: bytes, order: Sequence[int], probes: Sequence[tuple[int, int, int]]
    ) -> tuple[dict[str, npt.NDArray[Any]], list[bytes]]:
        found, at = [b""] * len(probes), 0
        for i in order:
            found[i] = data[at : at + probes[i][2]]
            at += probes[i][2]
        outputs, _ = read_outputs(self.bundle.manifest["outputs"], data, at)
        return outputs, found


def read_outputs(ports: Sequence[Mapping[str, Any]], data: bytes, at: int) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Outputs as emulated programs write them from `at` on: elements, and an int64, how many count; where they end."""
    outputs = {}
    for port in ports:
        end = at + port["bytes"]
        whole = np.frombuffer(data[at:end], named_dtype(port["dtype"])).reshape(port["shape"])
        (count,) = struct.unpack_from("<q", data, end)
        outputs[port["name"]] = cut(whole, port["count"]["axis"], count) if port.get("count") else whole
        at = end + struct.calcsize("<q")
    return outputs, at


def target_of(bundle: Bundle) -> Target:
    """The description that a bundle was compiled for, or one of the same architecture where that is not known here."""
    from ..plugins import all_targets

    triple, cpu = bundle.manifest["triple"], bundle.manifest.get("cpu")
    same = []
    for name in (bundle.manifest["target"], *sorted(all_targets())):
        with suppress(EdgecError):  # of a plugin that is gone, or from a file
            same += [target] if (target := find_target(name)).triple == triple else []
    for target in same:
        if cpu in (None, target.cpu.mcpu):
            return target
    if same:
        return same[0]
    raise EdgecError(f"{bundle.folder}: compiled for {triple}, of which no target description here knows")


def _static(chain: tools.Toolchain, target: Target) -> tools.Toolchain:
    """Tools that make static programs: ziglang links those with musl only."""
    if "ziglang" not in chain.cc:
        return chain
    musl = target.zig.partition("-linux-")[0] + "-linux-" + ("musleabihf" if "eabihf" in target.zig else "musl")
    return replace(chain, cc=tuple(musl if word == target.zig else word for word in chain.cc))
