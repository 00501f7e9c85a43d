"""A program's kernels as device modules: machine code for each architecture, PTX for newer ones, or the emulation.

Kernels are compiled some at a time, in parallel: what a module holds depends on the program alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edgec.compiler.errors import EdgecError
from edgec.compiler.parallel import forked
from edgec.compiler.program import Device, Image, Launch, Port, Program, Ref, Step
from edgec.compiler.registry import ZEROS, read_settings
from edgec.compiler.target import Gpu

from .nvrtc import Code, Kind, Use, compiled

EMULATED = "emulated"
KERNELS = 8  # of one module
VARIES = "the device code may differ from one compilation to the next: the compiler ran where memory lies by chance"
PRELUDE = Path(__file__).with_name("prelude.cuh").read_text()
Progress = Callable[[str, int, int], None]


def on_device(program: Program, gpu: Gpu, kernels: Mapping[str, str], progress: Progress) -> Program:
    """The program with its device modules; `kernels`: CUDA C by symbol. Its own arena then holds inputs and outputs."""
    names = list(kernels)
    groups = [names[i : i + KERNELS] for i in range(0, len(names), KERNELS)]
    number = {name: k for k, group in enumerate(groups) for name in group}
    sources = ["".join(kernels[name] + "\n" for name in group) for group in groups]
    images, used, notes = _images(sources, gpu, progress)
    _check(program.steps, used, gpu)
    staged, arena = _staged(program)
    counters = max((read_settings(step.config).get(ZEROS, 0) for step in program.steps if step.launch), default=0)
    device = Device(
        modules=images,
        arena_bytes=program.arena_bytes,
        inputs=tuple(port.ref for port in program.inputs),
        outputs=tuple(port.ref for port in program.outputs),
        counts=tuple(port.count for port in program.outputs),
        zeros_bytes=4 * counters,
        source="".join(sources),
    )
    uses = [use for some in used.values() for use in some]
    registers, spilled = ({u.kernel: 0 for u in uses} for _ in range(2))
    for use in uses:
        registers[use.kernel] = max(registers[use.kernel], use.registers)
        spilled[use.kernel] = max(spilled[use.kernel], use.spilled)

    def told(launch: Launch) -> Launch:
        name = launch.kernel
        return replace(launch, module=number[name], registers=registers.get(name, 0), spilled=spilled.get(name, 0))

    steps = tuple(replace(s, launch=told(s.launch)) if s.launch else s for s in program.steps)
    return replace(staged, steps=steps, arena_bytes=arena, device=device, notes=notes)


def _images(
    sources: Sequence[str], gpu: Gpu, progress: Progress
) -> tuple[tuple[tuple[Image, ...], ...], dict[str, list[Use]], tuple[str, ...]]:
    """Modules x architectures, what kernels use on each architecture, and what the user should know."""
    real = [arch for arch in gpu.archs if arch != EMULATED]
    wanted: list[tuple[str, Kind | Literal["emulated"]]] = [(arch, "cubin") for arch in real]
    if real:
        wanted.append((max(real, key=number_of), "ptx"))
    if EMULATED in gpu.archs:
        wanted.append((EMULATED, "emulated"))
    jobs = [(k, arch, kind) for k in range(len(sources)) for arch, kind in wanted]

    def build(i: int) -> Code | str:
        k, arch, kind = jobs[i]
        try:
            if kind == "emulated":
                from .emulation import emulated_library

                return Code(emulated_library(sources[k]), (), steady=True)
            return compiled(PRELUDE + sources[k], arch, kind)
        except EdgecError as error:
            return str(error)

    modules: list[list[Image | None]] = [[None] * len(wanted) for _ in sources]
    used: dict[str, list[Use]] = {}
    steady = True
    for done, (i, result) in enumerate(forked(len(jobs), build, os.cpu_count() or 1)):
        if isinstance(result, str):
            raise EdgecError(result)
        k, arch, kind = jobs[i]
        modules[k][wanted.index((arch, kind))] = Image(0 if kind == "emulated" else number_of(arch), kind, result.data)
        steady &= result.steady
        if kind == "cubin":
            used.setdefault(arch, []).extend(result.uses)
        progress("device code", done + 1, len(jobs))
    notes = () if steady else (VARIES,)
    return tuple(tuple(image for image in images if image) for images in modules), used, notes


def number_of(arch: str) -> int:
    """sm_87: 87."""
    digits = arch.removeprefix("sm_")
    if not digits.isdigit():
        raise EdgecError(f"arch: {arch!r} is no architecture of NVIDIA GPUs; sm_80, sm_87, sm_90 ...")
    return int(digits)


def _check(steps: Sequence[Step], used: Mapping[str, Sequence[Use]], gpu: Gpu) -> None:
    """Every launch fits the device: a kernel that does not is a fault of its row."""
    launches = {step.launch.kernel: step.launch for step in steps if step.launch}
    for arch, uses in used.items():
        for use in uses:
            launch = launches[use.kernel]
            if use.registers * launch.block > gpu.registers or use.shared + launch.shared > gpu.shared_block:
                raise RuntimeError(
                    f"{use.kernel} on {arch}: {launch.block} threads of {use.registers} registers, "
                    f"{use.shared + launch.shared} bytes of shared memory: more than a block may have"
                )


def _staged(program: Program) -> tuple[Program, int]:
    """The program with inputs, outputs and counts one after the other in host memory; and the bytes of that."""
    end = 0

    def place(size: int) -> Ref:
        nonlocal end
        at = end
        end += -(-size // program.align) * program.align
        return Ref("arena", at)

    def port(p: Port) -> Port:
        moved = replace(p, ref=place(p.bytes))
        return replace(moved, count=place(8)) if p.count else moved

    inputs, outputs = tuple(map(port, program.inputs)), tuple(map(port, program.outputs))
    return replace(program, inputs=inputs, outputs=outputs), max(end, program.align)
