"""`edgec bench`: how long a compiled model takes on this machine, timed in C; for boards without an operating system,
how many instructions."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..errors import EdgecError
from ..files import check_file, replaced
from ..units import counted
from .common import show_json, show_notes, table

if TYPE_CHECKING:
    from ..execution.benchmark import Benchmark

EXAMPLES = """examples:
  edgec bench build/ --runs 200
  edgec bench build/ --threads 2 --layers --json
  edgec bench build/ --roofline roofline.svg
  edgec bench build/ --model-cpu cortex-a78
  edgec bench model.onnx --model-cpu cortex-a72 --json

--layers shows each step's rate as a share of the peak: what one core (times the threads) reaches in multiply-adds on
registers alone, measured between the runs. A step that saves arithmetic (Winograd's) may exceed it: the operations of
its plain form count.

A bundle for a board without an operating system (cortex-m4 ...) runs in the board's emulator, which counts the
instructions of an inference and of each step; the stack that a run needs is measured.

--model-cpu needs no such core: a bundle for AArch64 runs once under qemu with counters in its kernels, and llvm-mca
says how many cycles the counted code takes there while caches hold everything. The peak is that of the multiply-adds
alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="DIR", help="a compiled bundle (for --model-cpu a model too)")
    parser.add_argument("--threads", type=int, metavar="N", help="workers (default: as compiled)")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="inferences to time (default: 50)")
    parser.add_argument("--layers", action="store_true", help="time each step too")
    parser.add_argument("--roofline", metavar="SVG", help="draw each step's rate over its operations per byte")
    parser.add_argument("--level", metavar="T", help="of a bundle for several levels of the CPU, the one to run")
    parser.add_argument("--model-cpu", metavar="CORE", help="model this core (cortex-a78 ...) instead of timing")
    parser.add_argument(
        "--ghz", type=float, metavar="F", help="clock of the core of --model-cpu (default: a usual one)"
    )
    parser.add_argument("--json", action="store_true", help="print milliseconds as JSON")


def run(args: argparse.Namespace) -> int:
    if args.model_cpu is not None:
        from .bench_modelled import run as run_modelled

        return run_modelled(args)
    if args.ghz is not None:
        raise EdgecError(f"--ghz {args.ghz:g}: goes with --model-cpu; here the clock is the machine's own")
    from ..bundle.firmware import bare
    from ..bundle.manifest import read_bundle
    from ..execution.model import load

    bundle = read_bundle(args.bundle)
    if bare(bundle):
        from .bench_firmware import count

        return count(bundle, args)
    wanted = args.layers or args.roofline is not None
    if args.roofline is not None:
        check_file(args.roofline)
    with load(args.bundle, args.threads, level=args.level) as model:
        result = model.benchmark(args.runs, layers=wanted)
        name, steps, threads, level = model.bundle.name, model.bundle.steps, model.threads, model.level
    if (args.threads or 0) > threads:
        show_notes([f"--threads {args.threads}: compiled for {counted(threads, 'thread')}"])
    layers = _layers(result, steps)
    if args.roofline is not None and not result.peak_gflops:
        raise EdgecError(f"{args.bundle}: runs on a GPU, whose peak is not measured: no roofline")
    if args.roofline is not None:
        _draw(args.roofline, f"{name} on {level}, {counted(threads, 'thread')}", layers, result)
        print(f"{args.roofline}: written", file=sys.stderr)
    if args.json:
        numbers = {"median_ms": result.median, "min_ms": result.min, "runs": list(result.runs), "threads": threads}
        machine = {"peak_gflops": result.peak_gflops, "read_gbytes_per_s": result.read_gbytes}
        whole = {**machine, "efficiency": efficiency(layers), "layers": layers}
        show_json({**numbers, "level": level, **(whole if wanted else {})})
        return 0
    if args.layers:
        print(_table(layers))
        print()
    if args.layers and result.peak_gflops:
        print(f"peak {result.peak_gflops:.1f} GFLOP/s, memory {result.read_gbytes:.1f} GB/s, measured in between")
        print(_summary(layers))
    counts = f"{counted(args.runs, 'run')}, {counted(threads, 'thread')}"
    print(f"median {result.median:.4g} ms, least {result.min:.4g} ms, {counts}")
    return 0


def _layers(result: Benchmark, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per step: time, and the rates that follow from it."""
    return [
        {
            "name": name,
            "kernel": step["kernel"],
            "config": step["config"],
            "ms": ms,
            "macs": step["macs"],
            "bytes_moved": step["bytes_moved"],
            "gflops": 2e-6 * step["macs"] / ms if ms else 0.0,
            "peak_share": share,
            "gbytes_per_s": 1e-6 * step["bytes_moved"] / ms if ms else 0.0,
        }
        for (name, ms), share, step in zip(result.layers, result.shares, steps if result.layers else [], strict=True)
    ]


def efficiency(layers: list[dict[str, Any]]) -> dict[str, float]:
    """Time that the multiply-adds would take at the peak, over the time of the steps that do them, and of all."""
    ideal = sum(row["ms"] * row["peak_share"] for row in layers)
    busy = sum(row["ms"] for row in layers if row["macs"])
    total = sum(row["ms"] for row in layers)
    return {"arithmetic_steps": ideal / busy if busy else 0.0, "all_steps": ideal / total if total else 0.0}


def _summary(layers: list[dict[str, Any]]) -> str:
    found, total = efficiency(layers), sum(row["ms"] for row in layers) or 1.0
    rest = sum(row["ms"] for row in layers if not row["macs"])
    return (
        f"efficiency {100 * found['all_steps']:.0f} % of the peak, weighted by time; "
        f"{100 * found['arithmetic_steps']:.0f} % in steps with multiply-adds, "
        f"the others take {100 * rest / total:.0f} % of the time"
    )


def _table(layers: list[dict[str, Any]]) -> str:
    """The share of the peak where that was measured: on a GPU it is not."""
    total = sum(row["ms"] for row in layers) or 1.0
    peak = any(row["peak_share"] for row in layers)
    cells = [
        (
            row["name"],
            row["kernel"],
            f"{1e3 * row['ms']:.2f}",
            f"{100 * row['ms'] / total:.1f}",
            f"{row['gflops']:.1f}",
            *([f"{100 * row['peak_share']:.1f}"] if peak else []),
            f"{row['gbytes_per_s']:.1f}",
        )
        for row in layers
    ]
    head = ("step", "kernel", "us", "% of time", "GFLOP/s", *(["% of peak"] if peak else []), "GB/s")
    return table(head, cells)


def _draw(path: str, title: str, layers: list[dict[str, Any]], result: Benchmark) -> None:
    from ..roofline import Dot, roofline

    dots = [Dot(row["name"], row["macs"], row["bytes_moved"], row["ms"]) for row in layers]
    replaced(path, roofline(title, dots, result.peak_gflops, result.read_gbytes).encode())
