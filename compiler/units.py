"""Sizes and durations as people write them: 900K, 1.5M, 192KiB, 20ms, 10m."""

from __future__ import annotations

import re
from math import isfinite

from .errors import EdgecError

SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)\s*", re.ASCII)


def read_bytes(where: str, value: str | int) -> int:
    """Bytes of `900`, `192K`, `192KB`, `192KiB` (all 1024), `1.5M`, `1G`; `where` names the flag in errors."""
    expected = "expected a size, such as 192K or 2M"
    if isinstance(value, str):
        number, unit = _split(value, f"{where} {value}: {expected}")
        scale = SIZES.get(unit.upper().removesuffix("B").removesuffix("I"))
        if scale is None or unit.upper() == "I":
            raise EdgecError(f"{where} {value}: {expected}")
        made = number * scale
    else:
        made = _checked(value, f"{where}: {value!r}; {expected}")
    if not isfinite(made) or made < 1:
        raise EdgecError(f"{where} {value}: {expected}, 1 byte or more")
    return int(made)


def read_seconds(where: str, value: str | float, unit: str = "") -> float:
    """Seconds of `20ms`, `900us`, `0.02s`, `10m`; of a plain number, or text without a unit, in `unit`, where one is
    given."""
    expected = "expected a time, such as 20ms or 0.5s"
    if isinstance(value, str):
        number, word = _split(value, f"{where} {value}: {expected}")
        scale = SECONDS.get(word or unit)
        if scale is None:
            raise EdgecError(f"{where} {value}: {expected}")
        made = number * scale
    else:
        made = _checked(value, f"{where}: {value!r}; {expected}") * SECONDS[unit or "s"]
    if not isfinite(made) or made <= 0:
        raise EdgecError(f"{where} {value}: {expected}, more than nothing")
    return made


def _split(text: str, error: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise EdgecError(error)
    return float(match[1]), match[2]


def _checked(value: object, error: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EdgecError(error)
    return float(value)


def duration(milliseconds: float) -> str:
    """For people: `830 us`, `4.21 ms`, `1.30 s`."""
    if milliseconds < 1:
        return f"{1000 * milliseconds:.3g} us"
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"
