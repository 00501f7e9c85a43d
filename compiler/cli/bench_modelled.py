"""`edgec bench --model-cpu`: the share of a core's multiply-add rate that each step reaches, as llvm-mca models it."""

from __future__ import annotations

import argparse
import tempfile
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.manifest import read_bundle
from ..errors import EdgecError
from .common import show_json, table

if TYPE_CHECKING:
    from ..modelled.mca import Core
    from ..modelled.share import Share


def run(args: argparse.Namespace) -> int:
    from ..modelled.mca import core

    chosen = core(args.model_cpu)
    ghz = chosen.ghz if args.ghz is None else args.ghz
    if not 0 < ghz < inf:
        raise EdgecError(f"--ghz {ghz:g}: expected a clock in GHz")
    found = _shares(args, chosen)
    rows = [_row(share, ghz) for share in found]
    whole = summary(rows)
    if args.json:
        show_json({"cpu": args.model_cpu, "llvm_model": chosen.model, "ghz": ghz, **whole, "layers": rows})
        return 0
    print(_table(rows))
    print()
    print(
        f"{100 * whole['inner_loops']:.1f} % of the peak in the code that multiplies, "
        f"{100 * whole['arithmetic_steps']:.1f} % in steps with multiply-adds, "
        f"{100 * whole['all_steps']:.1f} % in all, weighted by time"
    )
    print(f"{100 * whole['pipes']:.1f} % of the time the core's pipes are what all instructions wait for")
    print(
        f"{whole['ms']:.4f} ms on {args.model_cpu} at {ghz} GHz (LLVM's {chosen.model}), were all data in the L1 cache"
    )
    return 0


def _shares(args: argparse.Namespace, chosen: Core) -> list[Share]:
    from ..modelled.share import shares

    path = Path(args.bundle)
    if path.suffix != ".onnx":
        return shares(read_bundle(path), chosen, args.level)
    from edgec import compile as compile_model

    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        return shares(compile_model(path, target=chosen.target, out=Path(folder) / "bundle"), chosen, args.level)


def _row(share: Share, ghz: float) -> dict[str, Any]:
    hot = share.hot
    return {
        "name": share.name,
        "kernel": share.kernel,
        "macs": share.macs,
        "ms": share.cycles / (ghz * 1e6),
        "cycles": share.cycles,
        "inner_cycles": share.inner,
        "issue_cycles": share.ideal,
        "pipe_cycles": share.least,
        "peak_share": share.peak,
        "hot_loop": None
        if hot is None
        else {
            "turns": hot.times,
            "instructions": hot.instructions,
            "cycles": hot.cycles,
            "issue_cycles": hot.ideal,
            "code": list(hot.text),
        },
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Cycles that multiply-adds take at their full rate over those of the code that holds some, of the steps that have
    some, and of all."""
    keys = ("issue_cycles", "inner_cycles", "cycles")
    ideal, inner, busy = (sum(row[key] for row in rows if row["macs"]) for key in keys)
    total = sum(row["cycles"] for row in rows)
    return {
        "ms": sum(row["ms"] for row in rows),
        "inner_loops": ideal / inner if inner else 0.0,
        "arithmetic_steps": ideal / busy if busy else 0.0,
        "all_steps": ideal / total if total else 0.0,
        "pipes": sum(row["pipe_cycles"] for row in rows) / total if total else 0.0,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    total = sum(row["ms"] for row in rows) or 1.0
    cells = []
    for row in rows:
        hot = row["hot_loop"] or {"cycles": 0.0, "issue_cycles": 0.0}
        cells.append(
            (
                row["name"],
                row["kernel"],
                row["ms"],
                f"{100 * row['ms'] / total:.1f}",
                f"{100 * row['peak_share']:.1f}",
                f"{hot['cycles']:.1f}",
                f"{hot['issue_cycles']:.1f}",
            )
        )
    return table(("step", "kernel", "ms", "% of time", "% of peak", "cycles of the hot loop", "at the peak"), cells)
