"""Decides what a model takes of flash, RAM and stack, without an operating system: by linking what a program would."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import toolchain as tools
from ..errors import EdgecError
from ..program import Program
from ..target import Target
from . import elf, stack, thumb

# All that a program calls to run a model.  The last function keeps code that unwinds the stack out, as firmware should.
_SOURCE = """#include "NAME.h"
ec_model edgec_image_model;
uintptr_t edgec_image(void *arena);
uintptr_t edgec_image(void *arena)
{
    ec_model *model = &edgec_image_model;
    const ec_status status = ec_open(model, &NAME_desc, arena, NAME_desc.arena_bytes);
    if (status != EC_OK || ec_run(model) != EC_OK || ec_step_next(model) < 0)
        return 0;
    return (uintptr_t)ec_input(model, 0).data + (uintptr_t)ec_output(model, 0).data;
}
void __aeabi_unwind_cpp_pr0(void);
void __aeabi_unwind_cpp_pr0(void) {}
"""
_ENTRIES = ("ec_open", "ec_run", "ec_step_next", "ec_input", "ec_output")


@dataclass(frozen=True)
class Footprint:
    """Bytes. Flash: kernels, tables, weights, and of the runtime and the compiler's library what they call.

    RAM: arena, `ec_model`, and the stack below a call of ec_run or any other function, interrupts aside; `stack` is
    None where the machine code does not show it, and `unclear` says why.
    """

    code: int
    tables: int
    weights: int
    runtime: int
    arena: int
    model: int
    stack: int | None
    unclear: str = ""

    @property
    def flash(self) -> int:
        return self.code + self.tables + self.weights + self.runtime

    @property
    def ram(self) -> int:
        return self.arena + self.model + (self.stack or 0)

    def table(self) -> dict[str, Any]:
        """As the manifest has it."""
        flash = {"code": self.code, "tables": self.tables, "weights": self.weights, "runtime": self.runtime}
        ram = {"arena": self.arena, "model": self.model, "stack": self.stack}
        return {"flash": flash | {"bytes": self.flash}, "ram": ram | {"bytes": self.ram}}


def footprint(
    program: Program, target: Target, chain: tools.Toolchain, work: Path, objects: Sequence[str], runtime: Sequence[str]
) -> Footprint | None:
    """Of a program whose objects, and those of the runtime, are in the folder `work`; None for other cores than ARM's.

    An `EdgecError` says where it needs more stack than the target has.
    """
    if not target.triple.startswith("thumb"):
        return None
    (work / "image.c").write_text(_SOURCE.replace("NAME", program.name))
    chain.compile(["image.c"], work, ("-std=c11", "-I."))
    flags = ("-nostartfiles", "-static", "-Wl,--gc-sections,-e,edgec_image")
    chain.link("image.elf", ["image.o", *objects, *runtime], work, flags)
    image = (work / "image.elf").read_bytes()
    held = [elf.sections((work / part).read_bytes()) for part in objects]
    code, constants = (_kept(held, kind) for kind in (".text", ".rodata"))
    tables = constants - program.weights_bytes
    whole = elf.stored_bytes(image) - elf.stored_bytes((work / "image.o").read_bytes())
    needed, unclear = _stack(program, image, _functions(work, runtime))
    if target.stack_bytes and needed is not None and needed > target.stack_bytes:
        given = f"{target.name} gives it {target.stack_bytes:,} (stack_bytes)"
        raise EdgecError(f"{program.name}: needs {needed:,} bytes of stack, and {given}")
    model = next(s.size for s in elf.symbols(image) if s.name == "edgec_image_model")
    beside = max(whole - code - constants, 0)
    return Footprint(code, tables, program.weights_bytes, beside, program.ram_bytes, model, needed, unclear)


def _kept(held: Sequence[Sequence[elf.Section]], kind: str) -> int:
    return sum(s.size for found in held for s in found if s.name.startswith(kind))


def _functions(work: Path, objects: Sequence[str]) -> set[str]:
    return {s.name for part in objects for s in elf.symbols((work / part).read_bytes()) if s.is_function and s.defined}


def _stack(program: Program, image: bytes, dispatching: Collection[str]) -> tuple[int | None, str]:
    """The most that a function of the runtime needs; kernels are called by it, through the table of steps."""
    kernels = {step.symbol for level in program.levels for step in level.steps if step.symbol}
    try:
        return stack.Program(image).stack(_ENTRIES, kernels, dispatching), ""
    except thumb.Unclear as error:
        return None, f"stack: its use is not known: {error}"
