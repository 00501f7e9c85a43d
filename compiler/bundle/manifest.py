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
quantization    null, or of a model that calibration data put into 8 bits: {samples, inputs, layers_int8, layers_f32,
                macs_int8 (share of the MACs), output_sqnr_db, sample_sqnr_db (of the worst sample), selected
                (outputs behind a selection, judged by what it reads), shares (outputs from 0 to 1, whose energy
                counts as 0.01 per element at least), drop (see --max-drop), cost_us_f32, cost_us (modelled), layers}
                inputs: [{name, least, largest, mean, deviation}] of the elements over the calibration data
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
from .manifest_check import fault_of

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
    if fault := fault_of(table):
        raise EdgecError(f"{path}: damaged manifest: {fault}; compile the model again")
    return table
