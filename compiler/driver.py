"""The whole way of a model, from ONNX file to bundle; every command and the Python API come through here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

import onnx

from .budget import budget
from .bundle.manifest import Bundle
from .bundle.names import check_name, identifier
from .bundle.place import check_output
from .calibration.data import Feed
from .calibration.request import SETTING, requested
from .compile_options import CompileOptions
from .dtypes import dtype
from .errors import EdgecError
from .execution.inputs import sample
from .importer import import_model
from .ir import Graph, Node
from .memory.constants import Weights
from .memory.placement import placed
from .op import is_const, viewed
from .pipeline import Stage, parse_pipeline, run_pipeline, show_pipeline
from .pipeline_options import fitting, pipeline_for
from .plugins import load_plugins
from .ports import Port, random_inputs
from .program import Program, chained
from .quantize.settings import wanted
from .session import BRIEF, MAX_RAM, Session
from .target import Target
from .target_flags import check_self_test, target_for
from .tunings import Tunings, default_path
from .unfit import soft_floats
from .units import counted

Progress = Callable[[str, int, int], None]


def _silent(stage: str, done: int, total: int) -> None:
    pass


def compile_model(
    model: str | Path | onnx.ModelProto, asked: CompileOptions, progress: Progress | None = None
) -> Bundle:
    """Compile and write a bundle. `progress` as in `edgec.compile`, as are errors."""
    from .bundle.write import write_bundle

    started = time.perf_counter()
    tell = progress or _silent
    chosen = target_for(asked.target, asked.arch, asked.memory, asked.optimize, asked.threads)
    load_plugins()  # before the import: a plugin may bring operators
    label = check_name(asked.name) if asked.name is not None else identifier(stem(model))
    if asked.self_test:
        check_self_test(chosen)
    folder = check_output(asked.out if asked.out is not None else label)
    limits = budget(asked.max_latency, asked.max_flash, asked.max_ram).within(chosen)
    request = wanted(asked.quantize, asked.max_drop, asked.score)
    data = requested(asked.calib, asked.calib_prep, "quantize" if request else None)
    small = limits.ram is not None
    spec = pipeline_for(chosen, asked.passes, asked.weights, asked.precision, request, small, asked.calib)
    settings = {MAX_RAM: limits.ram, SETTING: data, "quantize": request, "progress": tell, "threads": asked.threads}
    session = Session(target=chosen, settings=settings)
    database = _use_tunings(session, asked.tune, asked.tune_db, tell)

    with import_module("edgec.targets.builder").Builder(ahead=asked.tune is None) as builder:
        tell("import", 0, 1)
        shapes, dims, binds = asked.shapes or {}, asked.dims or {}, asked.bind or {}
        graph = import_model(model, shapes=shapes, dims=dims, binds=binds, notice=session.note)
        feed = self_test_inputs(asked.self_test, graph) if asked.self_test else None
        program = compile_graph(replace(graph, name=label), session, builder, spec, tell)
    if database is not None and session.tunings is not None:
        session.tunings.write(database)
    program = _explained(program, session, chosen, digest(model))
    tell("link", 0, 1)
    if feed is not None:
        rounded = request or program.compression or program.quantization or asked.weights or asked.precision
        reference = None if rounded else graph
        program = import_module("edgec.compiler.golden").tested(program, chosen, feed, reference)
    bundle = write_bundle(program, chosen, folder, limits)
    tell("link", 1, 1)
    return replace(bundle, compile_seconds=time.perf_counter() - started)


def self_test_inputs(asked: bool | str | Path, graph: Graph) -> Feed:
    """What a self-test runs on: the one sample of a .npz file, or seeded numbers."""
    ports = [Port(v.name, dtype(v.type.dtype).numpy.name, v.type.shape) for v in graph.inputs]
    return random_inputs(ports) if asked is True else sample(str(asked), ports)


def _explained(program: Program, session: Session, target: Target, sha256: str) -> Program:
    """The program with what the manifest says of its making: the model, remarks, and reports of passes."""
    if price := soft_floats(program, target):
        session.note(price)
    if spilling := [step.name for step in program.steps if step.launch and step.launch.spilled]:
        session.note(f"registers of {counted(len(spilling), 'kernel')} spill to memory: {', '.join(spilling[:3])}")
    return replace(
        program,
        model_sha256=sha256,
        notes=tuple(dict.fromkeys((*session.notes, *program.notes))),
        quantization=session.quantization.table() if session.quantization else None,
        compression=session.compression.table() if session.compression else None,
    )


def compile_graph(
    graph: Graph, session: Session, builder: Any, spec: str = "", progress: Progress = _silent
) -> Program:
    """Passes and code generation, for each level of the target. `session.target` must be set."""
    target = session.target
    if target is None:
        raise EdgecError("compile: no target is given")
    load_kernels()
    progress("optimize", 0, 1)
    stages = parse_pipeline(spec or target.pipeline, target.pipeline)
    weights = Weights(target.spacing, target.grain)
    graph, rest = _calibrated(graph, session, stages)
    programs = []
    for level in target.programs:
        session.target, session.arena = level, None
        programs.append(_compile_level(graph, session, rest, builder, weights, progress))
    session.target = target
    data, passes = weights.bytes(), show_pipeline(stages)
    program = chained([replace(program, weights=data, passes=passes) for program in programs])
    banks = session.arena.banks if session.arena else ()
    return placed(program, target, banks, weights.parts, target.spacing)


def compile_for(
    target: Target,
    graph: Graph,
    folder: Path,
    threads: int,
    passes: str = "",
    told: Mapping[str, Any] | None = None,
    beside: Mapping[str, bytes] | None = None,
    max_ram: float | None = None,
    brief: bool = False,
) -> Bundle:
    """A bundle of a graph; `passes` as in `compile_graph`, `told`: fields of the program that explain it, `beside`:
    more files in its folder, `max_ram`: bytes that the arena is to have at most, `brief`: it runs a few times and is
    gone."""
    from .bundle.write import write_bundle

    session = Session(target=target, settings={"threads": threads, MAX_RAM: max_ram, BRIEF: brief})
    with import_module("edgec.targets.builder").Builder(ahead=False) as builder:
        program = compile_graph(graph, session, builder, _within(passes, target, max_ram))
    return write_bundle(replace(program, **(told or {})), target, folder, beside=beside or {})


@dataclass(frozen=True)
class Costs:
    """What a graph costs on a target, before any kernel is built: modelled microseconds on one core; bytes of weights
    as kernels read them and of the arena; steps, and the kernels among them."""

    us: float
    weights: int
    arena: int
    steps: int
    kernels: tuple[Node, ...] = ()


def costs_of(graph: Graph, target: Target, threads: int, max_ram: float | None = None) -> Costs:
    """Costs of a graph, for the most demanding level of the target; `max_ram` as in `compile_for`."""
    load_kernels()
    session = Session(target=target.programs[0], settings={"threads": threads, MAX_RAM: max_ram}, verify=0)
    planned = run_pipeline(graph, parse_pipeline(_within("", target, max_ram) or target.pipeline), session)
    weights = Weights(target.spacing, target.grain)
    kernels = [node for node in planned.nodes() if node.op == "Edgec.Kernel"]
    for arg in {arg for node in kernels for arg in node.args}:
        if is_const(viewed(arg)):
            weights.place(viewed(arg))
    us = sum(cost for node in kernels if isinstance(cost := node.attrs["cost_us"], float))
    return Costs(us, len(weights.data), session.arena.bytes if session.arena else 0, len(kernels), tuple(kernels))


def _within(spec: str, target: Target, max_ram: float | None) -> str:
    """A pipeline that keeps the arena within so many bytes; empty: the target's own."""
    return spec if max_ram is None else fitting(spec or target.pipeline, target)


