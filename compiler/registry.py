"""Registry of kernels: one row per implementation, and the deterministic choice between them.

A row says for which problems it can be used (`match`: True or why not), which layouts and tiles it offers there
(`choices`, each with its modelled cost) and how its TensorIR is made (`emit`). Rows live in `targets/kernels/`; this
file knows none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from .chains import LONE_STEP_US, START_US, chain
from .ir import Array, Data, Graph, Node, Value
from .layout import storage_bytes
from .memory.arena import scratch_stride
from .op import OPS
from .program import Launch
from .rescale.bounds import UNKNOWN, Reach
from .target import Gpu, Target


@dataclass(frozen=True)
class Problem:
    """What one kernel must compute: a fused body (inputs in argument order), for one target.

    `constants` are the positions of body inputs that are known when the model is compiled; `cold` says that the model
    has too many to find them in a cache when it runs again; `sparse` are those of them that hold many zeros; `reach`
    is how far sums of bytes go at most, as constants say. `shared`: other kernels of the program seem to differ from
    this one in numbers only, which its code may read from a table. `anchor` is the node that decides the row: the
    contraction, window, reduction, or for chains of maps the last node. Types of `body.inputs` and `body.outputs` carry
    the layouts once the layout pass has run.
    """

    body: Graph
    target: Target
    threads: int = 1
    constants: frozenset[int] = frozenset()
    cold: bool = False
    sparse: tuple[tuple[int, Data], ...] = ()
    reach: Reach = UNKNOWN
    shared: bool = False

    def zeros(self, value: Value) -> Array | None:
        """What a body input holds, where that is a constant of many zeros."""
        return next((data.array for i, data in self.sparse if self.body.inputs[i] == value), None)

    @cached_property
    def anchor(self) -> Node:
        nodes = [n for n in self.body.nodes() if OPS[n.op].kind != "source"]
        heavy = [n for n in nodes if OPS[n.op].kind not in ("map", "elementwise")]
        return heavy[0] if heavy else nodes[-1]

    @property
    def dtype(self) -> str:
        return self.anchor.types[0].dtype

    @property
    def bytes_moved(self) -> int:
        """Bytes of all operands and results, each once."""
        return sum(storage_bytes(v.type) for v in (*self.body.inputs, *self.body.outputs))


@dataclass(frozen=True)
class Choice:
    """One way in which a row would solve a problem.

    `layouts_in` has one entry per body input, `layouts_out` one per body output; None: any layout will do, the
    kernel reads it element by element through index arithmetic. `config` holds tile sizes and the like.
    `cost_us` is the time on one core in microseconds, modelled, or with `measured` from a database (tunings.py).
    """

    row: str
    layouts_in: tuple[str | None, ...]
    layouts_out: tuple[str, ...]
    config: tuple[tuple[str, int], ...] = ()
    cost_us: float = 0.0
    scratch_bytes: int = 0  # per worker; on a device of a whole launch
    measured: bool = False

    def get(self, key: str) -> int:
        return dict(self.config)[key]

    def __str__(self) -> str:
        return f"{self.row} {self.settings}".rstrip()

    @property
    def settings(self) -> str:
        """`config` as text, which `read_settings` reads."""
        return " ".join(f"{k}={v}" for k, v in self.config)


def read_settings(text: str) -> dict[str, int]:
    """What `Choice.settings` says."""
    return {key: int(value) for key, _, value in (word.partition("=") for word in text.split())}


def laid_out(body: Graph, layouts_in: Sequence[str], layouts_out: Sequence[str]) -> Graph:
    """The body with layouts on the types of its inputs and outputs; values between them lie nowhere."""
    known: dict[Value, Value] = {}
    for value, layout in zip(body.inputs, layouts_in, strict=True):
        known[value] = Value(replace(value.node, types=(replace(value.type, layout=layout),)))
    outs = dict(zip(body.outputs, layouts_out, strict=True))
    for old in body.nodes():
        if old.op != "Input":
            types = tuple(replace(v.type, layout=outs.get(v, "")) for v in old.results)
            made = replace(old, args=tuple(known[a] for a in old.args), types=types)
            known.update(zip(old.results, made.results, strict=True))
    return Graph(body.name, tuple(known[v] for v in body.inputs), tuple(known[v] for v in body.outputs))


@dataclass(frozen=True)
class Emitted:
    """TensorIR of a kernel (`function`, a tvm PrimFunc with the raw C ABI) and the number of its tasks.

    With `launch` it is a kernel for an accelerator, and its parameters are pointers to what it reads and writes.
    `numbers`: what the code reads, as i32, through one more pointer behind those of results.
    """

    function: Any
    tasks: int
    launch: Launch | None = None
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """A kernel implementation. Name: operator_dtype_method__isa."""

    name: str
    ops: frozenset[str]  # anchors; empty: every operator
    match: Callable[[Problem], Literal[True] | str]
    choices: Callable[[Problem], Sequence[Choice]]
    emit: Callable[[Problem, Choice, str], Emitted]  # (problem with layouts set, choice, symbol)
    summary: str = ""
    isa: frozenset[str] = field(default=frozenset())
    form: Callable[[Problem], str] | None = None  # equal for kernels whose code may be one (`Problem.shared`), or ""

    def accepts(self, problem: Problem) -> Literal[True] | str:
        """True, or why this row cannot be used."""
        if self.ops and problem.anchor.op not in self.ops:
            return f"computes {', '.join(sorted(self.ops))}, not {problem.anchor.op}"
        if len(problem.body.inputs) + len(problem.body.outputs) > MAX_ARGS:
            return f"has {len(problem.body.inputs)} arguments, and the runtime passes {MAX_ARGS} with the results"
        if missing := self.isa - problem.target.cpu.isa:
            return f"needs {', '.join(sorted(missing))}"
        return self.match(problem)


MAX_ARGS = 31  # arguments and results of a kernel: one fewer than EC_MAX_ARGS, for scratch memory
ROWS: dict[str, Row] = {}


def kernel(row: Row) -> Row:
    """Add a row; names are unique."""
    if row.name in ROWS:
        raise ValueError(f"kernel {row.name!r} is registered twice")
    ROWS[row.name] = row
    return row


def choices(problem: Problem) -> list[Choice]:
    """All that any row offers, cheapest first; equal costs keep the order of the rows' names."""
    rows = [ROWS[name] for name in sorted(ROWS) if ROWS[name].accepts(problem) is True]
    return sorted((c for row in rows for c in choices_of(row, problem)), key=lambda c: c.cost_us)


