"""Writes a bundle: links a program's objects, tables and weights into libraries and puts what explains them beside."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from .. import toolchain as tools
from .. import unfit
from ..budget import ANY, Budget, measures
from ..errors import EdgecError
from ..program import Program, chained
from ..target import Target
from . import describe, elf, linker, old_glibc, tables
from .cmake import cmake
from .elf_slim import slim_files
from .footprint import Footprint, footprint
from .header import header
from .manifest import Bundle
from .names import check_name, identifier
from .place import staged
from .report import report
from .runtime_files import CORE, DEVICE, built_runtime, copy_runtime

_LIMIT = 2**32


def write_bundle(
    program: Program,
    target: Target,
    out: str | Path,
    limits: Budget = ANY,
    beside: Mapping[str, bytes] = MappingProxyType({}),
) -> Bundle:
    """Link `program` and write its bundle to the folder `out`, which is replaced as a whole at the end; the files
    `beside` it too.

    Symbols of the kernels get the model's name as a prefix where they lack it. Errors of the tools and of the file
    system, and a bundle beyond the limits, are `EdgecError`s; an old bundle in `out` then stays as it was.
    """
    check_name(program.name)
    program = _fitted(program)
    device = program.device
    sizes = {"arena": program.arena_bytes, "weights": program.weights_bytes}
    sizes |= {"device memory": device.arena_bytes, "device zeros": device.zeros_bytes} if device else {}
    for what, size in sizes.items():
        if size >= _LIMIT:
            raise EdgecError(f"{program.name}: {what} of {size:,} bytes; a bundle holds less than {_LIMIT:,}")
    chain, out = tools.toolchain(target), Path(os.path.abspath(out))
    with staged(out) as folder:
        units = copy_runtime(folder, tools.has_os(target))
        runtime = built_runtime(chain, target, units)
        shutil.copyfile(runtime / "libedgec.a", folder / "libedgec.a")
        code_bytes, footprint = _libraries(program, target, chain, folder, runtime)
        if footprint and footprint.unclear:
            program = replace(program, notes=(*program.notes, footprint.unclear))
        if device and device.source:
            (folder / "src" / f"{program.name}_device.cu").write_text(device.source)
        for name, data in beside.items():
            (folder / name).write_bytes(data)
        table = _texts(program, target, folder, code_bytes, units, footprint)
        found = measures(Bundle(out, table))
        if over := limits.said(found):
            raise EdgecError(f"{program.name}: {over}; {unfit.advice(program, limits, found, code_bytes, target)}")
    return Bundle(out, table)


def _version() -> str:
    import edgec

    return edgec.__version__


def _fitted(program: Program) -> Program:
    """The program and its fallbacks with one arena that is enough for each, and symbols of the model's name.

    Those of a fallback end in the name of its target.
    """
    levels = program.levels
    arena, bound = max(p.arena_bytes for p in levels), max(p.lower_bound for p in levels)
    endings = ["", *(f"_{identifier(level.target)}" for level in levels[1:])]
    named = [_prefixed(level, ending) for level, ending in zip(levels, endings, strict=True)]
    return chained([replace(level, arena_bytes=arena, lower_bound=bound) for level in named])


def _prefixed(program: Program, ending: str) -> Program:
    """The program with every kernel's symbol, and every other global one of its objects, named after the model."""
    prefix = f"{program.name}_"
    defined = {s.name for _, data in program.objects for s in elf.symbols(data) if s.defined and s.is_global}
    names = {name: prefix + name + ending for name in defined if ending or not name.startswith(prefix)}
    if missing := {step.symbol for step in program.steps if step.own} - defined:
        raise ValueError(f"no object defines {', '.join(sorted(missing))}")
    if not names:
        return program
    steps = tuple(replace(step, symbol=names.get(step.symbol, step.symbol)) for step in program.steps)
    kernels = {names.get(symbol, symbol): region for symbol, region in program.placement.kernels.items()}
    placement = replace(program.placement, kernels=kernels)
    return replace(
        program,
        steps=steps,
        placement=placement,
        objects=tuple((name, elf.rename(data, names)) for name, data in program.objects),
    )


