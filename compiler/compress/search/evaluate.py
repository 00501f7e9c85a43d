"""One candidate from text to figures: passes, ONNX, bundle, answers, time. One call that any process can make.

What is measured is what is delivered: the compressed ONNX file is read again, and compiled as `edgec compile` does it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any, Literal

import onnx

from ...bundle.manifest import Bundle, live_bytes, read_bundle
from ...calibration.data import load_function
from ...calibration.request import SETTING, Request
from ...driver import Costs, compile_for, costs_of
from ...errors import EdgecError
from ...execution.model import Model, load
from ...exporter import NoForm, export_model
from ...importer import import_model
from ...ir import Graph
from ...macs import macs
from ...ops.common import Tensor
from ...pipeline import run_pipeline, show_ids
from ...plugins import load_plugins
from ...quantize.fallback import number
from ...quantize.settings import Score, Wanted
from ...session import Session
from ...target import Target, find_target
from ...target_flags import with_aim
from ..report import Report
from .judge import compared, fed, measured_here, paired, runs_here, samples
from .methods import BEFORE, Candidate

Level = Literal["cost", "draft", "full"]
NOTHING = Costs(0.0, 0, 0, 0)
FEW = 2  # samples that shapes are found with


@dataclass(frozen=True)
class Study:
    """What all candidates of one search share. `model`: the float model in ONNX, canonical; `fitted`, `judged`: samples
    by input, along a first axis, that passes use and that answers are compared on; `folder`: for what processes of one
    machine share."""

    model: bytes
    name: str
    target: Target
    threads: int
    fitted: Mapping[str, Tensor]
    judged: Mapping[str, Tensor]
    score: str | Score | None
    folder: str
    max_ram: float | None = None  # bytes of the arena that kernels are chosen for

    @property
    def key(self) -> str:
        return hashlib.sha256(self.model + repr((self.target, self.threads)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Job:
    """`base`: the float model's score, where there is a function for it."""

    candidate: Candidate
    level: Level
    base: float | None = None


@dataclass(frozen=True)
class Measures:
    """Of one candidate. `latency` and `reference`, the float model's in the same moments, are milliseconds; of a job of
    level "cost" only `costs` are known. `fault`: why there is no such model.

    `live`: bytes of the arena that hold values, step by step.
    """

    job: Job
    costs: Costs = NOTHING
    fault: str = ""
    changed: bool = False
    latency: float = 0.0
    reference: float | None = None
    weights: int = 0
    code: int = 0
    arena: int = 0
    live: tuple[int, ...] = ()
    macs: int = 0
    score: float | None = None
    drop: float = 0.0
    sqnr: float = inf
    model: bytes = b""
    compression: Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Shared:
    """A study in a file."""

    path: str


def evaluate(study: Study | Shared, job: Job) -> Measures:
    """The whole job."""
    started = time.perf_counter()
    load_plugins()
    if isinstance(study, Shared):
        study = _study(study)
    try:
        made = _passed(study, job, job.candidate.stages(job.level))
        model = export_model(made.graph)
    except NoForm as error:
        return Measures(job, fault=f"ONNX cannot say {error}")
    except EdgecError as error:
        return Measures(job, fault=str(error))
    found = _measured(study, job, made, model)
    return replace(found, seconds=time.perf_counter() - started)


@lru_cache(maxsize=2)
def _study(shared: Shared) -> Study:
    with open(shared.path, "rb") as file:
        study: Study = pickle.load(file)
    return study


@dataclass(frozen=True)
class _Passed:
    """A graph behind some stages, and what became of its layers."""

    graph: Graph
    compression: Report | None = None
    quantization: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    changed: bool = False


@lru_cache(maxsize=2)
def _float(model: bytes) -> Graph:
    return run_pipeline(import_model(model), BEFORE, Session())


