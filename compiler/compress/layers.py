"""One row per layer of a compressed model: what it was, what became of it by all methods together, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

HEAD = ("layer", "methods", "shape before", "shape", "MACs before", "MACs", "bytes before", "bytes", "type")
MORE = ("error %", "SQNR dB", "us before", "us", "reason")
PIECES = "low-rank"  # makes several layers of one: the shape in its record is the first one's

Row = dict[str, Any]


def merged(
    compression: Iterable[Mapping[str, Any]],
    quantization: Iterable[Mapping[str, Any]],
    shapes: Mapping[str, Sequence[int]],
) -> list[Row]:
    """Rows of the tables `compression` and `quantization` of a manifest, as one per layer; `shapes` are those of the
    float model's weights. Bytes are those of the weights alone; null: not known."""
    found: dict[str, Row] = {}
    for record in compression:
        row = found.setdefault(record["layer"], _begun(record))
        if record["macs"] != record["macs_before"] or record["shape"] != record["shape_before"] or record["error"]:
            row["methods"].append(record["method"])
        row["shape"], row["macs"] = list(record["shape"]), record["macs"]
        row["error"] = record["error"] if record["error"] is not None else row["error"]
        row["cost_us"] = record["cost_us"] if record["cost_us"] is not None else row["cost_us"]
        _because(row, record["method"], record["reason"])
    for record in quantization:
        shape = list(shapes.get(record["name"], ())) or None
        row = found.setdefault(record["name"], _begun({**record, "layer": record["name"], "shape_before": shape}))
        row["precision"], row["sqnr_db"] = record["precision"], record["sqnr_db"]
        row["cost_us"] = record["cost_us"] if record["cost_us"] is not None else row["cost_us"]
        if record["precision"] == "int8":
            row["methods"].append("int8")
        _because(row, "int8", record["reason"])
    for row in found.values():
        before, now = row["shape_before"], row["shape"]
        row["bytes_before"] = 4 * prod(before) if before else None
        row["bytes"] = _width(row) * prod(now) if now and PIECES not in row["methods"] else None
    return list(found.values())


def _begun(record: Mapping[str, Any]) -> Row:
    shape = record["shape_before"]
    cost = record.get("cost_us_before", record.get("cost_us_f32"))
    return {
        "layer": record["layer"],
        "methods": [],
        "shape_before": list(shape) if shape else None,
        "shape": list(shape) if shape else None,
        "macs_before": record.get("macs_before", record["macs"]),
        "macs": record["macs"],
        "precision": "f32",
        "error": None,
        "sqnr_db": None,
        "cost_us_before": cost,
        "cost_us": cost,
        "reason": "",
    }


def _because(row: Row, method: str, reason: str) -> None:
    if reason:
        row["reason"] += f"{'; ' if row['reason'] else ''}{method}: {reason}"


def _width(row: Row) -> int:
    return 1 if row["precision"] == "int8" else 4


def cells(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    """Rows under HEAD and MORE, for people."""
    for r in rows:
        yield (
            r["layer"],
            " + ".join(r["methods"]) or "as it is",
            *("x".join(map(str, r[key] or ())) for key in ("shape_before", "shape")),
            r["macs_before"],
            r["macs"],
            *("" if r[key] is None else r[key] for key in ("bytes_before", "bytes")),
            r["precision"],
            *(_number(r[key], form, by) for key, form, by in _SHOWN),
            r["reason"],
        )


_SHOWN = (("error", ".3g", 100), ("sqnr_db", ".1f", 1), ("cost_us_before", ",.1f", 1), ("cost_us", ",.1f", 1))


def _number(value: float | None, form: str, by: float) -> str:
    return "" if value is None else format(by * value, form)
