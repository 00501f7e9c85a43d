"""Times kernels layer by layer: the registry's candidates against each other, and how far its pick is from the best.

    python benchmarks/kernels.py [--set resnet50] [--filter TEXT] [--all] [--assert 5%]
    python benchmarks/kernels.py --model model.onnx --all

`<--` marks the registry's pick. Rates are shares of the multiply-add peak of one core. All candidates of a layer and
the peak run in turns, and ratios are taken round by round. --assert P exits with 1 if the picks of the whole set,
weighted by their time, are more than P slower than the best candidates.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edgec.targets.kernels  # noqa: F401
from benchmarks.layers import SETS, Layer, of_model
from edgec.compiler.macs import macs
from edgec.compiler.registry import Choice, Problem, choices
from edgec.compiler.target import Target, find_target
from edgec.targets import abi, tir
from edgec.targets.codegen_llvm import object_bytes
from edgec.targets.race import Race, build_candidates, figures

TILE, TURNS = 12, 1000


@dataclass(frozen=True)
class Timed:
    """A candidate's time, and its rate as a share of the peak."""

    choice: Choice
    us: float
    share: float


def peak_kernel(target: Target) -> tuple[bytes, str, list[Any]]:
    """Multiply-adds on registers alone, as something to race with."""
    lanes = target.cpu.lanes(32)

    def body(buffers: list[Any], begin: Any, end: Any) -> Any:
        acc, alloc = tir.local((TILE * lanes,), "float32")
        at = [tir.ramp(i * lanes, lanes) for i in range(TILE)]
        factor, bind = tir.let(tir.load(buffers[0], tir.ramp(0, lanes)), "f")
        turn = tir.seq([tir.store(acc, tir.load(acc, a) * factor + factor, a) for a in at])
        start = [tir.store(acc, tir.load(buffers[0], a), a) for a in at]
        end_ = [tir.store(buffers[0], tir.load(acc, a), a) for a in at]
        return tir.seq(alloc, bind, start, tir.loop(TURNS, lambda _: turn), end_)

    function = abi.kernel("edgec_peak", [("x", "float32", (TILE * lanes,))], body)
    data = np.full(TILE * lanes + 16, 0.5, np.float32)
    return object_bytes([("edgec_peak", function)], target), "edgec_peak", [data]


def timed(problem: Problem, offers: Sequence[Choice], peak: Any, budget_ms: float) -> tuple[list[Timed], list[str]]:
    """Every candidate that can be built, in order of `offers`, and what the others said."""
    built = build_candidates(problem, offers, os.cpu_count() or 1)
    ready = [b for b in built if not isinstance(b, str)]
    rounds = Race(ready, [peak]).rounds(budget_ms * (len(ready) + 1))
    peak_work = 2.0 * problem.target.cpu.lanes(32) * TILE * TURNS
    peak_work *= bytes_over_floats(problem)
    shares = np.median(2.0 * macs(problem.body) / rounds[:, :-1] / (peak_work / rounds[:, -1:]), axis=0)
    us = figures(rounds)
    found = [Timed(b.job.choice, t, float(s)) for b, t, s in zip(ready, us, shares, strict=False)]
    return found, [b for b in built if isinstance(b, str)]


def bytes_over_floats(problem: Problem) -> float:
    """Multiply-adds of bytes at best per one of f32: four with VNNI, three in the time of two with words."""
    if problem.anchor.args[0].type.dtype not in ("u8", "i8"):
        return 1.0
    return 4.0 if "AVX512VNNI" in problem.target.cpu.isa else 1.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="host")
    parser.add_argument("--set", default="resnet50", choices=sorted(SETS))
    parser.add_argument("--model", type=Path, help="the kernels of an ONNX file in place of a set")
    parser.add_argument("--filter", default="", help="only layers whose text holds this")
    parser.add_argument("--all", action="store_true", help="time every candidate, not the pick alone")
    parser.add_argument("--least", type=float, default=0.0, metavar="SHARE", help="only layers of so much of the work")
    parser.add_argument("--assert", dest="limit", metavar="P%", help="exit with 1 beyond this loss; implies --all")
    parser.add_argument("--budget", type=float, default=30.0, help="milliseconds per candidate")
    options = parser.parse_args()
    limit = float(options.limit.rstrip("%")) / 100 if options.limit else None
    every = options.all or limit is not None
    target = find_target(options.target)
    layers = of_model(options.model, target) if options.model else SETS[options.set](target)
    peak = peak_kernel(target)
    picked = best = ideal = modelled = 0.0
    for layer in chosen(layers, options.filter, options.least):
        offers = choices(layer.problem)
        found, failed = timed(layer.problem, offers if every else offers[:1], peak, options.budget)
        for text in failed:
            print(f"{layer.text}: a candidate cannot be built: {text}", file=sys.stderr)
        if not found:
            continue
        least = min(t.us for t in found)
        for t in found:
            mark = f"<-- {100 * (t.us / least - 1):.1f} % behind the best" if t.choice == offers[0] else ""
            print(line(layer, t, mark if every or not mark else "<--"), flush=True)
        pick = next((t for t in found if t.choice == offers[0]), found[0])
        picked, best = picked + layer.times * pick.us, best + layer.times * least
        ideal, modelled = ideal + layer.times * pick.us * pick.share, modelled + layer.times * pick.choice.cost_us
    if not picked:
        raise SystemExit("no layer was timed")
    print(
        f"all layers {picked / 1e3:.2f} ms, {100 * ideal / picked:.0f} % of the peak weighted by time, "
        f"modelled {modelled / 1e3:.2f} ms"
    )
    loss = picked / best - 1
    if every:
        print(f"the picks are {100 * loss:.1f} % behind the best candidates ({best / 1e3:.2f} ms), weighted by time")
    return int(limit is not None and loss > limit)


def chosen(layers: Sequence[Layer], text: str, least: float) -> Iterator[Layer]:
    total = sum(layer.times * macs(layer.problem.body) for layer in layers) or 1
    for layer in layers:
        if text in layer.text and layer.times * macs(layer.problem.body) >= least * total:
            yield layer


def line(layer: Layer, t: Timed, mark: str) -> str:
    rate = 2.0 * macs(layer.problem.body) / t.us / 1e3
    return (
        f"{f'{layer.times} * {layer.text}':34s} {t.choice!s:62s} {t.choice.layouts_in[0] or 'rows':8s}"
        f" {t.us:9.1f} us {rate:6.1f} GFLOP/s {100 * t.share:4.0f} %  model {t.choice.cost_us / t.us:5.2f} x  {mark}"
    ).rstrip()


if __name__ == "__main__":
    sys.exit(main())
