"""Fills the manifest's table from a program."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..dtypes import dtype
from ..program import Allocation, Device, Golden, Launch, Port, Program, Ref, Step, Stored
from ..target import Target
from .footprint import Footprint
from .linker import memory_map
from .manifest import ABI, SCHEMA
from .tables import scale_of


def manifest(
    program: Program,
    target: Target,
    version: str,
    code_bytes: int,
    files: Iterable[str],
    footprint: Footprint | None = None,
) -> dict[str, Any]:
    """The table that `manifest.py` documents."""
    return {
        "schema": SCHEMA,
        "edgec": version,
        "abi": ABI,
        "name": program.name,
        "model_sha256": program.model_sha256,
        "target": target.name,
        "triple": target.triple,
        "cpu": target.cpu.mcpu,
        "optimize": "size" if target.small else "speed",
        "passes": program.passes,
        "threads": program.threads,
        "align": program.align,
        "weights_bytes": program.weights_bytes,
        "code_bytes": code_bytes,
        "footprint": footprint.table() if footprint else None,
        **_level(program),
        "fallbacks": [_level(level) for level in program.levels[1:]],
        "quantization": dict(program.quantization) if program.quantization else None,
        "compression": dict(program.compression) if program.compression else None,
        "memory": memory_map(program, target, code_bytes),
        "self_test": _golden(program.golden) if program.golden else None,
        "notes": list(program.notes),
        "files": sorted(files),
    }


def _golden(golden: Golden) -> dict[str, Any]:
    steps = sorted({row.step for row in golden.digests})
    return {"bytes": len(golden.data) + 20 * len(golden.digests), "steps": steps}


def _level(program: Program) -> dict[str, Any]:
    """What differs from one level of the CPU to another."""
    return {
        "level": program.target,
        "isa": sorted(program.isa),
        "inputs": [_port(p) for p in program.inputs],
        "outputs": [_port(p) for p in program.outputs],
        "arena": {
            "bytes": program.device.arena_bytes if program.device else program.ram_bytes,
            "lower_bound": program.lower_bound,
            "map": [_allocation(a) for a in program.arena_map],
        },
        "steps": [_step(s) for s in program.steps],
        "device": _device(program.device, program.arena_bytes) if program.device else None,
    }


def dump(table: dict[str, Any]) -> str:
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def _port(port: Port) -> dict[str, Any]:
    scale, zero = scale_of(port)
    return {
        "name": port.name,
        "dtype": dtype(port.dtype).numpy.name,
        "shape": list(port.shape),
        "bytes": port.bytes,
        "offset": port.ref.offset if port.ref.region == "arena" else None,
        "bank": _bank(port.ref),
        "scale": scale or None,
        "zero_point": zero if scale else None,
        "count": {"axis": port.count_axis, "offset": port.count.offset} if port.count else None,
    }


def _bank(ref: Ref) -> int | None:
    return ref.bank if ref.region == "bank" else None


def _allocation(a: Allocation) -> dict[str, Any]:
    return {"value": a.value, "offset": a.offset, "bytes": a.bytes, "first": a.first, "last": a.last}


def _step(s: Step) -> dict[str, Any]:
    return {
        "name": s.name,
        "kernel": s.row,
        "config": s.config,
        "origin": list(s.origin),
        "dtype": s.dtype,
        "tasks": s.tasks,
        "grain": s.grain,
        "macs": s.macs,
        "bytes_moved": s.bytes_moved,
        "cost_us": round(s.cost_us, 3),
        "why": s.why,
        "jump": s.jump,
        "results": [_result(r) for r in s.results],
        "launch": _launch(s.launch) if s.launch else None,
    }


def _launch(launch: Launch) -> dict[str, Any]:
    where = {"kernel": launch.kernel, "module": launch.module}
    size = {"grid": list(launch.grid), "block": launch.block, "shared": launch.shared}
    return where | size | {"registers": launch.registers, "spilled": launch.spilled}


def _device(device: Device, host_bytes: int) -> dict[str, Any]:
    return {
        "host_bytes": host_bytes,
        "arena_bytes": device.arena_bytes,
        "zeros_bytes": device.zeros_bytes,
        "images": [
            {"module": m, "arch": image.arch, "kind": image.kind, "bytes": len(image.data)}
            for m, module in enumerate(device.modules)
            for image in module
        ],
    }


def _result(r: Stored) -> dict[str, Any]:
    where = {"value": r.value, "offset": r.ref.offset, "bank": _bank(r.ref)}
    return where | {"dtype": dtype(r.type.dtype).numpy.name, "shape": list(r.type.shape), "layout": r.type.layout}
