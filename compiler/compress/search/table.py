"""The report of a search as plain data (`--json`, and what the page shows), and as lines for people.

name model target threads   what was compressed         seconds   that the search took
limits      {latency_ms, flash_bytes, ram_bytes, drop}: those that were given
drop_is     what the drop counts                        samples   {fitted, judged}: how many
float, chosen  the points of the float model and of what was written
points      [{what, pipeline, level ("draft": made with few samples, "full"), latency_ms, modelled_us, measured (else
            the latency is modelled), flash_bytes, weights_bytes, code_bytes, ram_bytes, macs, score, drop, sqnr_db,
            pareto, seconds}]
binding     {limit: the point that would be chosen without it; null: none of those that were made}
left        {method: why it is no use here}
layers      what became of each layer: [{layer, methods, shape_before, shape (of its weights), macs_before, macs,
            bytes_before, bytes, precision, error (of its result, by methods but int8, as a share of the variance),
            sqnr_db, cost_us_before, cost_us (modelled), reason}]
memory      {float, chosen}: bytes of the arena in use, step by step
notes       remarks of the passes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ..layers import merged
from .evaluate import Measures, Study
from .limits import FLAGS, Figures, shown
from .methods import BEFORE
from .outcome import Outcome, Point

KEYS = {"latency": "latency_ms", "flash": "flash_bytes", "ram": "ram_bytes", "drop": "drop"}
HURRIED = "the time was over before all that looked promising was tried; a longer --time may find better"
HEAD = ("", "latency", "flash", "RAM", "drop", "SQNR dB", "what was done")


@dataclass(frozen=True)
class What:
    """What was compressed; `model`: how the user calls it; `shapes` of its layers' weights."""

    name: str
    model: str
    study: Study
    shapes: Mapping[str, Sequence[int]]
    notes: Sequence[str] = field(default_factory=list)


def table(what: What, outcome: Outcome) -> dict[str, Any]:
    """All of it."""
    study, best = what.study, outcome.best.measures
    good = {id(p.measures) for p in outcome.pareto}
    whole = outcome.points[0]
    return {
        "name": what.name,
        "model": what.model,
        "target": study.target.name,
        "threads": study.threads,
        "seconds": round(outcome.seconds, 1),
        "limits": {KEYS[key]: limit for key, limit in outcome.limits.given().items()},
        "drop_is": drop_is(study),
        "samples": {"fitted": count(study.fitted), "judged": count(study.judged)},
        "float": _point(whole, good),
        "chosen": _point(outcome.best, good),
        "points": [_point(p, good) for p in outcome.points],
        "binding": {KEYS[key]: _point(p, good) if p is not None else None for key, p in outcome.binding.items()},
        "left": dict(outcome.left),
        "layers": merged(_layers(best.compression), _layers(best.quantization), what.shapes),
        "memory": {"float": list(whole.measures.live), "chosen": list(best.live)},
        "notes": list(dict.fromkeys([*what.notes, *best.notes, *([HURRIED] if outcome.hurried else [])])),
    }


def _layers(found: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return list((found or {}).get("layers", []))


def drop_is(study: Study) -> str:
    """What the drop counts, for people."""
    if study.score is not None:
        return "points of the score"
    others = "" if count(study.judged) == count(study.fitted) else ", which nothing was fitted on,"
    return f"share of {count(study.judged)} samples{others} that are answered otherwise"


def count(stacked: Mapping[str, Any]) -> int:
    return min((len(a) for a in stacked.values()), default=0)


def _point(p: Point, good: set[int]) -> dict[str, Any]:
    m, f = p.measures, p.figures
    return {
        "what": str(p.candidate),
        "pipeline": ", ".join([BEFORE, *p.candidate.stages(m.job.level)]),
        "level": m.job.level,
        "latency_ms": round(f.latency, 5),
        "measured": m.reference is not None,
        "modelled_us": round(m.costs.us, 2),
        "flash_bytes": f.flash,
        "weights_bytes": m.weights,
        "code_bytes": m.code,
        "ram_bytes": f.ram,
        "macs": m.macs,
        "score": m.score,
        "drop": float(f"{m.drop:.6g}"),
        "sqnr_db": None if m.sqnr == inf else round(m.sqnr, 2),
        "pareto": id(m) in good,
        "seconds": round(m.seconds, 1),
    }


def rows(found: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """The Pareto points under HEAD, the fastest first; `*`: the chosen one, `.`: a draft."""
    points = [p for p in found["points"] if p["pareto"] or p == found["chosen"] or p == found["float"]]
    return [
        (
            "*" if p == found["chosen"] else "." if p["level"] == "draft" else "",
            *(shown(key, p[KEYS[key]]) for key in FLAGS),
            "" if p["sqnr_db"] is None else f"{p['sqnr_db']:.1f}",
            p["what"],
        )
        for p in sorted(points, key=lambda p: float(p["latency_ms"]))
    ]


def lines(found: Mapping[str, Any]) -> list[str]:
    """What follows the table."""
    whole, chosen = found["float"], found["chosen"]
    said = [f"left out: {method}: {why}" for method, why in found["left"].items()]
    how = "measured here, in turns with the float model" if chosen["measured"] else "modelled, on one core"
    said.append(f"latency is {how}; drop: {found['drop_is']}")
    for key, word in KEYS.items():
        if word in found["limits"]:
            limit, got = found["limits"][word], chosen[word]
            used = f", {100 * got / limit:.0f} %" if limit else ""
            said.append(f"{FLAGS[key]} {shown(key, limit)}: {shown(key, got)}{used}{_bound(found, key)}")
    speed = whole["latency_ms"] / chosen["latency_ms"] if chosen["latency_ms"] else 1.0
    smaller = whole["flash_bytes"] / max(chosen["flash_bytes"], 1)
    said.append(f"{chosen['what']}: {speed:.2f} times as fast as the float model, {smaller:.2f} times as small")
    return said


def _bound(found: Mapping[str, Any], key: str) -> str:
    """Which limits bind, and what would be there without."""
    if KEYS[key] not in found["binding"]:
        return ""
    other = found["binding"][KEYS[key]]
    if other is None:
        return "; binds"
    return f"; binds: without it {other['what']} ({shown('latency', other['latency_ms'])}, drop {other['drop']:.4g})"


def said(m: Measures, figures: Figures, seconds: float) -> str:
    """One candidate, for progress."""
    sqnr = "" if m.sqnr == inf else f", {m.sqnr:.1f} dB"
    sizes = ", ".join(shown(key, figures.of(key)) for key in ("latency", "flash", "ram"))
    draft = " (draft)" if m.job.level == "draft" else ""
    return f"{seconds:4.0f} s  {m.job.candidate}{draft}: {sizes}, drop {m.drop:.4g}{sqnr}"
