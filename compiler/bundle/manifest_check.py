"""What is wrong with a manifest: keys that are missing, values of another kind. Tools rely on those that stand here."""

from __future__ import annotations

from typing import Any

from .names import identifier

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
_INPUT: dict[str, type] = {"name": str, "least": float, "largest": float, "mean": float, "deviation": float}
_LAYER: dict[str, type] = {"name": str, "op": str, "macs": int, "precision": str, "reason": str}
_NUMBERS = ("scale", "zero_point", "sqnr_db", "saturated", "cost_us_f32", "cost_us")
_SMALLER: dict[str, type] = {"layer": str, "method": str, "shape_before": list, "shape": list, "reason": str}
_SMALLER |= {"macs_before": int, "macs": int}
_SMALLER_NUMBERS = ("error", "cost_us_before", "cost_us")
_FLASH: dict[str, type] = dict.fromkeys(("code", "tables", "weights", "runtime", "bytes"), int)
_RAM: dict[str, type] = dict.fromkeys(("arena", "model", "bytes"), int)
_TOP: dict[str, type] = {"name": str, "abi": int, "triple": str, "target": str, "threads": int}
_TOP |= {"weights_bytes": int, "code_bytes": int}


def fault_of(table: dict[str, Any]) -> str:
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
    inputs = table.get("inputs", [])  # not in all manifests
    if not isinstance(inputs, list):
        return "quantization.inputs is not a list"
    for at, row, kinds, numbers in (
        *((f"quantization.inputs[{i}]", row, _INPUT, ()) for i, row in enumerate(inputs)),
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
