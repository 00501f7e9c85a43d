"""Runs a bundle for a board without an operating system: firmware around it, on the board that qemu-system emulates.

The emulator's clock counts instructions (`-icount`): so does the firmware. Cycles of a real core are not modelled.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import toolchain as tools
from ..errors import EdgecError
from ..ports import Port
from ..target import Machine
from .emulate import read_outputs, target_of
from .manifest import Bundle

SOURCES = Path(__file__).resolve().parents[2] / "runtime" / "firmware"
_UNITS = ("main.c", "semihost.c", "startup.c", "ticks.c")
_TIMED, _STEPS, _STACK, _PROBED = range(4)  # the modes of main.c
_SHIFT = 6  # an instruction takes 2**6 ns: more than one tick of any board's clock
_LONGEST = 3600  # seconds; what does not end by itself does not end

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Counts:
    """Instructions of each run, and of one by step name; bytes of stack from the call of ec_run on, as measured."""

    runs: tuple[int, ...]
    layers: tuple[tuple[str, int], ...]
    stack_bytes: int


def bare(bundle: Bundle) -> bool:
    """Whether a bundle is for a board without an operating system."""
    return "linux" not in str(bundle.manifest["triple"])


def refuse_options(bundle: Bundle, threads: int | None, level: str | None) -> None:
    """Options that mean nothing without an operating system."""
    bundle.at(level or bundle.levels[0])
    if (threads or 1) > 1:
        raise EdgecError(f"{bundle.folder}: threads: {threads}; without an operating system one worker runs the model")


def refuse_too_large(bundle: Bundle, machine: Machine) -> None:
    """A model that the emulated board has no room for."""
    for what, needed, (_, room) in (
        ("RAM", bundle.ram_bytes, machine.ram),
        ("flash", bundle.flash_bytes, machine.flash),
    ):
        if needed > room:
            raise EdgecError(
                f"{bundle.folder}: needs {needed:,} bytes of {what}, and {machine.name}, the board that is emulated, "
                f"has {room:,}: compile it with --max-{what.lower()} {room // 1024}K to learn what would help"
            )


class Firmware:
    """A bundle in firmware of its own, with the `trace` of `runtime.Model`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.target = bundle, target_of(bundle)
        self.machine, self.emulator = self._emulated_on()
        refuse_too_large(bundle, self.machine)
        self.folder = tempfile.TemporaryDirectory(prefix="edgec-")
        self.work = Path(self.folder.name)
        self.image = link(bundle, self.machine, tools.toolchain(self.target), self.work)

    def _emulated_on(self) -> tuple[Machine, str]:
        what = f"{self.bundle.folder}: compiled for {self.bundle.manifest['triple']}"
        if self.target.machine is None:
            raise EdgecError(f"{what}; {self.target.name} names no [machine] that emulates it: run it on the device")
        emulator = tools.emulator(self.target)
        if emulator is None:
            tried = ", ".join(self.target.emulator) or "none is known"
            raise EdgecError(f"{what}, which runs here in an emulator ({tried}): apt install qemu-system-arm")
        return self.target.machine, emulator

    @property
    def inputs(self) -> tuple[Port, ...]:
        return tuple(Port(p["name"], p["dtype"], tuple(p["shape"])) for p in self.bundle.manifest["inputs"])

    def run(self, feeds: Sequence[Mapping[str, npt.NDArray[Any]]]) -> list[Arrays]:
        """The outputs of an inference on each of some inputs."""
        return [outputs for _, outputs in self._ask(_TIMED, feeds, 8)]

    def trace(
        self, inputs: Mapping[str, npt.NDArray[Any]], probes: Sequence[tuple[int, int, int]]
    ) -> tuple[Arrays, list[bytes]]:
        """One inference; each probe (step, offset, bytes) gives the arena's bytes after that step."""
        order = sorted(range(len(probes)), key=lambda i: probes[i][0])
        rows = [*(probes[i] for i in order), (2**32 - 1, 0, 0)]
        (self.work / "probes").write_bytes(b"".join(struct.pack("<3I", *row) for row in rows))
        ((data, outputs),) = self._ask(_PROBED, [inputs], sum(probes[i][2] for i in order))
        found, at = [b""] * len(probes), 0
        for i in order:
            found[i] = data[at : at + probes[i][2]]
            at += probes[i][2]
        return outputs, found

    def count(self, feeds: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Counts:
        """Instructions of an inference on each of some inputs; steps and stack for the first."""
        names = [step["name"] for step in self.bundle.steps]
        runs = [self._instructions(data)[0] for data, _ in self._ask(_TIMED, feeds, 8)]
        ((steps, _),) = self._ask(_STEPS, feeds[:1], 8 * len(names))
        ((stack, _),) = self._ask(_STACK, feeds[:1], 8)
        layers = tuple(zip(names, self._instructions(steps), strict=True))
        return Counts(tuple(runs), layers, int(struct.unpack("<Q", stack)[0]))

    def _instructions(self, data: bytes) -> list[int]:
        ticks = struct.unpack(f"<{len(data) // 8}Q", data)
        return [round(1e6 * count / self.per_million) for count in ticks]

    def _ask(
        self, mode: int, feeds: Sequence[Mapping[str, npt.NDArray[Any]]], measured: int
    ) -> list[tuple[bytes, Arrays]]:
        """Run the firmware; per inference the bytes that it measured, so many, and the outputs."""
        with (self.work / "request").open("wb") as file:
            file.write(struct.pack("<2I", mode, len(feeds)))
            for feed in feeds:
                for port in self.bundle.manifest["inputs"]:
                    file.write(np.ascontiguousarray(feed[port["name"]], port["dtype"]).tobytes())
        self._emulate()
        data = (self.work / "answer").read_bytes()
        (self.per_million,) = struct.unpack_from("<Q", data)
        found, at = [], 8
        for _ in feeds:
            outputs, end = read_outputs(self.bundle.manifest["outputs"], data, at + measured)
            found.append((data[at : at + measured], outputs))
            at = end
        return found

    def _emulate(self) -> None:
        machine = ("-M", self.machine.name, "-icount", f"shift={_SHIFT}", "-kernel", self.image)
        quiet = ("-display", "none", "-monitor", "none", "-serial", "none")
        command = [self.emulator, *machine, *quiet, "-semihosting-config", "enable=on,target=native"]
        try:
            done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, check=False, timeout=_LONGEST)
        except subprocess.TimeoutExpired as error:
            raise EdgecError(f"{self.bundle.folder}: did not end in {self.emulator}") from error
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip().splitlines()
            why = said[-1] if said else f"exit code {done.returncode}"
            raise EdgecError(f"{self.bundle.folder}: failed in {self.emulator}: {why}")


