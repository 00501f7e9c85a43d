"""A planned graph to a `Program`: TensorIR per distinct kernel, objects, packed weights, and the table of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from edgec.compiler.bundle.names import shortened
from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError
from edgec.compiler.grain import grain
from edgec.compiler.ir import Graph, Node, QParams, Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.macs import macs
from edgec.compiler.memory.arena import scratch_stride
from edgec.compiler.memory.constants import Weights
from edgec.compiler.op import OPS, body_of, int_attr, ints_attr, is_const, viewed
from edgec.compiler.ops.integer import ON_BYTES, SUMS
from edgec.compiler.program import Arena, Port, Program, Ref, Step, Stored
from edgec.compiler.registry import ZEROS, Choice, Problem, read_settings
from edgec.compiler.target import Target

from .build_jobs import Built, Job, sharing
from .builder import Builder
from .steps import Line, lines

Progress = Callable[[str, int, int], None]


def generate(
    g: Graph,
    target: Target,
    *,
    arena: Arena,
    builder: Builder,
    threads: int = 1,
    weights: Weights | None = None,
    scales: Mapping[str, QParams] = MappingProxyType({}),
    progress: Progress = lambda what, done, total: None,
) -> Program:
    """Build every kernel of a graph that has been through `plan`. Equal kernels are built once.

    `weights` collects the constants of several programs into one region; they are packed while the kernels are built.
    `scales` says what the bytes of inputs and outputs stand for, by name.
    """
    weights = weights or Weights()
    order = lines(g, lambda value: _ref(value, weights))
    kernels = [line.node for line in order if not line.what]
    jobs = _jobs(kernels, target, threads)
    distinct = list({job.symbol: job for job in jobs.values()}.values())
    builder.start(distinct, target)
    refs = {node: _refs(node, weights) for node in kernels}
    code = _built(builder, distinct, progress)
    first: dict[bytes, str] = {}  # the symbol under which equal objects are in the program
    symbols = {s: first.setdefault(made.same, s) if made.same else s for s, made in code.items()}
    for node, job in jobs.items():
        refs[node] = _with_numbers(node, refs[node], code[job.symbol], weights)
    program = Program(
        name=g.name,
        target=target.name,
        inputs=tuple(_port(v.name, v, scales) for v in g.inputs),
        outputs=tuple(_port(name, v, scales) for name, v in g.results),
        steps=tuple(
            _control(name, line)
            if line.what
            else _step(name, line, jobs[line.node], refs[line.node], code[jobs[line.node].symbol], symbols)
            for name, line in zip(shortened(map(_label, order), _longest(target)), order, strict=True)
        ),
        weights=weights.bytes(),
        objects=() if target.gpu else tuple((f"{s}.o", made.code) for s, made in code.items() if symbols[s] == s),
        arena_bytes=max(arena.bytes, target.align),
        lower_bound=arena.lower_bound,
        arena_map=arena.map,
        threads=threads,
        align=target.align,
        isa=() if target.gpu else tuple(sorted(target.cpu.isa)),
    )
    if not target.gpu:
        return program
    from .cuda.modules import on_device

    return on_device(program, target.gpu, {symbol: made.code.decode() for symbol, made in code.items()}, progress)


def _jobs(kernels: Sequence[Node], target: Target, threads: int) -> dict[Node, Job]:
    """What builds each kernel; equal ones, and those that can share code, have one job."""
    of_content: dict[str, Job] = {}
    of_node: dict[Node, Job] = {}
    for node in kernels:
        choice = choice_of(node)
        job = Job(f"k{len(of_content)}_{choice.row}", problem_of(node, target, threads), choice)
        of_node[node] = of_content.setdefault(job.content, job)
    shared = sharing(of_content)
    return {node: shared[job.content] for node, job in of_node.items()}


def _built(builder: Builder, jobs: Sequence[Job], progress: Progress) -> dict[str, Built]:
    """Code by symbol, in the order of the jobs."""
    built: dict[int, Built] = {}
    for i, result in builder.results():
        built[i] = result
        progress("kernels", len(built), len(jobs))
    return {job.symbol: built[i] for i, job in enumerate(jobs)}


def problem_of(node: Node, target: Target, threads: int) -> Problem:
    """What a kernel computes. On a device it may read constants before the kernels before it have ended."""
    constants = frozenset(i for i, a in enumerate(node.args) if is_const(viewed(a))) if target.gpu else frozenset()
    return Problem(body_of(node), target, threads, constants)


def element_types(problem: Problem) -> str:
    """What a kernel computes in: the anchor's element type; of arithmetic on bytes, all types but that of its sums."""
    nodes = [n for n in problem.body.nodes() if OPS[n.op].kind != "source"]
    if not any(n.op in ON_BYTES for n in nodes):
        return dtype(problem.dtype).name
    return " ".join(dict.fromkeys(n.types[0].dtype for n in nodes if n.op not in SUMS))


