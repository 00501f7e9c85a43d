"""`edgec bench`: how long a compiled model takes on this machine, timed in C."""

from __future__ import annotations

import argparse

from .common import show_json, table

EXAMPLES = """examples:
  edgec bench build/ --runs 200
  edgec bench build/ --threads 2 --layers --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="DIR", help="a compiled bundle")
    parser.add_argument("--threads", type=int, metavar="N", help="workers (default: as compiled)")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="inferences to time (default: 50)")
    parser.add_argument("--layers", action="store_true", help="time each step too")
    parser.add_argument("--level", metavar="T", help="of a bundle for several levels of the CPU, the one to run")
    parser.add_argument("--json", action="store_true", help="print milliseconds as JSON")


def run(args: argparse.Namespace) -> int:
    from ..runtime import load

    with load(args.bundle, args.threads, level=args.level) as model:
        result = model.benchmark(args.runs, layers=args.layers)
        steps, threads = model.bundle.steps, model.threads
    if args.json:
        layers = [{"name": name, "ms": ms} for name, ms in result.layers]
        numbers = {"median_ms": result.median, "min_ms": result.min, "runs": list(result.runs), "threads": threads}
        show_json({**numbers, **({"layers": layers} if args.layers else {})})
        return 0
    if args.layers:
        total = sum(ms for _, ms in result.layers) or 1.0
        rows = [
            (name, step["kernel"], ms, 100 * ms / total, 2e-6 * step["macs"] / ms if ms else 0.0)
            for (name, ms), step in zip(result.layers, steps, strict=True)
        ]
        print(table(("step", "kernel", "ms", "%", "GFLOP/s"), rows))
        print()
    print(f"median {result.median:.4f} ms, least {result.min:.4f} ms, {args.runs} runs, {threads} thread(s)")
    return 0
