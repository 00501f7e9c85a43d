"""What a compiled model may take of time, flash and RAM: limits as users write them, and what exceeds them."""

from __future__ import annotations

from dataclasses import dataclass

from .bundle.manifest import Bundle
from .target import Target
from .units import BYTES, SECONDS, Limit, number, show_bytes, show_seconds


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

    def within(self, target: Target) -> Budget:
        """These limits, and those that the target's memory sets."""

        def least(*limits: float | None) -> float | None:
            return min((limit for limit in limits if limit is not None), default=None)

        return Budget(self.latency, least(self.flash, target.flash), least(self.ram, target.ram))

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
        number("max_latency", max_latency, SECONDS, "a time such as 20ms or 900us"),
        number("max_flash", max_flash, BYTES, "a size such as 900K or 1.5M"),
        number("max_ram", max_ram, BYTES, "a size such as 192K or 1.5M"),
    )


def measures(bundle: Bundle) -> Measures:
    """Of a bundle; the time is the modelled one, on the best level that it has code for."""
    latency = sum(float(step["cost_us"]) for step in bundle.steps) * 1e-6
    return Measures(latency, bundle.flash_bytes, bundle.ram_bytes)