def link(bundle: Bundle, machine: Machine, chain: tools.Toolchain, work: Path) -> str:
    """Firmware in the folder `work` that runs the bundle on requests; the name of its file."""
    name, big = bundle.name, bundle.name.upper()
    model = [f'#include "{name}.h"', f"#define MODEL {name}_desc"]
    model += [f"#define {word} {big}_{word}" for word in ("ARENA_BYTES", "ARENA_ALIGN", "STEPS")]
    (work / "firmware_model.h").write_text("\n".join([*model, ""]))
    (work / "firmware.ld").write_text(linker_script(machine))
    include = (f"-I{bundle.folder.resolve()}", f"-I{SOURCES}", "-I.")
    for unit in _UNITS:
        (work / unit).write_text((SOURCES / unit).read_text())
    objects = chain.compile(_UNITS, work, ("-std=c11", "-ffreestanding", *include))
    flags = ("-nostartfiles", "-static", "-Wl,-T,firmware.ld,--gc-sections")
    chain.link("firmware.elf", [*objects, str(bundle.static_library.resolve())], work, flags)
    return "firmware.elf"


def linker_script(machine: Machine) -> str:
    """Where firmware lies in the memory of a board."""
    vectors = machine.vectors if machine.vectors >= 0 else machine.flash[0]
    behind = 1024 if vectors == machine.flash[0] else 0  # the vector table lies in front of the code
    places = {
        "vectors": vectors,
        "flash": machine.flash[0] + behind,
        "flash_bytes": machine.flash[1] - behind,
        "ram": machine.ram[0],
        "ram_bytes": machine.ram[1],
    }
    script = (SOURCES / "firmware.ld").read_text()
    for word, value in places.items():
        script = script.replace(f"@{word}@", f"{value:#x}")
    return script
