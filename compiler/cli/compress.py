"""`edgec compress`: a float ONNX model and a budget to the bundle that meets it, and the compressed model as ONNX."""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.names import identifier
from ..errors import EdgecError
from .common import add_model_options, binds_of, dims_of, shapes_of, show_json, show_notes, table

if TYPE_CHECKING:
    from ..compress.compressor import Compressed
    from ..compress.options import CompressOptions
    from ..compress.search.workers import Workers

Pair = tuple[str, Any, str]  # model, calibration data, target

EXAMPLES = """examples:
  edgec compress model.onnx --target rpi4 --calib data.npz --max-latency 20ms --max-flash 900K -o build/
  edgec compress model.onnx --calib data.npz --max-drop 0.01 -o build/                 the fastest that is good enough
  edgec compress model.onnx --calib data.npz --max-drop 0.5 --score score.py:points --time 20m -o build/
  edgec compress a.onnx b.onnx --calib a.npz --calib b.npz --target rpi4 --target x86 --max-drop 0.01 -o build/
  edgec compress model.onnx --calib data.npz --max-ram 192K --scheduler tcp://10.0.0.1:8786 -o build/

Sizes: 900K, 1.5M, 192KiB (K is 1024); latency: 20ms, 900us, 0.02s. With several models or targets, DIR gets a folder
for each: MODEL-TARGET."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="+", metavar="MODEL", help="float ONNX file; several: one --calib each, or one for all"
    )
    parser.add_argument(
        "--target", action="append", metavar="T", help="board or CPU level; several times: each (default: host)"
    )
    parser.add_argument("-o", "--output", dest="out", metavar="DIR", help="folder to write (default: the model's name)")
    parser.add_argument("--name", metavar="N", help="C name of the model (default: from the file's name)")
    parser.add_argument("--calib", action="append", metavar="DATA", help="calibration data, as for quantize")
    parser.add_argument("--calib-prep", metavar="P", help="how pictures become inputs, as for quantize")
    parser.add_argument("--max-latency", metavar="TIME", help="of one inference on the target (20ms, 900us)")
    parser.add_argument("--max-flash", metavar="SIZE", help="of weights and code (900K, 1.5M)")
    parser.add_argument("--max-ram", metavar="SIZE", help="of the arena (192K)")
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="share of the samples that may be answered otherwise (0.01), or how much of the score may be lost",
    )
    parser.add_argument("--score", metavar="FILE.py:FN", help="function(run) -> number, larger is better")
    parser.add_argument(
        "--methods", metavar="M,...", help="what may be done (default: int8,channels,low-rank,sparsity,small-code)"
    )
    parser.add_argument("--time", default="10m", metavar="TIME", help="that the search may take (default: 10m)")
    parser.add_argument("--jobs", type=int, metavar="N", help="candidates at a time, each a process (default: cores)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that evaluates candidates instead")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="workers that one inference may use")
    add_model_options(parser)
    parser.add_argument("--layers", action="store_true", help="print what became of each layer, and why")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")


def run(args: argparse.Namespace) -> int:
    from ..compress.search.workers import workers

    targets, calib = args.target or ["host"], args.calib or [None]
    if len(calib) not in (1, len(args.model)):
        raise EdgecError(
            f"--calib: given {len(calib)} times for {len(args.model)} models; expected once, or once for each"
        )
    if args.name and len(args.model) > 1:
        raise EdgecError("--name: is given for several models; each is called after its file")
    _check(args)
    pairs = [
        (m, c, t) for m, c in zip(args.model, calib * (len(args.model) // len(calib)), strict=True) for t in targets
    ]
    for label, number in Counter(map(_label, pairs)).items():
        if number > 1:
            raise EdgecError(f"{label}: {number} results would go to this folder; compress them one after the other")
    with workers(args.jobs, args.scheduler) as pool:
        made = _all(args, pairs, pool)
    for one in made:
        label = f"{one.bundle.folder.name}: " if len(made) > 1 else ""
        show_notes(label + note for note in one.table["notes"])
    if args.json:
        tables = [one.table | {"folder": str(one.bundle.folder), "onnx": str(one.model)} for one in made]
        show_json(tables if len(pairs) > 1 else tables[0])
        return 0
    for number, one in enumerate(made):
        if number:
            print()
        _show(one, args.layers)
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be said before workers are started."""
    from ..compress.options import checked
    from ..compress.search.workers import checked_jobs
    from ..importer.read import model_file

    checked_jobs(args.jobs)
    for model in args.model:
        model_file(model)
    checked(_asked(args))


def _asked(args: argparse.Namespace, **of_one: Any) -> CompressOptions:
    """The options; `of_one`: those that differ from result to result."""
    from ..compress.options import CompressOptions

    return CompressOptions(
        calib_prep=args.calib_prep,
        max_latency=args.max_latency,
        max_flash=args.max_flash,
        max_ram=args.max_ram,
        max_drop=args.max_drop,
        score=args.score,
        methods=_methods(args),
        name=args.name,
        shapes=shapes_of(args),
        dims=dims_of(args),
        bind=binds_of(args),
        threads=args.threads,
        time=args.time,
        **of_one,
    )


def _methods(args: argparse.Namespace) -> list[str] | None:
    return [word.strip() for word in args.methods.split(",")] if args.methods else None


def _all(args: argparse.Namespace, pairs: Sequence[Pair], pool: Workers) -> list[Compressed]:
    """One after the other here; on a cluster all at once. What cannot be met does not stop the others."""
    made: list[Compressed] = []
    failures: list[EdgecError] = []
    for one in _results(args, pairs, pool):
        try:
            made.append(one())
        except EdgecError as error:
            failures.append(error)
    for failure in failures[:-1]:
        print(f"edgec: error: {failure}", file=sys.stderr)
    if failures:
        raise failures[-1]
    return made


def _results(args: argparse.Namespace, pairs: Sequence[Pair], pool: Workers) -> Iterator[Callable[[], Compressed]]:
    several = len(pairs) > 1
    if not args.scheduler:
        yield from (partial(_one, args, pair, pool, several) for pair in pairs)
        return
    threads = ThreadPoolExecutor(len(pairs))
    try:
        yield from [threads.submit(_one, args, pair, pool, several).result for pair in pairs]
    finally:
        pool.close()  # then what still waits for it fails, and the threads end
        threads.shutdown()


_printing = threading.Lock()


def _label(pair: Pair) -> str:
    """The folder of one of several results."""
    return f"{identifier(Path(pair[0]).stem)}-{Path(pair[2]).stem}"


def _one(args: argparse.Namespace, pair: Pair, pool: Workers, several: bool) -> Compressed:
    from ..compress.compressor import compress_model

    model, calib, target = pair
    label = _label(pair)
    out = Path(args.out or ".") / label if several else args.out

    def tell(text: str) -> None:
        with _printing:
            print(f"edgec: {label}: {text}" if several else f"edgec: {text}", file=sys.stderr, flush=True)

    return compress_model(model, _asked(args, target=target, calib=calib, out=out), tell, pool)


def _show(made: Compressed, layers: bool) -> None:
    from ..compress import layers as every
    from ..compress.search.table import HEAD, lines, rows

    found = made.table
    if layers and found["layers"]:
        print(table((*every.HEAD, *every.MORE), every.cells(found["layers"])))
        print()
    print(table(HEAD, rows(found)))
    print()
    for line in lines(found):
        print(line)
    print(f"{made.bundle.folder}: bundle and {made.model.name}, {found['seconds']:.0f} s")
