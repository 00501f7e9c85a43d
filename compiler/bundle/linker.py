"""`<name>.ld`: where the parts of a model lie on a board with declared regions, for GNU ld and lld; and the same as a
table for the manifest.

The file adds to the board's own linker script (`-T <name>.ld -T board.ld`, in this order): its sections are inserted
before `.text`, whose patterns would take them otherwise. Where all regions have addresses it declares them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..memory.regions import Region
from ..program import Program
from ..target import Target
from .tables import bank_symbol, section_of

_FLAGS = {"ram": "rwx", "flash": "rx"}


def memory_map(program: Program, target: Target, code_bytes: int) -> list[dict[str, Any]]:
    """What lies in each region. `code_bytes` of all; kernels elsewhere than the rest are counted with it."""
    rows = []
    for region in target.memory:
        banks = [(k, b) for k, b in enumerate(program.banks) if b.region == region.name]
        arena = sum(b.size for _, b in banks if b.data is None)
        weights = sum(b.size for _, b in banks if b.data is not None)
        place = program.placement
        rows.append(
            {
                "region": region.name,
                "kind": region.kind,
                "size": region.size,
                "cost": region.cost,
                "address": region.address,
                "arena": arena + (program.arena_bytes if place.arena == region.name else 0),
                "weights": weights + (len(program.weights) if place.weights == region.name else 0),
                "code": code_bytes if place.code == region.name else 0,
                "banks": [k for k, _ in banks],
                "kernels": sorted(s for s, name in place.kernels.items() if name == region.name),
            }
        )
    return rows


def fragment(program: Program, target: Target, members: Mapping[str, str]) -> str:
    """The linker script. `members`: by symbol the object in the static library."""
    name = program.name
    parts = [part for region in target.memory for part in _sections(program, target, region, members)]
    copied = [p for p in parts if "AT>" in p]
    lines = [
        f"/* {name}.ld - regions of the model {name}; use it beside the board's own script: -T {name}.ld -T board.ld",
        " * It must come with a script of sections that has `.text`.",
        *(
            [
                " * What stands under `AT>` is read from RAM: copy it there before the first ec_run, from ..._load to",
                " * ..._begin up to ..._end (symbols below).",
            ]
            if copied
            else []
        ),
        " */",
    ]
    if all(region.address is not None for region in target.memory):
        lines += ["MEMORY", "{", *map(_declared, target.memory), "}"]
    return "\n".join([*lines, "SECTIONS", "{", *parts, "}", "INSERT BEFORE .text;"]) + "\n"


def _declared(region: Region) -> str:
    return f"  {region.name} ({_FLAGS[region.kind]}) : ORIGIN = {region.address:#010x}, LENGTH = {region.size}"


def _sections(program: Program, target: Target, region: Region, members: Mapping[str, str]) -> list[str]:
    """The output sections of one region."""
    name, place = program.name, program.placement
    arenas = [f"*(.bss.{bank_symbol(program, b)})" for b in program.banks if b.data is None and b.region == region.name]
    arenas += [f"*(.bss.{name}_arena)"] if place.arena == region.name else []
    symbols = [bank_symbol(program, b) for b in program.banks if b.data and b.region == region.name]
    symbols += [f"{name}_weights"] if place.weights == region.name else []
    fixed = [f"*(.rodata.{symbol} {section_of(name, f'.rodata.{symbol}')})" for symbol in symbols]
    kernels = sorted(symbol for symbol, where in place.kernels.items() if where == region.name)
    fixed += [f"*lib{name}.a:{members[symbol]}(.text .text.* .rodata .rodata.*)" for symbol in kernels]
    section, found = f".{name}.{region.name}", []
    if arenas:
        found.append(_section(f"{section}.arena (NOLOAD)", arenas, region.name))
    if fixed:
        flash = place.code if region.kind == "ram" else ""
        symbol = f"{name}_{region.name}"
        inside = [f"{symbol}_begin = .;", *fixed, ". = ALIGN(4);", f"{symbol}_end = .;"] if flash else fixed
        found.append(_section(section, inside, f"{region.name} AT> {flash}" if flash else region.name))
        if flash:
            found.append(f"  {symbol}_load = LOADADDR({section});")
    return found


def _section(name: str, inside: Sequence[str], where: str) -> str:
    return "\n".join([f"  {name} : ALIGN(16) {{", *(f"    {line}" for line in inside), f"  }} > {where}"])
