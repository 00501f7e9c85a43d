"""`edgec quantize`: a float ONNX model to a quantized one, with QuantizeLinear and DequantizeLinear (QDQ)."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..errors import EdgecError
from ..files import check_file, check_other
from .common import (
    add_calibration_options,
    add_model_options,
    binds_of,
    dims_of,
    progress_bar,
    shapes_of,
    show_json,
    show_notes,
    table,
)

EXAMPLES = """examples:
  edgec quantize model.onnx --calib data.npz -o model.int8.onnx
  edgec quantize model.onnx --calib pictures/ --calib-prep torch --method percentile -o model.int8.onnx
  edgec quantize model.onnx --calib data.npz --max-drop 0.01 -o model.int8.onnx
  edgec quantize model.onnx --calib data.npz --max-drop 0.005 --score score.py:mean_precision -o model.int8.onnx

data.npz holds an array per input, its samples along the first axis. Some dozens of typical samples are enough."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="ONNX file")
    parser.add_argument("-o", "--output", metavar="FILE", help="file to write (default: MODEL.int8.onnx)")
    add_model_options(parser)
    add_calibration_options(parser)
    parser.add_argument(
        "--method",
        default="auto",
        metavar="M",
        help="how ranges are chosen: minmax, percentile, entropy, mse, or the best of them per tensor (auto)",
    )
    parser.add_argument("--passes", metavar="SPEC", help="pipeline (default: 'canonicalize, fold, quantize')")
    parser.add_argument("--layers", action="store_true", help="print what became of each layer, and why")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    from ..quantize.model import quantize_model
    from ..quantize.report import HEAD, lines, rows

    out = Path(args.output) if args.output else Path(args.model).with_suffix(".int8.onnx")
    if args.output is None and out.exists():
        raise EdgecError(f"{out}: exists; give -o to write over it")
    check_other(out, args.model)
    check_file(out)
    started = time.perf_counter()
    with progress_bar() as progress:
        report = quantize_model(
            args.model,
            out,
            calib=args.calib,
            calib_prep=args.calib_prep,
            method=args.method,
            max_drop=args.max_drop,
            score=args.score,
            passes=args.passes,
            shapes=shapes_of(args),
            dims=dims_of(args),
            bind=binds_of(args),
            progress=progress,
        )
    found = report.table()
    show_notes(report.notes)
    if args.json:
        show_json({**found, "notes": report.notes})
        return 0
    if args.layers:
        print(table(HEAD, rows(found["layers"])))
        print()
    for line in lines(found):
        print(line)
    print(f"{out}: written in {time.perf_counter() - started:.1f} s")
    return 0
