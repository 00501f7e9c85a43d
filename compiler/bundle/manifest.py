"""`<name>.json`: what a tool may want to know of a bundle. Schema 1; keys are only ever added.

schema          1; a reader refuses a larger number
edgec abi       version that wrote it; EC_ABI of the C tables
name            C name of the model: symbols `<name>_desc`, files `<name>.h`, `lib<name>.a`
model_sha256    of the ONNX file                  target triple cpu   what it was compiled for (cpu: LLVM's name)
optimize        "speed" or "size": what kernels were made for
passes          pipeline text                     threads align isa   as in ec_desc
inputs outputs  [{name, dtype (numpy's), shape, bytes, offset, bank, scale, zero_point, count}]; scale null: not
                quantized; bank: null, or where `offset` is null the number of the bank that holds it;
                count: null, or where the size depends on data and `shape` is the largest: {axis, offset} of the int64
                that says how many entries of the axis are there
arena           {bytes, lower_bound, map: [{value, offset, bytes, first, last}]}: buffers, and the steps they live for
weights_bytes code_bytes
memory          regions of a board that declares some: [{region, kind ("ram", "flash"), size, cost, address, arena,
                weights, code (bytes there), banks (numbers of ec_model.banks there), kernels (symbols that were put
                there, away from the rest)}]
footprint       null, or without an operating system: {flash: {code, tables, weights, runtime (what they call), bytes
                (all of it)}, ram: {arena, model (ec_model), stack (the most below ec_run; null: not known), bytes}}
steps           [{name, kernel, config, origin, dtype, tasks, grain, macs, bytes_moved, cost_us, why, results, jump,
                launch}]
                in their order; grain: tasks that are worth handing to another worker; results: [{value, offset, bank,
                dtype, shape, layout}], what the step leaves in the arena (see layout.py), nothing where it may not run;
                kernel "branch": goes on `jump` steps further, or back, where its flag is zero (If and Loop);
                launch: null, or how an accelerator runs it: {kernel, module, grid (3 numbers of blocks), block
                (threads), shared (bytes beside what the kernel declares), registers (of a thread), spilled (bytes of
                them in memory; both the most of all architectures, 0 where none has machine code)}
device          null, or of a model that an accelerator runs: {arena_bytes, zeros_bytes (memory there, of each
                instance), host_bytes (ec_desc.arena_bytes: for inputs and outputs, whose offsets are in it),
                images: [{module, arch (sm_87: 87), kind ("cubin", "ptx", "emulated"), bytes}]}; `arena` and all
                `results` are then on the device
level           the target of these steps: `target`, or where it has several levels the most demanding one
fallbacks       [{level, isa, inputs, outputs, arena, steps, device}]: the same for each lesser level, the next first
quantization    null, or of a model that calibration data put into 8 bits: {samples, layers_int8, layers_f32, macs_int8
                (share of the MACs), output_sqnr_db, sample_sqnr_db (of the worst sample), drop (see --max-drop),
                cost_us_f32, cost_us (modelled), layers}
                layers: [{name, op, origin, macs, precision ("int8", "f32"), scale and zero_point of its input, method
                that chose them, weight_scales [least, largest], sqnr_db of its result, change_of_output when it alone
                is in int8, saturated (share of its input out of range), cost_us_f32, cost_us, reason}]; null: not known
compression     null, or of a model that passes made smaller: {layers: [{layer, method ("channels", ...), shape_before
                and shape of its weights, macs_before, macs, error of its result as a share of the variance, on samples
                that it was not fitted on, cost_us_before, cost_us (modelled), reason}]}; null: not known
self_test       null, or {bytes (that it takes of flash where it is linked), steps (numbers of those it has digests of)}
notes files     remarks of the compiler; all files of the bundle
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import EdgecError, nearest
from .names import identifier

SCHEMA = 1
ABI = 6


@dataclass(frozen=True, repr=False)
class Bundle:
    """A compiled model on disk. `manifest` is the parsed `<name>.json`; `compile_seconds` only after a compile."""

    folder: Path
    manifest: dict[str, Any]
    compile_seconds: float | None = None

    def __repr__(self) -> str:
        return f"Bundle({self.name!r} for {self.manifest['target']} in {str(self.folder)!r})"

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def levels(self) -> list[str]:
        """The levels of the CPU that it has steps for, the most demanding first."""
        first = str(self.manifest.get("level", self.manifest["target"]))
        return [first, *(str(row["level"]) for row in self.manifest.get("fallbacks", []))]

    def at(self, level: str) -> Bundle:
        """The bundle as its fallback `level` sees it: steps, arena, places of inputs and outputs."""
        for row in self.manifest.get("fallbacks", []):
            if row["level"] == level:
                return replace(self, manifest={**self.manifest, **row})
        if level != self.levels[0]:
            raise EdgecError(f"{self.folder}: has no level {level!r}{nearest(level, self.levels)}")
        return self

    @property
    def header(self) -> Path:
        return self.folder / f"{self.name}.h"

    @property
    def static_library(self) -> Path:
        return self.folder / f"lib{self.name}.a"

    @property
    def shared_library(self) -> Path:
        """Exists for targets with an operating system."""
        return self.folder / f"lib{self.name}.so"

    @property
    def arena_bytes(self) -> int:
        """Memory that the steps work in, with an accelerator there."""
        return int(self.manifest["arena"]["bytes"])

    @property
    def footprint(self) -> dict[str, dict[str, Any]] | None:
        """What it takes of flash and RAM where there is no operating system, by parts."""
        found: dict[str, dict[str, Any]] | None = self.manifest.get("footprint")
        return found

    @property
    def flash_bytes(self) -> int:
        """Weights and code; without an operating system with what these call."""
        return int(self.footprint["flash"]["bytes"]) if self.footprint else self.weights_bytes + self.code_bytes

    @property
    def ram_bytes(self) -> int:
        """Memory of an instance: the arena; with an accelerator what is beside it there and here; without an operating
        system the model's record and the stack."""
        if self.footprint:
            return int(self.footprint["ram"]["bytes"])
        device = self.manifest.get("device") or {"zeros_bytes": 0, "host_bytes": 0}
        return self.arena_bytes + int(device["zeros_bytes"]) + int(device["host_bytes"])

    @property
    def lower_bound(self) -> int:
        return int(self.manifest["arena"]["lower_bound"])

    @property
    def weights_bytes(self) -> int:
        return int(self.manifest["weights_bytes"])

    @property
    def code_bytes(self) -> int:
        return int(self.manifest["code_bytes"])

    @property
    def steps(self) -> list[dict[str, Any]]:
        return list(self.manifest["steps"])


