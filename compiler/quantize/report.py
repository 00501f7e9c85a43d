"""What became of each layer, and why: for the manifest, the report and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar


@dataclass
class Record:
    """One layer.

    sqnr       of its result in dB, with all layers before it in 8 bits too
    change     error of the model's outputs relative to their energy when this layer alone is in 8 bits
    saturated  share of its input's elements that are outside the range
    cost_f32, cost_int8  modelled microseconds of its kernel on the target, in f32 and as it is
    """

    name: str
    op: str
    origin: tuple[str, ...]
    macs: int
    precision: str = "int8"
    scale: float | None = None
    zero: int | None = None
    method: str = ""
    weight_scales: tuple[float, float] | None = None
    sqnr: float | None = None
    change: float | None = None
    saturated: float | None = None
    cost_f32: float | None = None
    cost_int8: float | None = None
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "op": self.op,
            "origin": list(self.origin),
            "macs": self.macs,
            "precision": self.precision,
            "scale": self.scale,
            "zero_point": self.zero,
            "method": self.method,
            "weight_scales": list(self.weight_scales) if self.weight_scales else None,
            "sqnr_db": _decibels(self.sqnr),
            "change_of_output": self.change,
            "saturated": self.saturated,
            "cost_us_f32": None if self.cost_f32 is None else round(self.cost_f32, 3),
            "cost_us": None if self.cost_int8 is None else round(self.cost_int8, 3),
            "reason": self.reason,
        }


@dataclass
class Report:
    """Records of all layers in order; `drop` is what --max-drop is held against, where it was asked for."""

    HEAD: ClassVar[Sequence[str]] = ("layer", "op", "MACs", "in", "scale", "zero", "SQNR dB", "saturated %", "reason")

    layers: list[Record] = field(default_factory=list)
    samples: int = 0
    output_sqnr: float | None = None
    drop: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def macs_share(self) -> float:
        """Share of the multiplications that are done in 8 bits."""
        total = sum(r.macs for r in self.layers)
        return sum(r.macs for r in self.layers if r.precision == "int8") / total if total else 0.0

    def summary(self) -> dict[str, Any]:
        count = sum(r.precision == "int8" for r in self.layers)
        return {
            "samples": self.samples,
            "layers_int8": count,
            "layers_f32": len(self.layers) - count,
            "macs_int8": round(self.macs_share, 4),
            "output_sqnr_db": _decibels(self.output_sqnr),
            "drop": self.drop,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """For people."""
        found = self.summary()
        lines = [f"note: {note}" for note in self.notes]
        lines.append(
            f"{found['layers_int8']} of {len(self.layers)} layers and {100 * self.macs_share:.1f} % of the "
            f"multiplications in int8, by {self.samples} calibration samples"
        )
        if _decibels(self.output_sqnr) is not None:
            lines.append(f"outputs differ from the float model's by {self.output_sqnr:.1f} dB (SQNR)")
        if self.drop is not None:
            lines.append(f"drop {self.drop:.4g}")
        return lines

    def rows(self) -> list[tuple[object, ...]]:
        return [
            (
                r.name,
                r.op,
                r.macs,
                r.precision,
                "" if r.scale is None else f"{r.scale:.4g}",
                "" if r.zero is None else str(r.zero),
                "" if r.sqnr is None else f"{r.sqnr:.1f}",
                "" if r.saturated is None else f"{100 * r.saturated:.2f}",
                r.reason,
            )
            for r in self.layers
        ]


def _decibels(value: float | None) -> float | None:
    """Rounded; None where nothing differs, which is no number of JSON."""
    return None if value is None or value == inf else round(value, 2)
