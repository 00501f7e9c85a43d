"""`report.html` of a compressed model: what the search found, what became of each layer, and the bundle's report."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from ...bundle.report import html_table, report
from .. import layers
from .limits import FLAGS, shown
from .plot import Dot, bars, memory, scatter
from .table import HEAD, KEYS, lines, rows

POINTS = ("", *HEAD[1:], "score", "MACs", "weights", "code", "made in s", "passes")


def page(found: Mapping[str, Any], manifest: dict[str, Any]) -> str:
    """The whole page, without scripts or other files."""
    return report(manifest, _parts(found))


def _parts(found: Mapping[str, Any]) -> Iterator[str]:
    whole, chosen, limits = found["float"], found["chosen"], found["limits"]
    yield f"<h2>Compressed: {html.escape(chosen['what'])}</h2>"
    yield from (f"<p>{html.escape(line)}</p>" for line in lines(found))
    yield html_table(("", "float model", "compressed", "limit"), _figures(found))
    yield "<h2>Models that were made</h2><p>Hollow: a draft, made with few samples. Dashed: a limit.</p>"
    dots = {key: [_dot(p, found, KEYS[key]) for p in found["points"]] for key in ("latency", "flash", "ram")}
    words = {"latency": "latency, ms", "flash": "flash, bytes", "ram": "RAM, bytes"}
    for key in ("latency", "flash", "ram"):
        if key == "latency" or KEYS[key] in limits:
            yield scatter(
                f"Pareto plot: drop over {words[key]}",
                words[key],
                "drop",
                dots[key],
                limits.get(KEYS[key]),
                limits.get("drop"),
            )
    yield html_table(HEAD, rows(found))
    yield f"<details><summary>All {len(found['points'])} models</summary>"
    yield html_table(POINTS, _points(found)) + "</details>"
    yield "<h2>Size</h2>"
    sizes = [(word, int(whole[key]), int(chosen[key])) for word, key in _SIZES]
    yield bars("Bytes before and now", sizes)
    kept = found["memory"]
    yield memory("Memory over time", kept["float"], kept["chosen"], limits.get("ram_bytes"))
    yield "<h2>Layers</h2>"
    yield html_table((*layers.HEAD, *layers.MORE), layers.cells(found["layers"]))


_SIZES = (("weights", "weights_bytes"), ("code", "code_bytes"), ("RAM (arena)", "ram_bytes"))


def _figures(found: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    whole, chosen = found["float"], found["chosen"]
    for key in FLAGS:
        limit = found["limits"].get(KEYS[key])
        yield (
            key,
            shown(key, whole[KEYS[key]]),
            shown(key, chosen[KEYS[key]]),
            "" if limit is None else shown(key, limit),
        )
    yield "multiplications", whole["macs"], chosen["macs"], ""
    if chosen["score"] is not None:
        yield "score", f"{whole['score']:.6g}", f"{chosen['score']:.6g}", ""
    if chosen["sqnr_db"] is not None:
        yield "outputs' SQNR", "", f"{chosen['sqnr_db']:.1f} dB", ""


def _dot(p: Mapping[str, Any], found: Mapping[str, Any], key: str) -> Dot:
    kinds = {"chosen": p == found["chosen"], "float": p == found["float"], "pareto": p["pareto"]}
    kind = next((word for word, true in kinds.items() if true), "other")
    figures = ", ".join(shown(what, p[KEYS[what]]) for what in ("latency", "flash", "ram"))
    return Dot(p[key], p["drop"], f"{p['what']}: {figures}, drop {p['drop']:.4g}", kind, p["level"] == "draft")


def _points(found: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for p in found["points"]:
        yield (
            "*" if p == found["chosen"] else p["level"],
            *(shown(key, p[KEYS[key]]) for key in FLAGS),
            "" if p["sqnr_db"] is None else f"{p['sqnr_db']:.1f}",
            p["what"],
            "" if p["score"] is None else f"{p['score']:.6g}",
            p["macs"],
            p["weights_bytes"],
            p["code_bytes"],
            p["seconds"],
            p["pipeline"],
        )
