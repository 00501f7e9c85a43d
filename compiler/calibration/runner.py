"""Runs a graph on calibration data and shows values inside it: compiled for this machine, which is some fifty times as
fast as the interpreter."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..ir import Graph, Value
from ..op import build, is_const
from ..ops.common import Tensor
from ..target import Target, find_target

if TYPE_CHECKING:
    from ..execution.model import Model

Feed = Mapping[str, Tensor]
Run = Callable[[Feed], list[Tensor]]


@contextmanager
def running(
    graph: Graph,
    values: Sequence[Value],
    *,
    beside: Collection[Value] = (),
    threads: int = 1,
    passes: str = "",
    like: Target | None = None,
) -> Iterator[Run]:
    """A function from a feed of the graph's inputs to the arrays of `values`, in order.

    `beside`: more values that are computed as if they were shown. A graph with the same ones shown, whatever its
    constants are, has the same kernels, which are not built again.
    `like`: the target that the graph will be compiled for. Where it runs here, its kernels are those that run, and are
    not built again afterwards.
    """
    more = [v for v in dict.fromkeys(beside) if v not in values and v.node.op != "Input" and not is_const(v)]
    shown = _showing(graph, [*values, *more])
    names = [name for name, _ in shown.results[: len(values)]]
    with (
        tempfile.TemporaryDirectory(prefix="edgec-") as folder,
        _compiled(shown, Path(folder) / "run", threads, passes, _here(like)) as model,
    ):

        def run(feed: Feed) -> list[Tensor]:
            outputs = model.run(feed)
            return [outputs[name] for name in names]

        yield run


def _showing(graph: Graph, values: Sequence[Value]) -> Graph:
    """The graph with `values` as its outputs; each output is a value of its own that is computed."""
    outputs: list[Value] = []
    for value in values:
        taken = value in outputs or is_const(value) or value.node.op == "Input"
        outputs.append(build("Edgec.Layout", value) if taken else value)
    return replace(graph, outputs=tuple(outputs), output_names=tuple(f"v{k}" for k in range(len(outputs))))


def _here(like: Target | None) -> Target:
    """A target that runs here."""
    from ..driver import why_not_here

    level = like.programs[0] if like is not None else None
    if level is None or level.gpu or why_not_here(level):
        return find_target("host")
    return replace(level, memory=())  # what fits into its memory is not the matter here


def _compiled(graph: Graph, folder: Path, threads: int, passes: str, target: Target) -> Model:
    from ..driver import compile_for
    from ..execution.model import load

    made = compile_for(target, replace(graph, name="calibrated"), folder, threads, passes, brief=True)
    return load(made.folder, threads)