def choice_of(node: Node) -> Choice:
    """The choice that the layout pass wrote into a kernel's attributes."""
    body, scratch = body_of(node), int_attr(node, "scratch")
    pairs = tuple(read_settings(str(node.attrs["config"])).items())
    layouts_in = tuple(v.type.layout for v in body.inputs)
    return Choice(str(node.attrs["row"]), layouts_in, tuple(v.type.layout for v in body.outputs), pairs, 0.0, scratch)


def _refs(node: Node, weights: Weights) -> tuple[Ref, ...]:
    refs = [_ref(a, weights) for a in node.args] + [_ref(v, weights) for v in node.results]
    if int_attr(node, "scratch"):
        refs.append(Ref("scratch", int_attr(node, "scratch_at")))
    if read_settings(str(node.attrs["config"])).get(ZEROS):
        refs.append(Ref("zeros", 0))
    return tuple(refs)


def _with_numbers(node: Node, refs: tuple[Ref, ...], made: Built, weights: Weights) -> tuple[Ref, ...]:
    """Arguments with the table of numbers that the code reads, behind the results."""
    if not made.numbers:
        return refs
    many = len(node.args) + len(node.results)
    return (*refs[:many], weights.words(f"{node.name}.numbers", made.numbers), *refs[many:])


def _ref(value: Value, weights: Weights) -> Ref:
    source = viewed(value)
    if is_const(source):
        return weights.place(source)
    offsets = ints_attr(value.node, "arena")
    if not offsets:
        raise EdgecError(f"{value.node}: has no place in the arena; run the pass 'plan' first")
    return Ref("arena", offsets[value.index])


def _port(name: str, value: Value, scales: Mapping[str, QParams]) -> Port:
    ref = _ref(value, Weights())
    if ref.region != "arena":
        raise EdgecError(f"output {name!r} is a constant")
    port = Port(name, value.type.dtype, value.shape, storage_bytes(value.type), ref, scales.get(name))
    if value.node.op != "Edgec.Sized":
        return port
    axis = int_attr(value.node, "axis") % len(value.shape)
    return replace(port, count=_ref(value.node.args[1], Weights()), count_axis=axis)


def _stored(value: Value) -> Stored:
    inner = body_of(value.node).outputs[value.index]
    return Stored(inner.name, value.type, Ref("arena", ints_attr(value.node, "arena")[value.index]))


def _longest(target: Target) -> int:
    """Characters of a step's name, which lies in flash."""
    return 32 if target.microcontroller else 60


def _label(line: Line) -> str:
    return f"{line.node.name}.{line.what}" if line.what else line.node.name


def _control(name: str, line: Line) -> Step:
    """A branch, or a kernel of the runtime, which one worker runs."""
    return Step(
        name=name,
        symbol=line.symbol,
        args=line.args,
        tasks=line.tasks,
        grain=line.tasks,
        row=line.symbol or "branch",
        origin=line.node.origin,
        dtype="bool",
        why="control flow",
        jump=line.jump,
    )


def _step(name: str, line: Line, job: Job, refs: tuple[Ref, ...], code: Built, symbols: Mapping[str, str]) -> Step:
    node, tasks = line.node, code.tasks
    cost = node.attrs["cost_us"]
    assert isinstance(cost, float)
    return Step(
        name=name,
        symbol="" if code.launch else symbols[job.symbol],
        launch=code.launch,
        args=refs,
        tasks=tasks,
        scratch_stride=0 if code.launch else scratch_stride(int_attr(node, "scratch")),
        grain=grain(tasks, cost),
        row=job.choice.row,
        config=str(node.attrs["config"]),
        origin=node.origin,
        dtype=element_types(job.problem),
        macs=macs(job.problem.body),
        bytes_moved=sum(storage_bytes(v.type) for v in (*node.args, *node.results)),
        cost_us=round(cost, 3),
        why=str(node.attrs["why"]),
        results=() if line.nested else tuple(_stored(v) for v in node.results),
    )
