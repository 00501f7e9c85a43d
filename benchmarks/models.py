"""Latency of compiled models beside ONNX Runtime, interleaved, so that the ratio survives a noisy machine.

    python benchmarks/models.py [--threads N] [--rounds R] [--slice S] [--target T] MODEL.onnx ...

Each round runs both engines for about SLICE seconds on the same inputs; the median of the rounds' medians counts. The
ratio is ONNX Runtime's time over edgec's: above 1, edgec is faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import edgec

Run = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slice", type=float, default=0.3, help="seconds per engine and round")
    parser.add_argument("--target", default="host")
    args = parser.parse_args()
    print(f"{'model':36s}{'compile s':>10s}{'edgec ms':>10s}{'ORT ms':>10s}{'ratio':>8s}")
    ratios = []
    for path in args.models:
        with tempfile.TemporaryDirectory() as folder:
            bundle = edgec.compile(path, target=args.target, out=folder, name="model", threads=args.threads)
            engines = [compiled(folder, args.threads), reference(path, folder, args.threads)]
            ours, theirs = interleaved(engines, args.rounds, args.slice)
        ratios.append(theirs / ours)
        seconds = bundle.compile_seconds or 0.0
        print(f"{path.stem[:35]:36s}{seconds:10.1f}{ours:10.3f}{theirs:10.3f}{ratios[-1]:8.2f}", flush=True)
    print(f"geometric mean {statistics.geometric_mean(ratios):.2f}, worst {min(ratios):.2f}")


def feeds(folder: str) -> dict[str, Any]:
    """The same random inputs for both: floats in 0 .. 1, integers 0 or 1."""
    rng = np.random.default_rng(0)
    with edgec.load(folder) as model:
        return {p.name: (rng.random(p.shape) * (1 if "float" in p.dtype else 2)).astype(p.dtype) for p in model.inputs}


def compiled(folder: str, threads: int) -> Run:
    model, feed = edgec.load(folder, threads=threads), feeds(folder)
    return lambda: model.run(feed)


def reference(path: Path, folder: str, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = feeds(folder)
    return lambda: session.run(None, feed)


def interleaved(engines: list[Run], rounds: int, seconds: float) -> list[float]:
    """Milliseconds of each engine."""
    medians: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for run, found in zip(engines, medians, strict=True):
            run()
            times, end = [], time.perf_counter() + seconds
            while len(times) < 3 or time.perf_counter() < end:
                start = time.perf_counter()
                run()
                times.append(time.perf_counter() - start)
            found.append(statistics.median(times) * 1e3)
    return [statistics.median(found) for found in medians]


if __name__ == "__main__":
    main()
