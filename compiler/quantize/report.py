"""What became of each layer, and why: for the manifest, the report and the command line.

Tables are written once, as plain data, and shown from there: `edgec inspect` has nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ..units import counted

HEAD = ("layer", "op", "MACs", "in", "scale", "zero", "SQNR dB", "saturated %", "us in f32", "us", "reason")


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
            "cost_us_f32": _rounded(self.cost_f32),
            "cost_us": _rounded(self.cost_int8),
            "reason": self.reason,
        }


@dataclass
class Report:
    """Records of all layers in order; costs are modelled microseconds of the whole model.

    sample_sqnr  of the worst output of any sample
    drop         what --max-drop is held against, where it was asked for
    inputs       of each input, numbers of its elements over the calibration data
    selected     names of the outputs that are judged before a selection
    shares       names of the outputs from 0 to 1, whose errors count beside 1
    """

    layers: list[Record] = field(default_factory=list)
    samples: int = 0
    output_sqnr: float | None = None
    sample_sqnr: float | None = None
    drop: float | None = None
    cost_f32: float | None = None
    cost_int8: float | None = None
    notes: list[str] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)
    shares: list[str] = field(default_factory=list)

    @property
    def macs_share(self) -> float:
        """Share of the multiplications that are done in 8 bits."""
        total = sum(r.macs for r in self.layers)
        return sum(r.macs for r in self.layers if r.precision == "int8") / total if total else 0.0

    def table(self) -> dict[str, Any]:
        """The key `quantization` of a manifest."""
        count = sum(r.precision == "int8" for r in self.layers)
        return {
            "samples": self.samples,
            "inputs": self.inputs,
            "layers_int8": count,
            "layers_f32": len(self.layers) - count,
            "macs_int8": round(self.macs_share, 4),
            "output_sqnr_db": _decibels(self.output_sqnr),
            "sample_sqnr_db": _decibels(self.sample_sqnr),
            "selected": self.selected,
            "shares": self.shares,
            "drop": self.drop,
            "cost_us_f32": _rounded(self.cost_f32),
            "cost_us": _rounded(self.cost_int8),
            "layers": [r.row() for r in self.layers],
        }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The sums of a table, for people."""
    layers, share = found["layers_int8"] + found["layers_f32"], 100 * found["macs_int8"]
    said = [
        f"{found['layers_int8']} of {layers} layers and {share:.1f} % of the multiplications in int8, "
        f"by {counted(found['samples'], 'calibration sample')}"
    ]
    if found["output_sqnr_db"] is not None:
        worst = found.get("sample_sqnr_db")
        said.append(
            f"outputs differ from the float model's by {found['output_sqnr_db']:.1f} dB (SQNR)"
            + (f", on the worst sample by {worst:.1f} dB" if worst is not None else "")
            + (", those behind a selection by what it reads" if found.get("selected") else "")
        )
    if found["drop"] is not None:
        said.append(f"drop {found['drop']:.4g}")
    if found["cost_us"] is not None and found["cost_us_f32"] is not None:
        said.append(f"modelled {found['cost_us']:,.0f} us, {found['cost_us_f32']:,.0f} us in f32")
    return said


def rows(layers: Iterable[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """The layers of a table under HEAD."""
    shown = (
        ("scale", ".4g", 1),
        ("zero_point", ".0f", 1),
        ("sqnr_db", ".1f", 1),
        ("saturated", ".2f", 100),
        ("cost_us_f32", ",.1f", 1),
        ("cost_us", ",.1f", 1),
    )
    return [
        (
            r["name"],
            r["op"],
            r["macs"],
            r["precision"],
            *("" if r[key] is None else format(factor * r[key], form) for key, form, factor in shown),
            r["reason"],
        )
        for r in layers
    ]


def _decibels(value: float | None) -> float | None:
    """Rounded; None where nothing differs, or what is made is not finite: no numbers of JSON."""
    return None if value is None or abs(value) == inf else round(value, 2)


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 3)
