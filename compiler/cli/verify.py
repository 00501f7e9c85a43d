"""`edgec verify`: the compiled model against ONNX Runtime, output by output or layer by layer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .common import add_inputs, binds_of, progress_bar, show_json, show_notes, table

if TYPE_CHECKING:
    from ..compare.difference import Difference

EXAMPLES = """examples:
  edgec verify model.onnx --bundle build/
  edgec verify model.onnx --bundle build/ --layers --inputs data.npz

exit code: 0 within tolerance, 1 beyond it. A bundle for another architecture runs through the target's emulator."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the ONNX file that was compiled")
    parser.add_argument("--bundle", required=True, metavar="DIR", help="what it was compiled into")
    parser.add_argument(
        "--layers", action="store_true", help="compare every value that is stored; name the first that differs"
    )
    add_inputs(parser, "--inputs", "samples, instead of seeded random ones (in int8: like the calibration data)")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="how many random inputs to try (default: 1)")
    parser.add_argument(
        "--bind", action="append", default=[], metavar="INPUT=VALUE", help="inputs that were fixed by compile --bind"
    )
    parser.add_argument("--level", metavar="T", help="of a bundle for several levels of the CPU, the one to run")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _state(d: Difference) -> str:
    state = "ok" if d.ok else "DIFFERS"
    return f"{state} ({d.note})" if d.note else state


def run(args: argparse.Namespace) -> int:
    from ..compare.bundle import verify

    with progress_bar("compare"):
        result = verify(
            args.model,
            args.bundle,
            layers=args.layers,
            inputs=args.inputs,
            calib_prep=args.calib_prep or "",
            runs=args.runs,
            binds=binds_of(args),
            level=args.level,
        )
    rows = [(d.where, d.value, d.error, d.tolerance, _state(d)) for d in result.differences]
    if args.json:
        keys = ("where", "value", "error", "tolerance", "state")
        table_rows = [dict(zip(keys, r, strict=True)) for r in rows]
        show_json({"ok": result.ok, "skipped": result.skipped, "note": result.note, "rows": table_rows})
    else:
        shown = [(w, v, f"{e:.2e}", f"{t:.0e}", s) for w, v, e, t, s in rows]
        print(table(("", "value", "relative error", "allowed", ""), shown))
        if result.skipped:
            print(f"{len(result.skipped)} steps compute what ONNX Runtime does not show as such: not compared")
        first = next((d for d in result.differences if not d.ok), None)
        print(f"first to differ: {first.where} {first.value}" if first else "all within tolerance")
        if first and result.note:
            show_notes([result.note])
    return 0 if result.ok else 1