def _passed(study: Study, job: Job, stages: Sequence[str]) -> _Passed:
    """Kept in files: candidates begin alike."""
    if not stages:
        return _Passed(_float(study.model))
    what = (study.key, job.level, *stages)
    path = _folder(study) / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:24]}.graph"
    if path.exists():
        return _read(path)
    before = _passed(study, job, stages[:-1])
    made = _run(study, job, before, stages[-1])
    _write(path, made)
    return made


def _run(study: Study, job: Job, before: _Passed, stage: str) -> _Passed:
    fitted = {name: a[:FEW] for name, a in study.fitted.items()} if job.level == "cost" else study.fitted
    settings = {SETTING: Request(fitted), "quantize": Wanted(), "threads": study.threads}
    session = Session(target=study.target, settings=settings, compression=before.compression)
    graph = run_pipeline(before.graph, stage, session)
    quantization = session.quantization.table() if session.quantization else before.quantization
    changed = before.changed or show_ids(graph) != show_ids(before.graph)
    return _Passed(graph, session.compression, quantization, (*before.notes, *session.notes), changed)


def _write(path: Path, made: _Passed) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        pickle.dump((tuple(made.graph.nodes()), made), file)  # producers first: pickle recurses no deeper
    os.replace(file.name, path)


def _read(path: Path) -> _Passed:
    with path.open("rb") as file:
        made: _Passed = pickle.load(file)[1]
    return made


def _score(study: Study) -> Score | None:
    return load_function(study.score, "--score") if isinstance(study.score, str) else study.score


def _folder(study: Study) -> Path:
    """The study's, or on another machine one of this process."""
    return Path(study.folder) if Path(study.folder).is_dir() else Path(_own(study.key).name)


@lru_cache(maxsize=8)
def _own(key: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f"edgec-{key}-")


def _measured(study: Study, job: Job, made: _Passed, model: onnx.ModelProto) -> Measures:
    graph, target = replace(import_model(model), name=study.name), target_of(study, job.candidate)
    costs = costs_of(graph, target, study.threads, study.max_ram)
    changed = made.changed or job.candidate.small
    found = Measures(job, costs, changed=changed, macs=macs(made.graph), notes=made.notes)
    if job.level == "cost":
        return found
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        bundle = compile_for(target, graph, Path(folder) / "bundle", study.threads, max_ram=study.max_ram)
        found = replace(
            found,
            weights=bundle.weights_bytes,
            code=bundle.code_bytes,
            arena=bundle.arena_bytes,
            live=tuple(live_bytes(bundle.manifest)),
            model=model.SerializeToString(deterministic=True),
        )
        here = bundle
        if not runs_here(study.target):
            here = compile_for(find_target("host"), graph, Path(folder) / "here", study.threads)
        with load(here.folder) as model_here, load(_float_bundle(study).folder) as reference:
            answers = judge(study, job, model_here, reference)
    compression = made.compression.table() if made.compression else None
    found = replace(found, compression=compression, quantization=made.quantization, **answers)
    return found if found.reference else replace(found, latency=costs.us / 1000)


def target_of(study: Study, candidate: Candidate) -> Target:
    """The target, with what kernels are made for."""
    return with_aim(study.target, "size") if candidate.small else study.target


def judge(study: Study, job: Job, model: Model, reference: Model) -> dict[str, Any]:
    """How fast it is, and how it answers."""
    found: dict[str, Any] = {}
    if measured_here(study.target):
        found["latency"], found["reference"] = paired(model, reference, next(samples(study.judged)))
    share, found["sqnr"] = compared(model, reference, samples(study.judged))
    score = _score(study)
    if score is None:
        return {**found, "drop": share}
    value = number(score, lambda feed: model.run(fed(model, feed)))
    return {**found, "score": value, "drop": 0.0 if job.base is None else job.base - value}


def _float_bundle(study: Study) -> Bundle:
    """The float model for this machine; made once, by the first job."""
    folder = _folder(study) / "float"
    if not folder.exists():
        graph = replace(import_model(study.model), name=study.name)
        target = study.target if runs_here(study.target) else find_target("host")
        compile_for(target, graph, folder, study.threads)
    return read_bundle(folder)
