"""All that is compared of one case: the interpreter with ONNX Runtime, with itself after import and after each pass,
with the kernels alone, and with the bundle in the C runtime."""

from __future__ import annotations

import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random

from edgec.compiler.bundle.emulate import Emulated
from edgec.compiler.bundle.write import write_bundle
from edgec.compiler.driver import compile_graph, load_kernels
from edgec.compiler.execution.model import Model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Array, Graph
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.program import Program
from edgec.compiler.registry import Choice, Problem
from edgec.compiler.session import Session
from edgec.compiler.target import Target, find_target
from edgec.compiler.target_flags import with_aim
from edgec.compiler.tunings import Tunings, candidate
from edgec.compiler.verify import difference, verify
from edgec.targets.builder import Builder

from .options import Options, emulated, runs_here
from .ort import against_ort
from .play import play
from .stable import Band, bands
from .to_onnx import NoForm, model

_FEW, _MANY = 3, 60  # runs with noise: for every case, and before a difference is called a fault


@dataclass(frozen=True)
class Case:
    """What is compiled, what it is fed, and how."""

    graph: Graph
    feeds: Mapping[str, Array]
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Failure:
    """`stage`: what went wrong; `what`: how."""

    stage: str
    what: str
    trace: str = ""


@dataclass
class Report:
    """What a case showed. `counts`: operators, rows of the registry and the like that it met."""

    failure: Failure | None = None
    counts: Counter[str] = field(default_factory=Counter)


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        self.failure = failure


@contextmanager
def _stage(name: str) -> Iterator[None]:
    """Whatever is raised inside fails the case."""
    try:
        yield
    except _Failed:
        raise
    except Exception as error:
        notes = "; ".join(getattr(error, "__notes__", []))
        what = f"{type(error).__name__}: {error}{f' ({notes})' if notes else ''}"
        raise _Failed(Failure(name, what, traceback.format_exc())) from error


def examine(case: Case, *, reference: bool = True) -> Report:
    """Compare everything; `reference`: with ONNX Runtime too."""
    report = Report()
    try:
        _examine(case, report, reference)
    except _Failed as failed:
        report.failure = failed.failure
    return report


def _examine(case: Case, report: Report, reference: bool) -> None:
    graph, options = case.graph, case.options
    report.counts.update(f"op {node.op}" for node in graph.nodes())
    with _stage("interpreter"):
        verify(graph, 2)
        wanted = bands(graph, case.feeds, _FEW)
    report.counts["elements compared, %"] += round(100 * sum(b.share for b in wanted.values()) / max(len(wanted), 1))
    if reference:
        with _stage("onnx runtime"):
            fault, count = against_ort(graph, case.feeds)
            report.counts["nodes compared with ONNX Runtime"] += count
            if fault:
                raise _Failed(Failure("onnx runtime", fault))
    if options.through_onnx:
        case = replace(case, graph=_imported(case, wanted, report))
    if options.each_pass:
        _each_pass(case, wanted)
    _compiled(case, wanted, report)


def _judge(stage: str, case: Case, wanted: Mapping[str, Band], got: Mapping[str, Array], note: str = "") -> None:
    """Fail where an answer is off, unless more noise shows that nothing can be said there."""
    if not any(band.fault(got[name]) for name, band in wanted.items()):
        return
    again = bands(case.graph, case.feeds, _MANY, seed=2)
    for name in wanted:
        if fault := wanted[name].fault(got[name]) and again[name].fault(got[name]):
            raise _Failed(Failure(stage, f"{note}output {name!r} {fault}"))


def _imported(case: Case, wanted: Mapping[str, Band], report: Report) -> Graph:
    """The graph once it has been an ONNX model; itself where ONNX cannot say it."""
    try:
        exported = model(case.graph)
    except NoForm:
        return case.graph
    report.counts["cases through ONNX"] += 1
    with _stage("import"):
        graph = replace(import_model(exported, notice=lambda text: None), name=case.graph.name)
        _judge("import", case, wanted, interpret(graph, case.feeds))
    return graph


@cache
def _target(options: Options) -> Target:
    return with_aim(find_target(options.target), "size" if options.small else "speed")


def _session(options: Options) -> Session:
    session = Session(target=_target(options), settings={"threads": options.threads}, verify=2)
    if options.rows:
        session.tunings = tunings = Tunings()

        def tuner(entries: Sequence[tuple[Problem, Sequence[Choice], int]]) -> None:
            for problem, offers, _ in entries:
                tunings.record(problem, {offer: _any_time(options.rows, offer) for offer in offers})

        session.tuner = tuner
    return session


def _any_time(seed: int, offer: Choice) -> float:
    """Microseconds out of the air: mostly the row's."""
    return 10 * Random(f"{seed} {offer.row}").random() + Random(f"{seed} {candidate(offer)}").random()


def _each_pass(case: Case, wanted: Mapping[str, Band]) -> None:
    """What level 3 of the verifier asks, with the case's own inputs."""
    load_kernels()
    session = _session(case.options)
    assert session.target is not None
    graph, done = case.graph, []
    before = interpret(graph, case.feeds)
    for stage in parse_pipeline(case.options.passes, session.target.pipeline):
        with _stage(f"pass {stage.row.name}"):
            graph = run_pipeline(graph, [stage], session)
            done.append(stage.row.name)
            verify(graph, 2, stages=done)
            after = interpret(graph, case.feeds)
            for name in before:
                if stage.row.promise == "exact" and (fault := difference(before[name], after[name], "exact")):
                    raise _Failed(Failure(f"pass {stage.row.name}", f"output {name!r} {fault}"))
            _judge(f"pass {stage.row.name}", case, wanted, after)
            before = after


def _compiled(case: Case, wanted: Mapping[str, Band], report: Report) -> None:
    session = _session(case.options)
    with _stage("compile"):
        program = compile_graph(case.graph, session, Builder(ahead=False, workers=1), case.options.passes)
    report.counts.update(f"row {step.row}" for step in program.steps)
    report.counts.update(step.rule for step in session.steps)
    if not runs_here(case.options.target):
        if case.options.bundle and emulated(case.options.target):
            with _stage("emulator"):
                _judge("emulator", case, wanted, _emulated(program, _target(case.options), case))
                report.counts["cases in an emulator"] += 1
        return
    plain = all(step.own for step in program.steps)
    with _stage("kernels"):
        got = play(program, case.feeds) if plain else {}
        _judge("kernels", case, wanted, got) if plain else None
    if case.options.bundle or not plain:
        with _stage("bundle"):
            assert session.target is not None
            again = _run_bundle(program, session.target, case)
            _judge("bundle", case, wanted, again)
            for name, array in got.items():
                if array.tobytes() != again[name].tobytes():
                    raise _Failed(Failure("bundle", f"output {name!r} is another one in the C runtime"))


def _emulated(program: Program, target: Target, case: Case) -> dict[str, Array]:
    with tempfile.TemporaryDirectory(prefix="edgec-fuzz-") as folder:
        runner = Emulated(write_bundle(program, target, f"{folder}/bundle"))
        return runner.trace({port.name: case.feeds[port.name] for port in program.inputs}, [])[0]


def _run_bundle(program: Program, target: Target, case: Case) -> dict[str, Array]:
    with tempfile.TemporaryDirectory(prefix="edgec-fuzz-") as folder:
        bundle = write_bundle(program, target, f"{folder}/bundle")
        with Model(bundle) as compiled:
            return compiled.run({port.name: case.feeds[port.name] for port in program.inputs})