Offers = dict[object, tuple[Problem, list[Choice]]]
_OFFERS: ContextVar[Offers | None] = ContextVar("offers", default=None)


@contextmanager
def asked_once() -> Iterator[None]:
    """Choices for equal problems of all graphs that are compiled inside are looked for once."""
    token = _OFFERS.set({})
    try:
        yield
    finally:
        _OFFERS.reset(token)


def shared_offers() -> Offers:
    """Where the choices for problems are kept, by what these are: of one graph, or see `asked_once`."""
    kept = _OFFERS.get()
    return {} if kept is None else kept


def choices_of(row: Row, problem: Problem) -> Sequence[Choice]:
    """What a row that accepts a problem offers on its target."""
    offers, gpu = row.choices(problem), problem.target.gpu
    if gpu is None or "CUDA" in row.isa:
        return offers
    return [_by_threads(choice, gpu, problem) for choice in offers]


ZEROS = "zeros"  # key of a choice's config: counters that a kernel needs, zero before and after it
WORKERS = "workers"  # key of a choice's config: threads that take turns, because each needs scratch
_MOST_WORKERS, _MOST_SCRATCH = 1024, 32 << 20
_SCATTERED, _SLOW = 4.0, 32  # how far a kernel of one thread per element is from the device's rates


def _by_threads(choice: Choice, gpu: Gpu, problem: Problem) -> Choice:
    """What a row for CPUs offers on a device, where threads do its tasks: its arithmetic, modelled for one thread, is
    shared by all of them."""
    memory = _SCATTERED * problem.bytes_moved / (gpu.ram_gbytes * 1e3)
    alone = LONE_STEP_US * chain(problem.anchor)
    cost = gpu.launch_us + START_US + memory + max(alone, choice.cost_us / (gpu.multiprocessors * _SLOW))
    if not choice.scratch_bytes:
        return replace(choice, cost_us=cost)
    stride = scratch_stride(choice.scratch_bytes)
    workers = max(1, min(_MOST_WORKERS, _MOST_SCRATCH // stride))
    return replace(choice, cost_us=cost, scratch_bytes=workers * stride, config=(*choice.config, (WORKERS, workers)))


def worker_choice(choice: Choice) -> tuple[Choice, int]:
    """What such a choice was for one worker, and the number of workers; 0: there may be any."""
    config = dict(choice.config)
    workers = config.pop(WORKERS, 0)
    if not workers:
        return choice, 0
    return replace(choice, scratch_bytes=choice.scratch_bytes // workers, config=tuple(config.items())), workers
