"""Latency of compiled models beside other engines on the same inputs, in turns: ratios survive a noisy machine.

    python benchmarks/models.py [--threads 1 2] [--engines edgec,onnxruntime] [--page docs/benchmarks.md] [MODEL ...]

MODEL is an ONNX file or the name of a model in $EDGEC_MODELS; without any, all those of benchmarks/zoo.py that are
there. Each engine lives in a process of its own, loads the model, and takes turns: in each round every engine runs it
for about SLICE seconds, and the round's median counts; reported is the median over the rounds, in milliseconds. The
ratio is the fastest other engine's time over edgec's: above 1, edgec is faster. Engines that are not installed, or
refuse a model, show as `-`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import zoo
from benchmarks.engines import ENGINES, TITLES, Engine, Feed

BEGIN, END = "<!-- written by: make bench -->\n", "<!-- end of what make bench writes -->\n"


@dataclass(frozen=True)
class Row:
    """A model: milliseconds by engine, None where there are none; why; seconds until edgec's first inference."""

    model: str
    threads: int
    ms: dict[str, float | None]
    why: dict[str, str]
    load_seconds: float | None

    @property
    def ratio(self) -> float | None:
        ours = self.ms.get("edgec")
        peers = [ms for name, ms in self.ms.items() if name != "edgec" and ms is not None]
        return min(peers) / ours if peers and ours else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="ONNX files or names (default: those of benchmarks/zoo.py)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--engines", default=",".join(ENGINES), help="names with commas (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slice", type=float, default=0.3, help="seconds per engine and round")
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="size of an open dimension")
    parser.add_argument("--page", type=Path, help="write the table between the markers of this file")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    names = args.engines.split(",")
    if unknown := [name for name in names if name not in ENGINES]:
        parser.error(f"unknown engine {unknown[0]!r}; there are {', '.join(ENGINES)}")
    dims = zoo.DIMENSIONS | {name: int(n) for name, _, n in (text.partition("=") for text in args.dim)}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgec-bench-") as scratch:
        models = chosen(args.models, Path(scratch))
        for threads in args.threads:
            print(f"{threads} thread(s); milliseconds\n{'model':28s}" + "".join(f"{TITLES[n]:>14s}" for n in names))
            engines = {name: Engine(name, threads) for name in names}
            for path in models:
                rows.append(measured(path, engines, threads, inputs_of(path, dims), args.rounds, args.slice))
                print(line(rows[-1]), flush=True)
            for engine in engines.values():
                engine.stop()
    for threads in args.threads:
        print(summary(rows, threads))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1) + "\n")
    if args.page:
        write_between(args.page, markdown(rows, names))


def chosen(words: Sequence[str], scratch: Path) -> list[Path]:
    """The files of the models that were asked for, with weights."""
    if not words:
        found = {name: zoo.locate(name) for name in (*zoo.TRAINED, *zoo.UNTRAINED)}
        if absent := [name for name, path in found.items() if path is None]:
            print(f"not in {zoo.FOLDER}: {', '.join(absent)}", file=sys.stderr)
        paths = [zoo.DIGITS, *(path for path in found.values() if path is not None)]
    else:
        paths = [path if (path := Path(word)).exists() else zoo.locate(word) or path for word in words]
    for path in paths:
        if not path.exists():
            raise SystemExit(f"{path}: no such file, nor a model in {zoo.FOLDER}")
    return [zoo.filled(path, scratch) for path in paths]


def inputs_of(path: Path, dims: Mapping[str, int]) -> Feed:
    """Seeded inputs: floats in 0 .. 1, integers 0 or 1; open dimensions are 1 unless `dims` knows them."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    rng, feed = np.random.default_rng(0), {}
    for value in graph.input:
        if value.name not in weights:
            kind = value.type.tensor_type
            shape = [d.dim_value or dims.get(d.dim_param, 1) for d in kind.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            feed[value.name] = (rng.random(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)).astype(dtype)
    return feed


def measured(path: Path, engines: Mapping[str, Engine], threads: int, feed: Feed, rounds: int, seconds: float) -> Row:
    """One model on all engines, in turns."""
    why: dict[str, str] = {}
    loaded: dict[str, float] = {}
    for name, engine in engines.items():
        try:
            loaded[name] = engine.load(path, feed)
        except RuntimeError as error:
            why[name] = str(error)
    times: dict[str, list[float]] = {name: [] for name in loaded}
    for _ in range(rounds):
        for name in [name for name in loaded if name not in why]:
            try:
                times[name].append(engines[name].run(seconds))
            except RuntimeError as error:
                why[name] = str(error)
    ms = {name: None if name in why else statistics.median(times[name]) for name in engines}
    return Row(path.stem, threads, ms, why, loaded.get("edgec"))


def line(row: Row) -> str:
    cells = [f"{ms:14.3f}" if ms is not None else f"{'-':>14s}" for ms in row.ms.values()]
    return f"{row.model[:27]:28s}{''.join(cells)}" + (f"{row.ratio:9.2f}" if row.ratio else "")


def summary(rows: Sequence[Row], threads: int) -> str:
    ratios = [row.ratio for row in rows if row.threads == threads and row.ratio]
    if not ratios:
        return f"{threads} thread(s): nothing to compare with"
    mean = statistics.geometric_mean(ratios)
    return (
        f"{threads} thread(s): fastest other engine / edgec over {len(ratios)} models: "
        f"geometric mean {mean:.2f}, least {min(ratios):.2f}"
    )


def markdown(rows: Sequence[Row], names: Sequence[str]) -> str:
    """A table per number of threads, and what they were measured on."""
    peers = ", ".join(f"{TITLES[name]} {release}" for name in names if (release := _version(name)))
    parts = [f"Milliseconds per inference, fp32, batch 1, on one machine ({_cpu()}); {peers}.\n\n"]
    for threads in dict.fromkeys(row.threads for row in rows):
        head = [f"{threads} thread{'s' if threads > 1 else ''}", *(TITLES[n] for n in names), "fastest other / edgec"]
        parts.append(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}\n")
        for row in (row for row in rows if row.threads == threads):
            cells = [
                f"{ms:.3g}" if ms is not None and ms < 100 else f"{ms:.0f}" if ms else "-" for ms in row.ms.values()
            ]
            ratio = f"{row.ratio:.2f}" if row.ratio else "-"
            parts.append(f"| {row.model} | {' | '.join(cells)} | {ratio} |\n")
        parts.append(f"\n{summary(rows, threads).partition(': ')[2].capitalize()}.\n\n")
    return "".join(parts).rstrip("\n") + "\n"


def _version(name: str) -> str:
    try:
        return version({"mnn": "MNN"}.get(name, name))
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    """The CPU as the system names it."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    name = found[1].strip() if found else platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def write_between(file: Path, text: str) -> None:
    """Put the text between the markers of a file."""
    whole = file.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{file}: has no lines {BEGIN.strip()!r} and {END.strip()!r}")
    file.write_text(before + begin + text + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
