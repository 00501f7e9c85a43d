"""A case as an `.eir` file that says how to compile it, and back: what tests/conftest.py reads.

# compile: x86 threads=2 -fold      how (options.py)
# feed: x0 = [1.0, -2.0]            an input's elements; of an input without a line: `seeded_inputs`
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgec.compiler.dtypes import dtype, of_numpy
from edgec.compiler.eir_file import write_eir
from edgec.compiler.ir import Array, Graph
from edgec.compiler.verify import seeded_inputs

from .check import Case, Failure
from .options import read_options


def keep(case: Case, failure: Failure, folder: Path, seed: int) -> Path:
    """Write a case."""
    path = folder / f"seed{seed}.eir"
    write_eir(case.graph, path)
    head = [f"# compile: {case.options}"]
    head += [f"# feed: {name} = {json.dumps(_numbers(a))}" for name, a in case.feeds.items()]
    what = " ".join(failure.what.split())[:300]
    path.write_text("\n".join([*head, f"# {failure.stage}: {what}", path.read_text()]))
    return path


def _numbers(array: Array) -> list[float]:
    kind = float if of_numpy(array.dtype)[0] in "fb" and array.dtype != bool else int
    return [kind(x) for x in array.reshape(-1)]


def kept(graph: Graph, options: str, lines: Sequence[str]) -> Case:
    """The case of a file: what stands behind `compile:`, and behind each `feed:`."""
    feeds = seeded_inputs(graph)
    for line in lines:
        name, _, numbers = line.partition("=")
        feeds[name.strip()] = _array(graph, name.strip(), json.loads(numbers))
    return Case(graph, feeds, read_options(options))


def _array(graph: Graph, name: str, numbers: Sequence[float]) -> Array:
    t = next(v.type for v in graph.inputs if v.name == name)
    exact = np.asarray(numbers, object if dtype(t.dtype).is_whole else None)
    return exact.astype(dtype(t.dtype).numpy).reshape(t.shape)
