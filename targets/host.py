"""The target `host`: the built-in description that fits this machine's CPU best, with the machine's own figures."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from dataclasses import replace
from pathlib import Path

from edgec.compiler.errors import EdgecError
from edgec.compiler.target import Cpu, Target, read_target, target_files

# /proc/cpuinfo flag -> EC_ISA_* name
_FLAGS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx512f": "AVX512F",
    "avx512bw": "AVX512BW",
    "avx512vl": "AVX512VL",
    "avx512dq": "AVX512DQ",
    "avx512_vnni": "AVX512VNNI",
    "avx512vbmi": "AVX512VBMI",
    "amx_tile": "AMXTILE",
    "amx_int8": "AMXINT8",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "fphp": "FP16",
    "i8mm": "I8MM",
}
_BY_ARCH = {"x86_64": ("x86-amx", "x86-avx512", "x86"), "aarch64": ("arm-i8mm", "rpi5", "arm")}


def host() -> Target:
    """Describe this machine; an `EdgecError` says what is missing where no description fits."""
    machine = platform.machine()
    present = features()
    for name in _BY_ARCH.get(machine, ()):
        path = target_files()[name]
        base = read_target(path.read_text(), path.name)
        if base.cpu.isa <= present:
            return replace(
                base, name="host", summary=f"this machine ({name})", compilers=(), emulator=(), cpu=_measured(base.cpu)
            )
    raise EdgecError(
        f"target host: no description fits this {machine} CPU (features: {', '.join(sorted(present)) or 'none'})"
    )


def features() -> frozenset[str]:
    """ISA features of this machine, as edgec.h names them."""
    text = _cpuinfo()
    words = {w for line in text.splitlines() if line.lower().startswith(("flags", "features")) for w in line.split()}
    return frozenset(name for flag, name in _FLAGS.items() if flag in words)


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError as error:
        raise EdgecError(f"target host: cannot read this machine's CPU features: {error}") from error


def _measured(cpu: Cpu) -> Cpu:
    """Core count and caches as the system states them, and vectors as its CPU's family computes them."""
    cpu = replace(cpu, cores=os.cpu_count() or cpu.cores, l1d=_cache("l1d") or cpu.l1d, l2=_cache("l2") or cpu.l2)
    halves = cpu.vector_bits == 512 and multiplies_halves(_cpuinfo())
    return replace(cpu, fma_per_cycle=cpu.fma_per_cycle / 2) if halves else cpu


def multiplies_halves(cpuinfo: str) -> bool:
    """Whether this core multiplies 512 bits in two steps, as AMD's family 25 (Zen 4) does."""
    fields = dict(re.findall(r"^(vendor_id|cpu family)\s*:\s*(\S+)$", cpuinfo, re.MULTILINE))
    return fields == {"vendor_id": "AuthenticAMD", "cpu family": "25"}


def _cache(level: str) -> int:
    """Bytes of a cache from sysfs; 0 where it is not stated."""
    want = ("1", "Data") if level == "l1d" else ("2", "Unified")
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if ((folder / "level").read_text().strip(), (folder / "type").read_text().strip()) == want:
            size = (folder / "size").read_text().strip()
            return int(size.rstrip("KM")) * {"K": 1024, "M": 1 << 20}.get(size[-1], 1)
    return 0


def claim_tiles() -> bool:
    """Ask for AMX tiles in this process, which runs kernels itself; whether there are any."""
    if platform.machine() != "x86_64" or not {"AMXTILE", "AMXINT8"} <= features():
        return False
    arch_prctl, request, tile_data = 158, 0x1023, 18
    return int(ctypes.CDLL(None).syscall(arch_prctl, request, tile_data)) == 0
