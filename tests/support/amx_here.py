"""What runs in the tests' own process: AMX too, carried out by a handler of signals where the CPU has but AVX-512."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

from edgec.compiler.target import Cpu, Target
from edgec.targets.host import claim_tiles, features

TILES = {"AMXTILE", "AMXINT8"}
BESIDE = ("-avx512fp16", "-avxvnni")  # what CPUs with AMX have, and others need not


def runs(isa: Set[str]) -> bool:
    """Whether kernels that need these features run in this process from now on."""
    lacks = isa - features()
    return not lacks or (lacks <= TILES and has_tiles())


@functools.cache
def has_tiles() -> bool:
    if claim_tiles():
        return True
    source = Path(__file__).with_name("amx_trap.c")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "amx_trap.so"
        subprocess.run(["cc", "-std=c11", "-O2", "-shared", "-fPIC", source, "-o", library], check=True)
        return int(ctypes.CDLL(str(library)).amx_trap()) == 0


def possible(target: Target) -> Target:
    """The target with what LLVM may use here."""
    return replace(target, cpu=_possible(target.cpu)) if target.triple.startswith("x86_64") else target


def _possible(cpu: Cpu) -> Cpu:
    if not runs(cpu.isa):
        return replace(cpu, mcpu="haswell")
    return cpu if cpu.isa <= features() else replace(cpu, mattr=(*cpu.mattr, *BESIDE))