def _calibrated(graph: Graph, session: Session, stages: Sequence[Stage]) -> tuple[Graph, Sequence[Stage]]:
    """The graph behind the last pass that uses calibration data, the same for all levels; and the stages left."""
    place = max((k + 1 for k, stage in enumerate(stages) if stage.row.calibrated), default=0)
    if not place:
        return graph, stages
    return run_pipeline(graph, stages[:place], session), stages[place:]


def _compile_level(
    graph: Graph, session: Session, stages: Sequence[Stage], builder: Any, weights: Any, progress: Progress
) -> Program:
    """Passes and code generation for the target of the session, which is a single one."""
    planned = run_pipeline(graph, stages, session)
    if session.arena is None:
        raise EdgecError(
            f"pipeline {show_pipeline(stages)!r} cannot end in a library: it has no 'plan'; add 'fuse, layout, plan'"
        )
    generate = import_module("edgec.targets.codegen").generate
    program: Program = generate(
        planned,
        session.target,
        arena=session.arena,
        builder=builder,
        threads=session.threads,
        weights=weights,
        scales=session.scales,
        progress=progress,
    )
    return program


def _use_tunings(session: Session, tune: float | None, tune_db: str | Path | None, tell: Progress) -> Path | None:
    """Give the session what was measured, and a tuner where `tune` has seconds for it; the file to write then."""
    if tune is None and tune_db is None:
        return None
    path = Path(tune_db) if tune_db is not None else default_path()
    if tune is None:
        session.tunings = Tunings.read(path)
        return None
    if isinstance(tune, bool) or not isinstance(tune, (int, float)) or not 0 < tune < inf:
        raise EdgecError(f"tune: {tune!r} is not a number of seconds")
    assert session.target is not None
    session.tunings = Tunings.read(path) if path.exists() else Tunings()
    session.tunings.write(path)  # a file that cannot be written is better known before the measurements
    session.tuner = import_module("edgec.targets.tuner").tuner(
        session.target, tune, session.tunings, tell, session.note
    )
    return path


def why_not_here(level: Target) -> str:
    """Why kernels for a level of a target do not run on this machine; empty where they do."""
    return str(import_module("edgec.targets.tuner").why_not_here(level))


def load_kernels() -> None:
    """Register every kernel row, the plugins' included."""
    import_module("edgec.targets.kernels")
    load_plugins()


def stem(model: str | Path | onnx.ModelProto) -> str:
    """What a model is called where nobody says: after its file, or its graph."""
    if isinstance(model, (str, Path)):
        return Path(model).stem
    if not isinstance(model, onnx.ModelProto):
        raise EdgecError(f"model: of type {type(model).__name__}; expected a path or an onnx.ModelProto")
    return model.graph.name or "model"


def digest(model: str | Path | onnx.ModelProto) -> str:
    """SHA-256 of the file, or of what would be in it."""
    data = Path(model).read_bytes() if isinstance(model, (str, Path)) else model.SerializeToString(deterministic=True)
    return hashlib.sha256(data).hexdigest()
