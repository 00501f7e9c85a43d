"""`edgec compile`: an ONNX model to a bundle."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from ..bundle.manifest import Bundle
from ..bundle.names import identifier
from ..bundle.place import check_output, staged
from ..errors import EdgecError
from .common import (
    add_calibration_options,
    add_model_options,
    binds_of,
    dims_of,
    progress_bar,
    shapes_of,
    show_json,
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
  edgec compile model.onnx --max-ram 192K --max-flash 900K -o build/"""

_LATER = ("max_latency",)


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
        metavar="f16|int8",
        help="store constant weights so and widen them as they are read; int8 only where a layer waits for its weights",
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
    parser.add_argument("--max-ram", metavar="SIZE", help="refuse a model whose arena is larger (192K, 2M)")
    parser.add_argument("--max-flash", metavar="SIZE", help="refuse a model whose weights and code are larger")
    for name in _LATER:
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="...", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print what was compiled as JSON")


def run(args: argparse.Namespace) -> int:
    for name in _LATER:
        if getattr(args, name) is not None:
            raise EdgecError(f"--{name.replace('_', '-')}: not available in this version of edgec")
    limits = {"arena": _bytes("--max-ram", args.max_ram), "flash": _bytes("--max-flash", args.max_flash)}
    started = time.perf_counter()
    if all(limit is None for limit in limits.values()):
        bundle = _compile(args, args.out)
    else:
        bundle = _compile_within(args, limits)
    seconds = time.perf_counter() - started
    for note in bundle.manifest.get("notes", []):
        print(f"edgec: note: {note}", file=sys.stderr)
    if args.json:
        show_json({**bundle.manifest, "folder": str(bundle.folder), "compile_seconds": round(seconds, 3)})
    else:
        _show(bundle, seconds)
    return 0


def _compile(args: argparse.Namespace, out: str | Path | None) -> Bundle:
    from edgec import compile as compile_model

    with progress_bar() as progress:
        return compile_model(
            args.model,
            args.target,
            out,
            name=args.name,
            shapes=shapes_of(args),
            dims=dims_of(args),
            bind=binds_of(args),
            threads=args.threads,
            passes=args.passes,
            weights=args.weights,
            tune=args.tune,
            tune_db=args.tune_db,
            quantize=args.quantize,
            calib=args.calib,
            calib_prep=args.calib_prep,
            max_drop=args.max_drop,
            score=args.score,
            progress=progress,
        )


def _compile_within(args: argparse.Namespace, limits: dict[str, int | None]) -> Bundle:
    """A bundle that breaks a limit does not take the place of an older one."""
    stem = identifier(Path(args.model).stem)
    out = check_output(args.out or args.name or stem)
    with staged(out) as folder:
        args.name = args.name or stem
        bundle = _compile(args, folder)
        _check_limits(bundle, limits)
    return replace(bundle, folder=out)


def _show(bundle: Bundle, seconds: float) -> None:
    steps = [(s["name"], s["kernel"], s["macs"], s["bytes_moved"], s["cost_us"]) for s in bundle.steps]
    print(table(("step", "kernel", "MACs", "bytes moved", "modelled us"), steps))
    over = 100 * (bundle.arena_bytes / bundle.lower_bound - 1) if bundle.lower_bound else 0.0
    print()
    print(f"arena    {size(bundle.arena_bytes)}, {over:.1f} % above the lower bound of {bundle.lower_bound:,}")
    print(f"weights  {size(bundle.weights_bytes)}")
    print(f"code     {size(bundle.code_bytes)}")
    print(f"{len(steps)} steps for {bundle.manifest['target']}, compiled in {seconds:.2f} s: {bundle.folder}")


def _bytes(flag: str, text: str | None) -> int | None:
    """`192K`, `2M`, `900` in bytes."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in ("K", "M", "G") else (text, "")
    try:
        return int(float(number) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[unit])
    except (ValueError, OverflowError):
        raise EdgecError(f"{flag} {text}: expected a size, such as 192K or 2M") from None


def _check_limits(bundle: Bundle, limits: dict[str, int | None]) -> None:
    for what, flag, got in (
        ("arena", "--max-ram", bundle.arena_bytes),
        ("flash", "--max-flash", bundle.weights_bytes + bundle.code_bytes),
    ):
        limit = limits[what]
        if limit is not None and got > limit:
            raise EdgecError(f"{bundle.name}: needs {got:,} bytes of {what}, {flag} allows {limit:,}")
