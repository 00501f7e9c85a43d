"""How long a C program takes from its start to the first answer of a model, and how much memory it holds.

    python benchmarks/start.py mobilenet_v2_100_224 my_model.onnx --threads 1 2

`start` is the time from main() to the end of the first run, less that of a later run: loading the library, opening the
model, and all that is touched for the first time. Median of several processes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edgec
from benchmarks import zoo
from benchmarks.models import chosen, inputs_of
from edgec.compiler.bundle import Bundle

HERE = Path(__file__).resolve().parent
PROCESSES = 9
MEMORY = 1.2, 4 << 20  # a program holds at most so many times weights and arena, and so many bytes more


@dataclass(frozen=True)
class Start:
    """Milliseconds, and bytes resident at most. `first` is the first run, `later` one of those after it."""

    load: float
    open: float
    first: float
    later: float
    resident: int

    @property
    def start(self) -> float:
        return self.load + self.open + self.first - self.later


def most_bytes(bundle: Bundle) -> int:
    """What a program that runs the model may hold."""
    times, more = MEMORY
    return int(times * (bundle.weights_bytes + bundle.arena_bytes)) + more


def program(bundle: Bundle, folder: Path) -> Path:
    """start.c beside the runtime of a bundle."""
    words = ["cc", "-std=c11", "-O2", f"-I{bundle.folder}", HERE / "start.c", bundle.folder / "libedgec.a"]
    subprocess.run([*map(str, words), "-ldl", "-pthread", "-o", "start"], cwd=folder, check=True)
    return folder / "start"


def measured(bundle: Bundle, threads: int, processes: int = PROCESSES) -> Start:
    """Medians over several processes."""
    with tempfile.TemporaryDirectory(prefix="edgec-start-") as folder:
        command = [str(program(bundle, Path(folder))), str(bundle.shared_library), str(threads)]
        rows = [
            [float(x) for x in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]
            for _ in range(processes)
        ]
    load, opened, first, later, kilobytes = (median(column) for column in zip(*rows, strict=True))
    return Start(load, opened, first, later, int(kilobytes) << 10)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="*", default=["mobilenet_v2_100_224"], help="ONNX files, or names of known ones"
    )
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2], metavar="N")
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="edgec-start-") as temporary:
        folder = Path(temporary)
        print("model                     threads  start ms   load   open  first  later   MB held, of")
        for path in chosen(args.models, folder):
            shapes = {name: array.shape for name, array in inputs_of(path, zoo.DIMENSIONS).items()}
            for threads in args.threads:
                out = folder / f"{path.stem}-{threads}"
                bundle = edgec.compile(path, target="host", threads=threads, out=out, shapes=shapes)
                s = measured(bundle, threads)
                times = f"{s.start:9.2f} {s.load:6.2f} {s.open:6.2f} {s.first:6.2f} {s.later:6.2f}"
                held = f"{s.resident / 2**20:9.1f} {most_bytes(bundle) / 2**20:.1f}"
                print(f"{path.stem:27s} {threads:5d} {times} {held}", flush=True)


if __name__ == "__main__":
    main()
