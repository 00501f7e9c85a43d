"""`python -m tests.fuzz --count 500 --seed 1 [--keep DIR]`: one line per failure, and a summary."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from edgec.compiler.driver import load_kernels
from edgec.compiler.registry import ROWS

from . import recipes
from .check import Case, Failure
from .generator import generate
from .keep import keep
from .options import Options, drawn_options, read_options
from .shrink import shrink
from .worker import Worker

_LINE = "\r" if sys.stderr.isatty() else ""  # over what shows the progress


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="graphs to draw (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first; the others follow (default 1)")
    parser.add_argument("--only", action="append", default=[], metavar="OP", help="draw from these recipes only")
    parser.add_argument("--options", default="", help="compile all like this, e.g. 'x86 threads=2 -fold bundle'")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="shrink what fails and write it to DIR")
    parser.add_argument("--seconds", type=float, default=90, help="time for shrinking one case (default 90)")
    parser.add_argument("-v", "--verbose", action="store_true", help="traces of failures, all counts")
    return parser.parse_args()


def main() -> int:
    a = arguments()
    recipes.load()
    fixed = read_options(a.options) if a.options else None
    counts: Counter[str] = Counter()
    failures, started = 0, time.monotonic()
    with Worker() as worker:
        for done, seed in enumerate(range(a.seed, a.seed + a.count)):
            try:
                case = case_of(seed, a.only, fixed)
            except Exception as error:  # inference took what the meaning cannot compute
                failures += 1
                print(f"{_LINE}seed {seed}: drawing: {type(error).__name__}: {error}", flush=True)
                if a.verbose:
                    traceback.print_exc(file=sys.stdout)
                continue
            report = worker.examine(case)
            counts.update(report.counts)
            if report.failure:
                failures += 1
                show(seed, case, report.failure, a.verbose)
                if a.keep:
                    kept = shrunk(case, report.failure, worker, a.seconds)
                    print(f"    {keep(*kept, a.keep, seed)}", flush=True)
            _progress(done + 1, a.count, failures, started)
    _summary(a.count, failures, counts, time.monotonic() - started, a.verbose)
    return 1 if failures else 0


def case_of(seed: int, only: list[str], fixed: Options | None) -> Case:
    drawn = generate(seed, only)
    return Case(drawn.graph, drawn.feeds, fixed or drawn_options(seed))


def show(seed: int, case: Case, failure: Failure, verbose: bool) -> None:
    ops = [n.op for n in case.graph.nodes() if n.op not in ("Input", "Const")]
    what = failure.what.replace("\n", " ")
    print(f"{_LINE}seed {seed}: {failure.stage}: {what[:230]} | {case.options} | {' '.join(ops)[:120]}", flush=True)
    if verbose and failure.trace:
        print(failure.trace)


def shrunk(case: Case, failure: Failure, worker: Worker, seconds: float) -> tuple[Case, Failure]:
    def test(smaller: Case) -> Failure | None:
        return worker.examine(smaller, reference=failure.stage == "onnx runtime").failure

    return shrink(case, failure, test, seconds)


def _progress(done: int, count: int, failures: int, started: float) -> None:
    if sys.stderr.isatty():
        rate = (time.monotonic() - started) / done
        print(f"\r{done} of {count}, {failures} failed, {rate:.2f} s each ", end="", file=sys.stderr, flush=True)


def _summary(count: int, failures: int, counts: Counter[str], seconds: float, verbose: bool) -> None:
    rows = sum(1 for name in counts if name.startswith("row "))
    ops = [name.removeprefix("op ") for name in counts if name.startswith("op ")]
    print(f"{_LINE}{count} graphs in {seconds:.0f} s, {failures} failed; {len(ops)} operators, {rows} kernel rows;")
    print(f"{counts['nodes compared with ONNX Runtime']} nodes compared with ONNX Runtime,")
    print(f"{counts['elements compared, %'] / max(count, 1):.1f} % of the elements compared")
    if verbose:
        load_kernels()
        print(", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda pair: -pair[1])))
        known = [name for name in recipes.RECIPES if name[:1].isupper() and name not in ops]
        print(f"not met: {', '.join(known)}; {', '.join(row for row in ROWS if f'row {row}' not in counts)}")


if __name__ == "__main__":
    sys.exit(main())
