"""`<name>.json`: what a tool may want to know of a bundle. Schema 1; keys are only ever added.

schema          1; a reader refuses a larger number
edgec abi       version that wrote it; EC_ABI of the C tables
name            C name of the model: symbols `<name>_desc`, files `<name>.h`, `lib<name>.a`
model_sha256    of the ONNX file                  target triple   what it was compiled for
passes          pipeline text                     threads align isa   as in ec_desc
inputs outputs  [{name, dtype (numpy's), shape, bytes, offset, scale, zero_point}]; scale null: not quantized
arena           {bytes, lower_bound, map: [{value, offset, bytes, first, last}]}: buffers, and the steps they live for
weights_bytes code_bytes
steps           [{name, kernel, config, origin, dtype, tasks, macs, bytes_moved, cost_us, why, results}] as they run;
                results: [{value, offset, dtype, shape, layout}], what the step leaves in the arena (see layout.py)
notes files     remarks of the compiler; all files of the bundle
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EdgecError
from .names import identifier

SCHEMA = 1
ABI = 1


@dataclass(frozen=True)
class Bundle:
    """A compiled model on disk. `manifest` is the parsed `<name>.json`; `compile_seconds` only after a compile."""

    folder: Path
    manifest: dict[str, Any]
    compile_seconds: float | None = None

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

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
        return int(self.manifest["arena"]["bytes"])

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


def read_bundle(path: str | Path) -> Bundle:
    """The bundle in a folder (or of one manifest file)."""
    path = Path(path)
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
_BUFFER: dict[str, type] = {"value": str, "offset": int, "bytes": int, "first": int, "last": int}
_TOP: dict[str, type] = {"name": str, "abi": int, "triple": str, "inputs": list, "outputs": list, "arena": dict}
_TOP |= {"steps": list, "target": str, "threads": int, "weights_bytes": int, "code_bytes": int}


def _fault(table: dict[str, Any]) -> str:
    """The first key that is missing or of another kind, or nothing."""
    if fault := _misfit(table, _TOP, ""):
        return fault
    arena = table["arena"]
    if fault := _misfit(arena, _ARENA, "arena"):
        return fault
    if identifier(table["name"]) != table["name"]:
        return f"name is {table['name']!r}"
    rows = [(f"{key}[{i}]", row, _PORT) for key in ("inputs", "outputs") for i, row in enumerate(table[key])]
    rows += [(f"steps[{i}]", row, _STEP) for i, row in enumerate(table["steps"])]
    rows += [(f"arena.map[{i}]", row, _BUFFER) for i, row in enumerate(arena["map"])]
    return next((fault for where, row, kinds in rows if (fault := _misfit(row, kinds, where))), "")


def _misfit(row: Any, kinds: dict[str, type], where: str) -> str:
    if not isinstance(row, dict):
        return f"{where} is not a table"
    for key, kind in kinds.items():
        if not isinstance(row.get(key), kind):
            name = f"{where}.{key}" if where else key
            return f"{name} is not {_WORDS[kind]}" if key in row else f"no {name}"
    return ""


_WORDS = {str: "text", int: "a whole number", list: "a list", dict: "a table"}
