"""The memories of a board, as its description declares them: what each holds, how much, and what reading it costs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

from ..errors import EdgecError, nearest
from ..units import read_bytes

KINDS = ("ram", "flash")
CONTENTS = ("arena", "weights", "code")
_USUAL = {"ram": ("arena",), "flash": ("weights", "code")}


@dataclass(frozen=True)
class Region:
    """`size` bytes that a model may use, `cost` cycles per byte that the core reads there. Without `address` the
    board's own linker script knows it. `holds`: any of arena, weights, code; what of RAM is no arena comes out of a
    flash when the program starts."""

    name: str
    kind: str
    size: int
    cost: float = 1.0
    address: int | None = None
    holds: tuple[str, ...] = ()


def regions_of(tables: Any, where: str) -> tuple[Region, ...]:
    """Regions from the tables `[[memory]]` of a description; `where` names it in errors."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise EdgecError(f"{where}: memory: expected tables [[memory]], each with name, kind and size")
    found = tuple(_region(table, f"{where}: [[memory]] {k + 1}") for k, table in enumerate(tables))
    names = [region.name for region in found]
    for name in names:
        if names.count(name) > 1:
            raise EdgecError(f"{where}: [[memory]]: {name!r} is there twice")
    for what in CONTENTS:
        if found and not any(what in region.holds for region in found):
            raise EdgecError(f"{where}: [[memory]]: no region holds {what}; a model needs arena, weights and code")
    return found


def read_regions(path: str | Path) -> tuple[Region, ...]:
    """The regions in a file of its own (`--memory board.toml`)."""
    if not isinstance(path, str | Path):
        raise EdgecError(f"memory: {path!r}; expected the path of a .toml file")
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise EdgecError(f"memory: cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EdgecError(f"{path}: not valid TOML: {error}") from error
    others = [key for key in table if key != "memory"]
    if others or not table:
        found = f", not {others[0]!r}" if others else ""
        raise EdgecError(f"{path}: expected tables [[memory]] and nothing else{found}")
    return regions_of(table["memory"], str(path))


def holding(regions: Sequence[Region], what: str) -> list[Region]:
    """The regions for `what`, the cheapest to read first."""
    return sorted((r for r in regions if what in r.holds), key=lambda r: r.cost)


def _region(table: Mapping[str, Any], where: str) -> Region:
    known = [f.name for f in fields(Region)]
    for key in table:
        if key not in known:
            raise EdgecError(f"{where}: unknown key {key!r}{nearest(key, known)}")
    if missing := [key for key in ("name", "kind", "size") if key not in table]:
        raise EdgecError(f"{where}: missing {', '.join(missing)}")
    name, kind = table["name"], table["kind"]
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise EdgecError(f"{where}: name: {name!r}; expected a word such as DTCM, as in a linker script")
    if kind not in KINDS:
        raise EdgecError(f"{where}: kind: {kind!r}; expected ram or flash")
    holds = table.get("holds", list(_USUAL[kind]))
    if not isinstance(holds, list) or not holds or any(what not in CONTENTS for what in holds):
        raise EdgecError(f"{where}: holds: {holds!r}; expected some of {', '.join(CONTENTS)}")
    if kind == "flash" and "arena" in holds:
        raise EdgecError(f"{where}: holds: an arena cannot lie in flash")
    cost, address = table.get("cost", 1.0), table.get("address")
    if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not isfinite(cost) or cost < 0:
        raise EdgecError(f"{where}: cost: {cost!r}; expected cycles per byte")
    if address is not None and (type(address) is not int or not 0 <= address < 1 << 32):
        raise EdgecError(f"{where}: address: {address!r}; expected a number such as 0x20000000")
    return Region(name, kind, read_bytes(f"{where}: size", table["size"]), float(cost), address, tuple(holds))
