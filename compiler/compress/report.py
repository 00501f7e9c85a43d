"""What became of each layer that was made smaller, and why: for the manifest, the report and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

HEAD = ("layer", "method", "shape before", "shape", "MACs before", "MACs", "error %", "us before", "us", "reason")


@dataclass
class Record:
    """One layer.

    before, after  shapes of its weights; of a layer that became several, the first one's
    error          of its result on samples that it was not fitted on, as a share of the variance; None: not measured
    cost_before, cost_after  modelled microseconds on the target
    reason         why it was left as it was, or what held it back
    """

    layer: str
    method: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    macs_before: int
    macs_after: int
    error: float | None = None
    cost_before: float | None = None
    cost_after: float | None = None
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "layer": self.layer,
            "method": self.method,
            "shape_before": list(self.before),
            "shape": list(self.after),
            "macs_before": self.macs_before,
            "macs": self.macs_after,
            "error": None if self.error is None else float(f"{self.error:.4g}"),
            "cost_us_before": None if self.cost_before is None else round(self.cost_before, 3),
            "cost_us": None if self.cost_after is None else round(self.cost_after, 3),
            "reason": self.reason,
        }


@dataclass
class Report:
    """Records of all passes that ran, in order."""

    layers: list[Record] = field(default_factory=list)

    def table(self) -> dict[str, Any]:
        """The key `compression` of a manifest."""
        return {"layers": [r.row() for r in self.layers]}


def lines(found: Mapping[str, Any]) -> list[str]:
    """The sums of a table, for people: one line per method."""
    said = []
    for method in dict.fromkeys(r["method"] for r in found["layers"]):
        mine = [r for r in found["layers"] if r["method"] == method]
        before, after = (sum(r[key] for r in mine) for key in ("macs_before", "macs"))
        smaller = sum(r["macs"] < r["macs_before"] for r in mine)
        share = 100 * (1 - after / before) if before else 0.0
        said.append(f"{method}: {smaller} of {len(mine)} layers, {share:.1f} % of their multiplications less")
    return said


def rows(layers: Iterable[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """The layers of a table under HEAD."""

    def number(value: float | None, form: str, factor: float = 1.0) -> str:
        return "" if value is None else format(factor * value, form)

    return [
        (
            r["layer"],
            r["method"],
            "x".join(map(str, r["shape_before"])),
            "x".join(map(str, r["shape"])),
            r["macs_before"],
            r["macs"],
            number(r["error"], ".3g", 100),
            number(r["cost_us_before"], ",.1f"),
            number(r["cost_us"], ",.1f"),
            r["reason"],
        )
        for r in layers
    ]
