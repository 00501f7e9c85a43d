"""Races single operators, with the shapes they have in networks, against ONNX Runtime and OpenVINO on one thread.

    python benchmarks/operators.py [--filter TEXT] [--below 1.0] [--cpu] [--json FILE] [--no-files | --only-files]
        [MODEL ...]

MODEL: ONNX files whose nodes are taken (default: those of benchmarks/zoo.py). All engines live in one process and take
turns. Before each call inputs are written again, into memory that the engine reads in place, and results stay where
it puts them: neither is timed. What an engine takes for a Relu of one number, its call, is subtracted. A figure is the
least over rounds of a round's lower quartile, in microseconds; the ratio is the time of the fastest other engine over
edgec's. With --cpu that is the time that the process computes: what to take where other work runs on the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import zoo
from benchmarks.operator_cases import Array, Case, beside, of_files, one

ROUNDS, SLICE = 7, 0.02  # seconds that an engine runs in a round
Clock = Callable[[], int]  # nanoseconds
LEAST = 1.0  # microseconds: less is within what calls differ by


@dataclass(frozen=True)
class Ready:
    """A loaded model: what writes its inputs, and what runs it once."""

    write: Callable[[], None]
    run: Callable[[], Any]


def edgec(model: Path, feed: Mapping[str, Array], folder: Path) -> Ready:
    import edgec

    target = os.environ.get("EDGEC_TARGET", "host")
    edgec.compile(model, target, folder / "bundle", name="model", threads=1)
    compiled = edgec.load(folder / "bundle", threads=1)
    compiled.run(feed)
    library, address = compiled._rt, compiled._address
    return Ready(lambda: compiled._write(feed), lambda: library.ec_run(address))


def onnxruntime(model: Path, feed: Mapping[str, Array], folder: Path) -> Ready:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    binding, places = session.io_binding(), {name: _aligned(array) for name, array in feed.items()}
    for name, array in places.items():
        binding.bind_cpu_input(name, array)
    for value, result in zip(session.get_outputs(), session.run(None, dict(feed)), strict=True):
        if all(isinstance(size, int) for size in value.shape):
            place = ort.OrtValue.ortvalue_from_shape_and_type(result.shape, result.dtype, "cpu")
            binding.bind_ortvalue_output(value.name, place)
        else:
            binding.bind_output(value.name, "cpu")
    return Ready(lambda: _write(places, feed), lambda: session.run_with_iobinding(binding))


def openvino(model: Path, feed: Mapping[str, Array], folder: Path) -> Ready:
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(ov.Core().read_model(str(model)), "CPU", settings).create_infer_request()
    places = {name: _aligned(array) for name, array in feed.items()}
    for name, array in places.items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    return Ready(lambda: _write(places, feed), request.infer)


ENGINES = {function.__name__: function for function in (edgec, onnxruntime, openvino)}


def _aligned(array: Array) -> Array:
    """A copy that begins at a multiple of 64 bytes."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    place = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


def _write(places: Mapping[str, Array], feed: Mapping[str, Array]) -> None:
    for name, place in places.items():
        place[...] = feed[name]


def round_us(ready: Ready, seconds: float, clock: Clock = time.perf_counter_ns) -> float:
    """The lower quartile of the calls within so many seconds of a clock, in microseconds."""
    times: list[int] = []
    end = clock() + int(seconds * 1e9)
    while len(times) < 3 or clock() < end:
        ready.write()
        start = clock()
        ready.run()
        times.append(clock() - start)
    return sorted(times)[len(times) // 4] * 1e-3


def raced(
    case: Case, engines: Sequence[str], clock: Clock = time.perf_counter_ns
) -> tuple[dict[str, float], dict[str, str]]:
    """Microseconds by engine, and why the others have none."""
    ready, why = {}, {}
    with tempfile.TemporaryDirectory(prefix="edgec-bench-") as scratch:
        model = Path(scratch) / "one.onnx"
        onnx.save(case.model, model)
        for name in engines:
            try:
                ready[name] = ENGINES[name](model, case.feed, Path(scratch))
            except Exception as error:
                why[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
        rounds = [{name: round_us(each, SLICE, clock) for name, each in ready.items()} for _ in range(ROUNDS)]
    return {name: min(row[name] for row in rounds) for name in ready}, why


@dataclass(frozen=True)
class Row:
    """A case's times without the calls, in microseconds; the ratio is the fastest other's over edgec's."""

    text: str
    us: dict[str, float]
    why: dict[str, str]

    @property
    def ratio(self) -> float:
        others = [us for name, us in self.us.items() if name != "edgec"]
        return min(others) / self.us["edgec"] if others and "edgec" in self.us else float("nan")

    @property
    def lost(self) -> float:
        """Microseconds more than the fastest other."""
        return self.us["edgec"] * (1 - self.ratio)

    def line(self) -> str:
        cells = "".join(f"{self.us[n]:11.2f}" if n in self.us else f"{'-':>11s}" for n in ENGINES)
        return f"{cells}{self.ratio:8.2f}  {self.text}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="ONNX files whose nodes are taken")
    parser.add_argument("--filter", default="", help="cases that contain this text")
    parser.add_argument("--case", action="append", help="a row as in operator_cases.txt, alone")
    parser.add_argument("--below", type=float, default=1.0, help="list ratios below this at the end")
    parser.add_argument("--cpu", action="store_true", help="count the time that the process computes")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--no-files", action="store_true", help="only the table operator_cases.txt")
    parser.add_argument("--only-files", action="store_true", help="only the nodes of files")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    engines = args.engines.split(",")
    clock = time.process_time_ns if args.cpu else time.perf_counter_ns
    calls, _ = raced(one("Relu 1"), engines, clock)
    print("".join(f"{name[:10]:>11s}" for name in ENGINES), "  ratio  microseconds without calls of", calls)
    rows = []
    for case in cases(args):
        us, why = raced(case, engines, clock)
        rows.append(Row(case.text, {n: max(t - calls[n], 0.05) for n, t in us.items()}, why))
        print(rows[-1].line(), *(f"[{name}: {text[:90]}]" for name, text in why.items()), flush=True)
    slow = sorted((row for row in rows if row.ratio < args.below and row.lost > LEAST), key=lambda row: -row.lost)
    print(f"\n{len(slow)} of {len(rows)} below {args.below}, by what is lost")
    for row in slow:
        print(f"{row.lost:9.1f}{row.line()}")
    if args.json:
        args.json.write_text(json.dumps([asdict(r) | {"ratio": r.ratio} for r in rows], indent=1) + "\n")


def cases(args: argparse.Namespace) -> list[Case]:
    if args.case:
        return [one(text) for text in args.case]
    paths = args.models or [p for n in (*zoo.TRAINED, *zoo.UNTRAINED) if (p := zoo.locate(n))]
    with tempfile.TemporaryDirectory() as scratch:
        of_nodes = [] if args.no_files else of_files([zoo.filled(path, Path(scratch)) for path in paths])
    return [c for c in [*([] if args.only_files else beside()), *of_nodes] if args.filter in c.text]


if __name__ == "__main__":
    main()
