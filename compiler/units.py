"""Bytes and seconds as people write them: `900K`, `1.5M`, `20ms`."""

from __future__ import annotations

import re
from math import isfinite

from .errors import EdgecError

BYTES = {"": 1, "B": 1, "K": 1 << 10, "KIB": 1 << 10, "M": 1 << 20, "MIB": 1 << 20}
BYTES |= {"KB": 1000, "MB": 1000**2, "G": 1 << 30, "GIB": 1 << 30, "GB": 1000**3}
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_LONG = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
Limit = str | float | None  # as given: text with a unit, or a number of bytes or seconds


def read_bytes(name: str, given: Limit) -> int:
    """Bytes of `128K` or a number; `name` begins the error."""
    found = number(name, given, BYTES, "a size such as 128K or 1.5M")
    if found is None:
        raise EdgecError(f"{name}: is missing")
    return int(found)


def counted(number: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def show_bytes(count: float) -> str:
    """`187.5K`: in units of 1024 bytes, or of their square."""
    if count < 1 << 10:
        return f"{count:.0f} bytes"
    return f"{count / (1 << 20):.4g}M" if count >= 1 << 20 else f"{count / (1 << 10):.4g}K"


def show_seconds(seconds: float) -> str:
    """`12.3ms`, `1.5s`."""
    if seconds >= 1:
        return f"{seconds:.4g}s"
    return f"{seconds * 1e3:.4g}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.4g}us"


def long_time(name: str, given: str | float) -> float:
    """Seconds of `10m`, `90s`, `1h` or a plain number."""
    found = number(name, given, _LONG, "a time such as 10m or 90s")
    assert found is not None
    return found


def number(name: str, given: Limit, units: dict[str, float] | dict[str, int], expected: str) -> float | None:
    if given is None:
        return None
    found: float | None = None
    if isinstance(given, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]*)\s*", given)
        unit = match[2] if match and units is not BYTES else match[2].upper() if match else ""
        if match and unit in units:
            found = float(match[1]) * units[unit]
    elif isinstance(given, (int, float)) and not isinstance(given, bool):
        found = float(given)
    if found is None or not isfinite(found) or found <= 0:
        raise EdgecError(f"{name}: {given!r}; expected {expected}")
    return found