def _libraries(
    program: Program, target: Target, chain: tools.Toolchain, folder: Path, runtime: Path
) -> tuple[int, Footprint | None]:
    """`lib<name>.a` (with the core of the runtime), `lib<name>.so` where the target loads such; bytes of code, and
    without an operating system all that a program with the model takes."""
    name = program.name
    with tempfile.TemporaryDirectory(prefix="edgec-", dir=folder.parent) as temporary, ThreadPoolExecutor() as pool:
        work = Path(temporary).resolve()
        shutil.copytree(folder / "edgec", work / "edgec")
        (work / f"{name}.h").write_text(header(program, _version(), 0))
        stored_data = pool.submit(chain.compile, _stored(program, work), work)
        source = tables.model_source(program, _version())
        (work / f"{name}_model.c").write_text(source)
        (folder / "src" / f"{name}_model.c").write_text(source)
        (work / "export.c").write_text(tables.export_source(name))
        kernels, hosted = _kernel_objects(program, work), tools.has_os(target)
        sources = [f"{name}_model.c", *(["export.c"] if hosted else [])]
        described, *exported = chain.compile(sources, work, ("-std=c11", "-I."))
        objects = [*kernels, *stored_data.result(), described]
        beside = _golden(program, chain, work)
        if not hosted or target.memory:
            slim_files(work, [*objects, *beside], partial(tables.section_of, name))
        core = [f"edgec_{Path(unit).stem}.o" for unit in (*CORE, *(DEVICE if program.device else ()))]
        for obj in core:
            shutil.copyfile(runtime / obj, work / obj)
        archive = pool.submit(chain.archive, f"lib{name}.a", [*objects, *beside, *core], work)
        own = _runtime_of(program, target.cpu.fpu)
        if hosted:
            (work / "exports.map").write_text(tables.EXPORTS)
            options = (
                "-shared",
                "-s",
                "-Wl,--version-script=exports.map",
                "-Wl,-z,noexecstack,-z,defs,--gc-sections",
                f"-Wl,-soname,lib{name}.so",
                *(("-pthread",) if program.device else ()),
            )
            libraries = _dynamic_loading(chain, target, work) if program.device else []
            chain.link(f"lib{name}.so", [*objects, *own, *exported, *libraries], work, options)
        measured = [f"lib{name}.so"] if hosted else objects
        taken = None if hosted else footprint(program, target, chain, work, objects, core)
        stored = sum(elf.stored_bytes((work / part).read_bytes()) for part in measured)
        archive.result()
        for library in [f"lib{name}.a", *([f"lib{name}.so"] if hosted else [])]:
            _move(work / library, folder / library)
    return max(stored - program.weights_bytes, 0), taken


def _dynamic_loading(chain: tools.Toolchain, target: Target, work: Path) -> list[str]:
    """What a shared library that finds the device's driver itself is linked with."""
    if not old_glibc.applies(chain, target.triple):
        return ["-ldl"]
    (work / old_glibc.FILE).write_text(old_glibc.source())
    return [*chain.compile([old_glibc.FILE], work, ("-std=c11",)), *old_glibc.flags()]


def _stored(program: Program, work: Path) -> list[str]:
    """Write weights and images of device modules, and assembler files that place them in memory; their names."""
    parts = [(f"{program.name}_weights", program.weights, max(program.align, 16))]
    banks = [(tables.bank_symbol(program, bank), bank.data) for bank in program.banks]
    parts += [(symbol, data, max(program.align, 16)) for symbol, data in banks if data is not None]
    parts += [(symbol, image.data, 64) for symbol, image in tables.images(program)]
    return [_placed(symbol, data, align, work) for symbol, data, align in parts]


def _placed(symbol: str, data: bytes, align: int, work: Path) -> str:
    """Write bytes, and an assembler file that places them in memory; its name."""
    (work / f"{symbol}.bin").write_bytes(data)
    (work / f"{symbol}.s").write_text(tables.stored_source(symbol, f"{symbol}.bin", align))
    return f"{symbol}.s"


def _golden(program: Program, chain: tools.Toolchain, work: Path) -> list[str]:
    """Objects of the self-test, which programs link where they name it."""
    if program.golden is None:
        return []
    source = f"{program.name}_golden.c"
    (work / source).write_text(tables.golden_source(program, _version()))
    data = _placed(f"{program.name}_golden_data", program.golden.data, 4, work)
    return chain.compile([source, data], work, ("-std=c11", "-I."))


def _runtime_of(program: Program, fpu: bool) -> list[str]:
    """What the model's shared library needs of the runtime: kernels around branches, floats by integers, a backend."""
    if program.device:
        return [f"edgec_{Path(unit).stem}.o" for unit in ("control.c", *DEVICE)]
    control = any(step.symbol and not step.own for level in program.levels for step in level.steps)
    return [*(["edgec_control.o"] if control else []), *([] if fpu else ["edgec_requantize.o"])]


def _move(made: Path, to: Path) -> None:
    """As a copy would be, mode included, in no time."""
    to.touch()
    made.chmod(to.stat().st_mode)
    made.replace(to)


def _kernel_objects(program: Program, work: Path) -> list[str]:
    """Write the kernels' objects under names that differ from each other and from the tables'."""
    names = []
    objects = [data for level in program.levels for _, data in sorted(level.objects)]
    for index, data in enumerate(objects):
        names.append(f"{program.name}_kernel{index}.o")
        (work / names[-1]).write_bytes(data)
    return names


def _members(program: Program) -> dict[str, str]:
    """By symbol the object in the static library that defines a kernel."""
    objects = [data for level in program.levels for _, data in sorted(level.objects)]
    return {
        symbol.name: f"{program.name}_kernel{index}.o"
        for index, data in enumerate(objects)
        for symbol in elf.symbols(data)
        if symbol.defined and symbol.is_global
    }


def _texts(
    program: Program,
    target: Target,
    folder: Path,
    code_bytes: int,
    units: Sequence[str],
    footprint: Footprint | None,
) -> dict[str, object]:
    """Header, CMake package, manifest and report; the manifest as a table."""
    name, hosted = program.name, tools.has_os(target)
    (folder / f"{name}.h").write_text(header(program, _version(), code_bytes, footprint))
    if target.memory:
        (folder / f"{name}.ld").write_text(linker.fragment(program, target, _members(program)))
    (folder / f"{name}Config.cmake").write_text(cmake(name, units, hosted))
    files = [str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()] + [f"{name}.json", "report.html"]
    table = describe.manifest(program, target, _version(), code_bytes, files, footprint)
    (folder / "report.html").write_text(report(table))
    (folder / f"{name}.json").write_text(describe.dump(table))
    return table
