"""The whole way of `edgec compress`: a float model, data and limits in; a bundle, an ONNX file and a report out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..bundle.manifest import Bundle
from ..bundle.names import check_name, identifier
from ..bundle.place import check_output, staged
from ..calibration.data import calibration
from ..calibration.request import Request, requested
from ..driver import compile_for, digest, stem
from ..errors import EdgecError
from ..exporter import NoForm, export_model
from ..importer import import_model
from ..ir import Graph
from ..layers import layers_of
from ..ops.common import Tensor
from ..pipeline import run_pipeline
from ..plugins import load_plugins
from ..session import Session
from ..target import find_target
from .options import CompressOptions, Settings, checked
from .search.evaluate import Measures, Study, target_of
from .search.limits import FLAGS, GRAIN, Figures, missed
from .search.methods import BEFORE, methods_of
from .search.outcome import Outcome
from .search.page import page
from .search.search import Search
from .search.table import What, count, said, table
from .search.workers import Workers, workers

ENOUGH = 64  # samples from which on some are for judging only
HELD_OUT = 4  # every fourth
MOST_BYTES = 1 << 30  # of samples; later ones are left out
Tell = Callable[[str], None]


class BudgetError(EdgecError):
    """No candidate meets the limits; `outcome.best` is the nearest one."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass(frozen=True)
class Compressed:
    """What was written. `table`: the report as plain data, see `table.py`."""

    bundle: Bundle
    model: Path
    table: dict[str, Any]


def compress_model(
    model: str | Path | onnx.ModelProto, asked: CompressOptions, tell: Tell | None = None, pool: Workers | None = None
) -> Compressed:
    """Search and write. `tell`: called with a line for each candidate; `pool`: workers that are there already."""
    load_plugins()
    settings = checked(asked)
    request = requested(asked.calib, asked.calib_prep, "compress")
    assert request is not None
    label = check_name(asked.name) if asked.name else identifier(stem(model))
    folder = check_output(asked.out if asked.out is not None else label)
    notes: list[str] = []
    shapes, dims, binds = asked.shapes or {}, asked.dims or {}, asked.bind or {}
    graph = import_model(model, shapes=shapes, dims=dims, binds=binds, notice=notes.append)
    graph = replace(run_pipeline(graph, BEFORE, Session()), name=label)
    with tempfile.TemporaryDirectory(prefix="edgec-") as temporary:
        study = _study(graph, request, settings, label, asked.target, temporary)
        with nullcontext(pool) if pool is not None else workers(asked.jobs, asked.scheduler) as here:
            outcome = _search(study, settings, here, tell).run()
    shapes_of = {layer.name: layer.weights.shape for layer in layers_of(graph)}
    what = What(label, str(model) if isinstance(model, (str, Path)) else stem(model), study, shapes_of, notes)
    if not outcome.met:
        raise BudgetError(f"{label}: {_impossible(outcome)}", outcome)
    return _written(what, outcome, digest(model), folder)


def _study(graph: Graph, request: Request, settings: Settings, name: str, target: str, folder: str) -> Study:
    try:
        model = export_model(graph).SerializeToString(deterministic=True)
    except (NoForm, ValueError) as error:
        raise EdgecError(f"compress: the model cannot be written as ONNX: {error}") from error
    fitted, judged = _samples(graph, request, settings.score is None)
    board, ram = find_target(target), settings.limits.ram
    return Study(model, name, board, settings.threads, fitted, judged, settings.score, folder, ram)


def _samples(graph: Graph, request: Request, label_free: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Samples that layers are fitted on, and those that answers are compared on: others, where there are enough."""
    feeds: list[dict[str, Tensor]] = []
    size = 0
    for feed in calibration(request.source, graph, request.prepare).feeds():
        size += sum(a.nbytes for a in feed.values())
        if size > MOST_BYTES and feeds:
            break
        feeds.append(feed)
    split = label_free and len(feeds) >= ENOUGH
    fitted = [f for k, f in enumerate(feeds) if not split or k % HELD_OUT]
    judged = [f for k, f in enumerate(feeds) if not split or not k % HELD_OUT]
    return tuple({v.name: np.stack([f[v.name] for f in some]) for v in graph.inputs} for some in (fitted, judged))  # type: ignore[return-value]


def _search(study: Study, settings: Settings, pool: Workers, tell: Tell | None) -> Search:
    def told(m: Measures, figures: Figures) -> None:
        if tell is not None:
            tell(said(m, figures, search.clock() - search.started))

    search = Search(
        methods_of(settings.methods, list(settings.limits.given())),
        settings.limits,
        lambda job: pool.submit(study, job),
        seconds=settings.seconds,
        grain=max(GRAIN, 0.0 if study.score is not None else 1 / count(study.judged)),
        width=pool.width,
        tell=told,
    )
    return search


def _impossible(outcome: Outcome) -> str:
    """By how much the nearest model misses each limit, and which one is in the way."""
    best, limits = outcome.best, outcome.limits
    text = f"no model meets the limits; the nearest ({best.candidate}) misses {missed(limits, best.figures)}"
    given = limits.given()
    lone = [FLAGS[what] for what in given if any(not limits.excess(p.figures, what) for p in outcome.points)]
    if len(given) > 1 and lone:
        text += f"; the others can be met without {' or '.join(lone)}"
    if outcome.left:
        text += f"; no use here: {', '.join(outcome.left)}"
    if outcome.hurried:
        text += "; the time was over before all was tried, a longer --time tries more"
    return text


def _written(what: What, outcome: Outcome, sha256: str, out: Path) -> Compressed:
    best = outcome.best.measures
    onnx.checker.check_model(onnx.load_model_from_string(best.model), full_check=True)
    graph = replace(import_model(best.model), name=what.name)
    notes = (f"compressed: {outcome.best.candidate}", *best.notes)
    told = {"model_sha256": sha256, "notes": tuple(dict.fromkeys(notes)), "quantization": best.quantization}
    told["compression"] = best.compression
    file = f"{what.name}.compressed.onnx"
    with staged(out) as folder:
        study = what.study
        target, ram = target_of(study, outcome.best.candidate), study.max_ram
        bundle = compile_for(target, graph, folder, study.threads, told=told, beside={file: best.model}, max_ram=ram)
        found = table(what, outcome)
        (folder / "report.html").write_text(page(found, bundle.manifest), encoding="utf-8")
    return Compressed(replace(bundle, folder=out), out / file, found)
