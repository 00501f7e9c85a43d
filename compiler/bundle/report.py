"""`report.html`: sizes, steps and memory map on one page, without scripts or other files."""

from __future__ import annotations

import html
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from ..compress import report as compressed
from ..quantize import report as quantized

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; max-width: 90em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: left }
.n { text-align: right; font-variant-numeric: tabular-nums }
.map { position: relative; border: 1px solid #999; background: #f6f6f6 }
.map div { position: absolute; background: #4a90d9aa; border: 1px solid #25c; box-sizing: border-box }
"""


def shown_shape(port: dict[str, Any]) -> str:
    """The sizes of an input or output of a manifest; a size that depends on data as a range: `0..100x3`."""
    axis = (port.get("count") or {}).get("axis")
    return "x".join(f"0..{n}" if k == axis else f"{n}" for k, n in enumerate(port["shape"]))


def report(manifest: dict[str, Any], first: Iterable[str] = ()) -> str:
    """The whole page; `first`: parts that come before all others."""
    name = html.escape(manifest["name"])
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{name}</title><style>{_STYLE}</style>",
        f"<h1>{name}</h1><p>Compiled by edgec {html.escape(manifest['edgec'])}.</p>",
        *first,
        "<h2>Bundle</h2>",
        _facts(manifest),
        "<h2>Inputs and outputs</h2>",
        html_table(("", "name", "type", "shape", "bytes"), _ports(manifest)),
        *_regions(manifest["memory"]),
        *_level(manifest, ""),
        *_layers("Quantization", manifest["quantization"], quantized),
        *_layers("Compression", manifest["compression"], compressed),
        *(part for row in manifest["fallbacks"] for part in _level(row, f" on {row['level']}")),
        *(f"<p>{html.escape(note)}</p>" for note in manifest["notes"]),
    ]
    return "\n".join(parts) + "\n"


def _regions(rows: list[dict[str, Any]]) -> list[str]:
    """Who lies where on a board with declared regions."""
    if not rows:
        return []
    head = ("region", "kind", "bytes", "cycles per byte", "arena", "weights", "code", "kernels of their own")
    shown = [
        (r["region"], r["kind"], r["size"], r["cost"], r["arena"], r["weights"], r["code"], ", ".join(r["kernels"]))
        for r in rows
    ]
    return ["<h2>Regions</h2>", html_table(head, shown)]


def _level(table: dict[str, Any], on: str) -> list[str]:
    """Steps and memory of one level of the CPU."""
    head = ("step", "kernel", "ONNX nodes", "type", "MACs", "bytes moved", "modelled us", "why")
    return [
        f"<h2>Steps{html.escape(on)}</h2>",
        html_table(head, _steps(table)),
        f"<h2>Memory{html.escape(on)}</h2><p>Arena offsets to the right, steps downwards.</p>",
        _map(table),
    ]


def _layers(title: str, found: dict[str, Any] | None, report: ModuleType) -> list[str]:
    """What became of each layer, where calibration data put layers into 8 bits or passes made them smaller."""
    if not found:
        return []
    said = (f"<p>{html.escape(line)}</p>" for line in report.lines(found))
    return [f"<h2>{title}</h2>", *said, html_table(report.HEAD, report.rows(found["layers"]))]


def _facts(manifest: dict[str, Any]) -> str:
    rows = [
        ("target", f"{manifest['target']} ({manifest['triple']})"),
        ("kernels made for", manifest.get("optimize", "speed")),
        ("passes", manifest["passes"]),
        ("threads", manifest["threads"]),
        ("instruction sets", _isa(manifest)),
        *((f"or {row['level']}", _isa(row)) for row in manifest["fallbacks"]),
        ("arena bytes", manifest["arena"]["bytes"]),
        ("arena bytes, lower bound", manifest["arena"]["lower_bound"]),
        *([("host bytes", device["host_bytes"])] if (device := manifest.get("device")) else []),
        ("weights bytes", manifest["weights_bytes"]),
        ("code bytes", manifest["code_bytes"]),
        *(
            (f"{memory} bytes", ", ".join(f"{part} {said(size)}" for part, size in parts.items()))
            for memory, parts in (manifest.get("footprint") or {}).items()
        ),
    ]
    return html_table((), rows)


def said(size: int | None) -> str:
    return "not known" if size is None else f"{size:,}"


def _isa(table: dict[str, Any]) -> str:
    return ", ".join(table["isa"]) or "none beyond the base"


def _ports(manifest: dict[str, Any]) -> Iterable[tuple[object, ...]]:
    for word in ("inputs", "outputs"):
        for p in manifest[word]:
            yield word[:-1], p["name"], p["dtype"], shown_shape(p), p["bytes"]


def _steps(manifest: dict[str, Any]) -> Iterable[tuple[object, ...]]:
    for s in manifest["steps"]:
        kernel, origin = f"{s['kernel']} {s['config']}", ", ".join(s["origin"])
        yield s["name"], kernel, origin, s["dtype"], s["macs"], s["bytes_moved"], s["cost_us"], s["why"]


def html_table(head: Iterable[str], rows: Iterable[tuple[object, ...]]) -> str:
    top = "".join(f"<th>{html.escape(word)}" for word in head)
    body = ("<tr>" + "".join(map(_cell, row)) for row in rows)
    return "\n".join([f"<table><tr>{top}" if top else "<table>", *body, "</table>"])


def _cell(value: object) -> str:
    if isinstance(value, (int, float)):
        return f"<td class=n>{value:,}"
    return f"<td>{html.escape(str(value))}"


def _map(manifest: dict[str, Any]) -> str:
    """One box per buffer: offset and size across, the steps that it lives for downwards."""
    total, steps = max(manifest["arena"]["bytes"], 1), max(len(manifest["steps"]), 1)
    boxes = []
    for a in manifest["arena"]["map"]:
        first = max(a["first"], 0)
        last = min(max(a["last"], first), steps - 1)
        place = {
            "left": a["offset"] / total,
            "width": a["bytes"] / total,
            "top": first / steps,
            "height": (last - first + 1) / steps,
        }
        style = ";".join(f"{key}:{100 * part:.3f}%" for key, part in place.items())
        title = f"{a['value']}: {a['bytes']:,} bytes at {a['offset']:,}, steps {a['first']}-{a['last']}"
        boxes.append(f'<div style="{style}" title="{html.escape(title)}"></div>')
    height = min(max(steps * 8, 80), 1200)
    return f'<div class=map style="height:{height}px">\n' + "\n".join(boxes) + "\n</div>"