def live_bytes(manifest: dict[str, Any]) -> list[int]:
    """Bytes of the arena that hold values, step by step."""
    rows = manifest["arena"]["map"]
    return [sum(a["bytes"] for a in rows if a["first"] <= i <= a["last"]) for i in range(len(manifest["steps"]))]


def read_bundle(path: str | Path) -> Bundle:
    """The bundle in a folder (or of one manifest file)."""
    if not isinstance(path, str | Path):
        raise EdgecError(f"bundle: of type {type(path).__name__}; expected the folder that `edgec compile` wrote")
    path = Path(path)
    if path.is_file() and path.suffix != ".json":
        raise EdgecError(f"{path}: not a bundle's manifest; expected the folder that `edgec compile` wrote")
    if path.is_file():
        return Bundle(path.parent, _read(path))
    if not path.is_dir():
        raise EdgecError(f"{path}: no such bundle; make one with: edgec compile MODEL --target host -o {path}")
    found = [file for file in sorted(path.glob("*.json")) if (path / f"{file.stem}.h").exists()]
    if not found:
        raise EdgecError(f"{path}: holds no bundle (no <name>.json beside a <name>.h)")
    if len(found) > 1:
        raise EdgecError(f"{path}: holds several bundles; name one of: {', '.join(f.name for f in found)}")
    return Bundle(path, _read(found[0]))


