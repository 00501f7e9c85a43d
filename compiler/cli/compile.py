"""`edgec compile`: an ONNX model to a bundle."""

from __future__ import annotations

import argparse
import time

from ..bundle.manifest import Bundle
from ..units import counted
from .common import (
    add_budget_options,
    add_calibration_options,
    add_memory_option,
    add_model_options,
    binds_of,
    dims_of,
    footprint_lines,
    progress_bar,
    shapes_of,
    show_json,
    show_notes,
    size,
    table,
)

EXAMPLES = """examples:
  edgec compile model.onnx --target rpi5 -o build/
  edgec compile model.onnx --shape input=1x3x320x320 --threads 2 -o build/
  edgec compile vad.onnx --bind sr=16000 --dim batch=1 --name vad -o build/
  edgec compile model.onnx --target x86-multi -o build/        AVX2 and AVX-512: chosen when it is opened
  edgec compile model.onnx --tune 30 -o build/                 30 s of measurements, remembered for later
  edgec compile model.onnx --tune-db tuned.json -o build/      what was measured elsewhere
  edgec compile model.onnx --weights f16 -o build/              half the weights' bytes, arithmetic as before
  edgec compile model.onnx --quantize int8 --calib data.npz -o build/
  edgec compile model.onnx --quantize int8 --calib pictures/ --calib-prep torch --max-drop 0.01 -o build/
  edgec compile model.onnx --max-ram 192K --max-flash 900K -o build/
  edgec compile model.onnx --target cortex-m7 --memory board.toml -o build/    ITCM, DTCM, SRAM, QSPI ..."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="ONNX file")
    parser.add_argument(
        "--target", default="host", metavar="T", help="board or CPU level, or a .toml file (default: host)"
    )
    parser.add_argument("-o", "--output", dest="out", metavar="DIR", help="folder to write (default: the model's name)")
    parser.add_argument("--name", metavar="N", help="C name of the model (default: from the file's name)")
    add_model_options(parser)
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="workers that one inference may use (default: 1)"
    )
    parser.add_argument("--passes", metavar="SPEC", help="pipeline, such as 'canonicalize, fold, fuse, layout, plan'")
    parser.add_argument(
        "--weights",
        metavar="f16|int8|int4",
        help="store constant weights so and widen them as they are read; int8 and int4 only where a layer waits for "
        "its weights",
    )
    parser.add_argument("--precision", metavar="fp32|fp16", help="what values are stored in (GPUs; default: fp32)")
    parser.add_argument(
        "--arch", metavar="SM", help="GPU architectures to compile for, such as sm_80,sm_90 (default: the target's)"
    )
    parser.add_argument("--quantize", metavar="int8", help="convolutions and matrix products on 8 bits; needs --calib")
    add_calibration_options(parser)
    parser.add_argument(
        "--tune", type=float, metavar="SECONDS", help="measure the most promising kernels on this machine first"
    )
    parser.add_argument(
        "--tune-db",
        metavar="FILE",
        help="measured times to use; --tune adds to them (default then: a file of the user's)",
    )
    parser.add_argument(
        "--self-test",
        nargs="?",
        const=True,
        default=False,
        metavar="NPZ",
        help="add inputs (of a file, or random ones) and what each step makes of them, for ec_selftest on the device",
    )
    add_budget_options(parser)
    add_memory_option(parser)
    parser.add_argument(
        "--optimize", metavar="speed|size", help="what kernels are made for (default: speed; size: on CPUs)"
    )
    parser.add_argument("--json", action="store_true", help="print what was compiled as JSON")


def run(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    bundle = _compile(args)
    seconds = time.perf_counter() - started
    show_notes(bundle.manifest.get("notes", []))
    if args.json:
        show_json({**bundle.manifest, "folder": str(bundle.folder), "compile_seconds": round(seconds, 3)})
    else:
        _show(bundle, seconds)
    return 0


def _compile(args: argparse.Namespace) -> Bundle:
    from edgec import compile as compile_model

    with progress_bar() as progress:
        return compile_model(
            args.model,
            args.target,
            args.out,
            name=args.name,
            shapes=shapes_of(args),
            dims=dims_of(args),
            bind=binds_of(args),
            threads=args.threads,
            passes=args.passes,
            weights=args.weights,
            precision=args.precision,
            arch=args.arch,
            tune=args.tune,
            tune_db=args.tune_db,
            quantize=args.quantize,
            calib=args.calib,
            calib_prep=args.calib_prep,
            max_drop=args.max_drop,
            score=args.score,
            max_latency=args.max_latency,
            max_flash=args.max_flash,
            max_ram=args.max_ram,
            self_test=args.self_test,
            memory=args.memory,
            optimize=args.optimize,
            progress=progress,
        )


def _show(bundle: Bundle, seconds: float) -> None:
    steps = [(s["name"], s["kernel"], s["macs"], s["bytes_moved"], s["cost_us"]) for s in bundle.steps]
    print(table(("step", "kernel", "MACs", "bytes moved", "modelled us"), steps))
    over = 100 * (bundle.arena_bytes / bundle.lower_bound - 1) if bundle.lower_bound else 0.0
    print()
    print(f"arena    {size(bundle.arena_bytes)}, {over:.1f} % above the lower bound of {bundle.lower_bound:,}")
    if device := bundle.manifest["device"]:
        print(f"here     {size(device['host_bytes'])} for inputs and outputs; the arena is on the device")
    print(f"weights  {size(bundle.weights_bytes)}")
    print(f"code     {size(bundle.code_bytes)}")
    for row in bundle.manifest["memory"]:
        held = [f"{what} {row[what]:,}" for what in ("arena", "weights", "code") if row[what]]
        held += [counted(len(row["kernels"]), "kernel")] if row["kernels"] else []
        print(f"{row['region']:<8} {', '.join(held) or 'nothing'} of {row['size']:,} bytes")
    for line in footprint_lines(bundle.footprint, 8):
        print(line)
    if tested := bundle.manifest["self_test"]:
        print(f"test     {size(tested['bytes'])} of flash where ec_selftest is linked")
    print(
        f"{counted(len(steps), 'step')} for {bundle.manifest['target']}, compiled in {seconds:.2f} s: {bundle.folder}"
    )
