"""What a compiled model may take of time, flash and RAM: limits as users write them, and what exceeds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from .bundle.manifest import Bundle
from .errors import EdgecError

_BYTES = {"": 1, "B": 1, "K": 1 << 10, "KIB": 1 << 10, "M": 1 << 20, "MIB": 1 << 20}
_BYTES |= {"KB": 1000, "MB": 1000**2, "G": 1 << 30, "GIB": 1 << 30, "GB": 1000**3}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_LONG = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
Limit = str | float | None  # as given: text with a unit, or a number of bytes or seconds


@dataclass(frozen=True)
class Measures:
    """latency in seconds of one inference; flash: bytes of weights and code; ram: bytes of an instance."""

    latency: float
    flash: int
    ram: int


@dataclass(frozen=True)
class Budget:
    """Most seconds and bytes; None: any."""

    latency: float | None = None
    flash: float | None = None
    ram: float | None = None

    def __bool__(self) -> bool:
        return not self.latency is self.flash is self.ram is None

    def excess(self, found: Measures) -> dict[str, float]:
        """By how much limits are exceeded, as a share of each, the largest first."""
        pairs = ((name, getattr(self, name), getattr(found, name)) for name in ("latency", "flash", "ram"))
        over = {name: got / limit - 1 for name, limit, got in pairs if limit is not None and got > limit}
        return dict(sorted(over.items(), key=lambda item: -item[1]))

    def said(self, found: Measures) -> str:
        """What exceeds its limit and by how much, for people; nothing where all is within."""
        shown = []
        for name in self.excess(found):
            got, limit = getattr(found, name), getattr(self, name)
            show = show_seconds if name == "latency" else show_bytes
            shown.append(f"{name} {show(got)} is {show(got - limit)} above max_{name} {show(limit)}")
        return "; ".join(shown)


ANY = Budget()


def budget(max_latency: Limit = None, max_flash: Limit = None, max_ram: Limit = None) -> Budget:
    """Limits, checked: `20ms`, `900K`, `1.5M`, or numbers of seconds and bytes."""
    return Budget(
        _number("max_latency", max_latency, _SECONDS, "a time such as 20ms or 900us"),
        _number("max_flash", max_flash, _BYTES, "a size such as 900K or 1.5M"),
        _number("max_ram", max_ram, _BYTES, "a size such as 192K or 1.5M"),
    )


def measures(bundle: Bundle) -> Measures:
    """Of a bundle; the time is the modelled one, on the best level that it has code for."""
    latency = sum(float(step["cost_us"]) for step in bundle.steps) * 1e-6
    return Measures(latency, bundle.weights_bytes + bundle.code_bytes, bundle.ram_bytes)


def show_bytes(count: float) -> str:
    """`187.5K`: in units of 1024 bytes, or of their square."""
    if count < 1 << 10:
        return f"{count:.0f} bytes"
    return f"{count / (1 << 20):.4g}M" if count >= 1 << 20 else f"{count / (1 << 10):.4g}K"


def show_seconds(seconds: float) -> str:
    """`12.3ms`."""
    return f"{seconds * 1e3:.4g}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.4g}us"


def long_time(name: str, given: str | float) -> float:
    """Seconds of `10m`, `90s`, `1h` or a plain number."""
    found = _number(name, given, _LONG, "a time such as 10m or 90s")
    assert found is not None
    return found


def _number(name: str, given: Limit, units: dict[str, float] | dict[str, int], expected: str) -> float | None:
    if given is None:
        return None
    found: float | None = None
    if isinstance(given, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]*)\s*", given)
        unit = match[2] if match and units is not _BYTES else match[2].upper() if match else ""
        if match and unit in units:
            found = float(match[1]) * units[unit]
    elif isinstance(given, (int, float)) and not isinstance(given, bool):
        found = float(given)
    if found is None or not isfinite(found) or found <= 0:
        raise EdgecError(f"{name}: {given!r}; expected {expected}")
    return found