def _read(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EdgecError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        hint = "expected the folder that `edgec compile` wrote"
        raise EdgecError(f"{path}: not a bundle's manifest: it is no text; {hint}") from error
    except (ValueError, RecursionError) as error:
        raise EdgecError(f"{path}: not a bundle's manifest: {error}") from error
    if not isinstance(table, dict) or not isinstance(table.get("schema"), int) or "edgec" not in table:
        raise EdgecError(f"{path}: not a bundle's manifest")
    if table["schema"] > SCHEMA:
        raise EdgecError(
            f"{path}: written by edgec {table['edgec']} (manifest schema {table['schema']}); "
            f"this edgec reads up to schema {SCHEMA}: update edgec, or compile again"
        )
    if missing := [key for key in ("name", "abi", "triple", "inputs", "outputs", "arena", "steps") if key not in table]:
        raise EdgecError(f"{path}: damaged manifest: no {', '.join(missing)}")
    if fault := _fault(table):
        raise EdgecError(f"{path}: damaged manifest: {fault}; compile the model again")
    return table


_PORT: dict[str, type] = {"name": str, "dtype": str, "shape": list}
_STEP: dict[str, type] = {"name": str, "kernel": str, "config": str, "origin": list, "macs": int, "bytes_moved": int}
_ARENA: dict[str, type] = {"bytes": int, "lower_bound": int, "map": list}
_DEVICE: dict[str, type] = {"host_bytes": int, "arena_bytes": int, "zeros_bytes": int, "images": list}
_IMAGE: dict[str, type] = {"module": int, "arch": int, "kind": str, "bytes": int}
_LAUNCH: dict[str, type] = {"kernel": str, "module": int, "grid": list, "block": int, "shared": int}
_LAUNCH |= {"registers": int, "spilled": int}
_BUFFER: dict[str, type] = {"value": str, "offset": int, "bytes": int, "first": int, "last": int}
_LEVEL: dict[str, type] = {"inputs": list, "outputs": list, "arena": dict, "steps": list}
_QUANTIZATION: dict[str, type] = {"samples": int, "layers_int8": int, "layers_f32": int, "layers": list}
_QUANTIZATION |= {"macs_int8": float}
_SUMS = ("output_sqnr_db", "drop", "cost_us_f32", "cost_us")
_LATER = ("sample_sqnr_db",)  # not in all manifests
_LAYER: dict[str, type] = {"name": str, "op": str, "macs": int, "precision": str, "reason": str}
_NUMBERS = ("scale", "zero_point", "sqnr_db", "saturated", "cost_us_f32", "cost_us")
_SMALLER: dict[str, type] = {"layer": str, "method": str, "shape_before": list, "shape": list, "reason": str}
_SMALLER |= {"macs_before": int, "macs": int}
_SMALLER_NUMBERS = ("error", "cost_us_before", "cost_us")
_FLASH: dict[str, type] = dict.fromkeys(("code", "tables", "weights", "runtime", "bytes"), int)
_RAM: dict[str, type] = dict.fromkeys(("arena", "model", "bytes"), int)
_TOP: dict[str, type] = {"name": str, "abi": int, "triple": str, "target": str, "threads": int}
_TOP |= {"weights_bytes": int, "code_bytes": int}


def _fault(table: dict[str, Any]) -> str:
    """The first key that is missing or of another kind, or nothing."""
    if fault := _misfit(table, _TOP | _LEVEL, "") or _fault_of_level(table, ""):
        return fault
    if fault := _fault_of_quantization(table.get("quantization")) or _fault_of_compression(table.get("compression")):
        return fault
    if fault := _fault_of_footprint(table.get("footprint")):
        return fault
    if identifier(table["name"]) != table["name"]:
        return f"name is {table['name']!r}"
    fallbacks = table.get("fallbacks", [])
    if not isinstance(fallbacks, list):
        return "fallbacks is not a list"
    for i, row in enumerate(fallbacks):
        at = f"fallbacks[{i}]"
        if fault := _misfit(row, _LEVEL | {"level": str}, at) or _fault_of_level(row, f"{at}."):
            return fault
    return ""


def _fault_of_level(table: dict[str, Any], at: str) -> str:
    arena = table["arena"]
    if fault := _misfit(arena, _ARENA, f"{at}arena"):
        return fault
    rows = [(f"{at}{key}[{i}]", row, _PORT) for key in ("inputs", "outputs") for i, row in enumerate(table[key])]
    rows += [(f"{at}steps[{i}]", row, _STEP) for i, row in enumerate(table["steps"])]
    rows += [(f"{at}arena.map[{i}]", row, _BUFFER) for i, row in enumerate(arena["map"])]
    if fault := next((fault for where, row, kinds in rows if (fault := _misfit(row, kinds, where))), ""):
        return fault
    launches = [(i, row.get("launch")) for i, row in enumerate(table["steps"])]
    rows = [(f"{at}steps[{i}].launch", row, _LAUNCH) for i, row in launches if row is not None]
    if (device := table.get("device")) is not None:
        if fault := _misfit(device, _DEVICE, f"{at}device"):
            return fault
        rows += [(f"{at}device.images[{i}]", row, _IMAGE) for i, row in enumerate(device["images"])]
    return next((fault for where, row, kinds in rows if (fault := _misfit(row, kinds, where))), "")


def _fault_of_footprint(table: Any) -> str:
    if table is None:
        return ""
    return (
        _misfit(table, {"flash": dict, "ram": dict}, "footprint")
        or _misfit(table["flash"], _FLASH, "footprint.flash")
        or _misfit(table["ram"], _RAM, "footprint.ram")
        or _not_numbers(table["ram"], ("stack",), "footprint.ram")
    )


def _fault_of_quantization(table: Any) -> str:
    if table is None:
        return ""
    if fault := _misfit(table, _QUANTIZATION, "quantization"):
        return fault
    for at, row, kinds, numbers in (
        ("quantization", table, {}, (*_SUMS, *(key for key in _LATER if key in table))),
        *((f"quantization.layers[{i}]", row, _LAYER, _NUMBERS) for i, row in enumerate(table["layers"])),
    ):
        if fault := _misfit(row, kinds, at) or _not_numbers(row, numbers, at):
            return fault
    return ""


def _fault_of_compression(table: Any) -> str:
    if table is None:
        return ""
    if fault := _misfit(table, {"layers": list}, "compression"):
        return fault
    rows = [(f"compression.layers[{i}]", row) for i, row in enumerate(table["layers"])]
    faults = (_misfit(row, _SMALLER, at) or _not_numbers(row, _SMALLER_NUMBERS, at) for at, row in rows)
    return next((fault for fault in faults if fault), "")


def _not_numbers(row: dict[str, Any], keys: tuple[str, ...], at: str) -> str:
    bad = (key for key in keys if not isinstance(row.get(key, ""), (int, float, type(None))))
    return next((f"{at}.{key} is no number" for key in bad), "")


def _misfit(row: Any, kinds: dict[str, type], where: str) -> str:
    if not isinstance(row, dict):
        return f"{where} is not a table"
    for key, kind in kinds.items():
        if not isinstance(row.get(key), kind):
            name = f"{where}.{key}" if where else key
            return f"{name} is not {_WORDS[kind]}" if key in row else f"no {name}"
    return ""


_WORDS = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
