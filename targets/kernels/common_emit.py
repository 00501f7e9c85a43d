"""The frame that every template shares: parameters, places and body of a kernel, and loads of one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import abi, tir
from edgec.targets.access import Place, parameter
from edgec.targets.addends import kernel_addends, turning
from edgec.targets.body import Body
from edgec.targets.maps import regroup
from edgec.targets.tir import Buffer, Expr, Index, Stmt

from .common import computed_lanes, heavy

F32 = "float32"
ABREAST = 4  # vectors of long code in turn: enough chains for two pipes of four cycles


class Numbers:
    """Numbers of a kernel that its code reads from a table, where kernels that differ in them share it (`shared`)."""

    MOST = 64

    def __init__(self, shared: bool) -> None:
        self.shared = shared
        self.values: dict[str, int] = {}
        self.buffer: Buffer = None

    def __call__(self, name: str, value: int) -> Expr:
        """A number, which always goes by the same name."""
        if not self.shared:
            return tir.i32(value)
        if self.values.setdefault(name, value) != value or len(self.values) > self.MOST:
            raise ValueError(f"number {name}: {value} after {self.values[name]}")
        return tir.load(self.buffer, list(self.values).index(name))


@dataclass(frozen=True)
class Frame:
    """A kernel under construction: its body, the places of its inputs, its only output, and scratch floats."""

    body: Body
    places: dict[Value, Place]
    out: Value
    place: Place
    zero: Expr  # 0 when the kernel runs, which LLVM cannot know: loops to `n + zero` stay loops
    scratch: Any = None
    heavy: bool = False  # what follows the anchor is long code
    parts: tuple[Any, ...] = ()  # scratch in several buffers, where a kernel wants that

    def store(self, index: tuple[Expr, ...]) -> Stmt:
        """Compute the output's element at an index and store it."""
        return self.place.store(self.body.at(self.out, index), index)


@dataclass(frozen=True)
class Merged(Place):
    """A row-major value of `shape` in a buffer of fewer axes, each of which stands for some of the value's."""

    shape: tuple[int, ...] = ()

    def load(self, index: Index) -> Expr:
        return super().load(regroup(index, self.shape, self.type.shape))


def emit_kernel(
    problem: Problem,
    choice: Choice,
    symbol: str,
    tasks: int,
    make: Callable[[Frame, Expr], Stmt],
    view: Callable[[Value], Type] = lambda v: v.type,
    parts: Sequence[tuple[str, str, int, int]] = (),
    around: Callable[[Frame, Stmt], Stmt] = lambda _, tasks: tasks,
    numbers: Numbers | None = None,
) -> Emitted:
    """A kernel whose task number t runs `make(frame, t)`.

    `view` may show an operand as another type; what follows the anchor still reads it by its own axes. `parts` are
    those of scratch, as `abi.kernel` takes them; `around` may put statements before and after the tasks of a call.
    """
    graph, target = problem.body, problem.target
    types = [view(v) for v in graph.inputs]
    viewed = list(zip(graph.inputs, types, strict=True))
    result = view(graph.outputs[0])
    params = [parameter(f"a{i}", t) for i, t in enumerate(types)] + [parameter("out", result)]
    if numbers and numbers.shared:
        params.append(("numbers", "int32", (Numbers.MOST,)))
    if choice.scratch_bytes and not parts:
        params.append(("scratch", "float32", (choice.scratch_bytes // 4,)))

    def whole(buffers: list[Any], begin: Expr, end: Expr) -> Stmt:
        places = {v: Place(t, b) for v, t, b in zip(graph.inputs, types, buffers, strict=False)}
        own = {
            v: places[v] if len(v.shape) == len(t.shape) else Merged(t, places[v].buffer, v.shape) for v, t in viewed
        }
        out = Place(result, buffers[len(types)])
        zero, bind = tir.let(tirx.shift_right(begin, tir.i32(31)), "zero")
        if numbers and numbers.shared:
            numbers.buffer = buffers[len(types) + 1]
        scratch = buffers[-1] if choice.scratch_bytes and not parts else None
        pieces = tuple(buffers[len(params) :])
        frame = Frame(Body(graph, own), places, graph.outputs[0], out, zero, scratch, heavy(problem), pieces)
        with kernel_addends() as added:
            code = around(frame, tir.tasks(begin, end, lambda task: make(frame, task), tasks))
        return tir.seq(bind, added.filled(code))

    made = abi.kernel(symbol, params, whole, pointer_bits=target.pointer_bits, parts=parts)
    return Emitted(made, tasks, numbers=tuple(numbers.values.values()) if numbers else ())


def chunked(total: int, chunk: int, number: Expr, unit: Callable[[Expr], Stmt]) -> Stmt:
    """Task `number` of those that share `total` units: `unit` of each of its `chunk`, or of what is left."""
    first, count = stretch(number, chunk, total)
    return tir.loop(count, lambda k: unit(first + k), "unit")


def stretch(number: Expr, each: int, total: int) -> tuple[Expr, Expr]:
    """The first of `total` turns that belong to stretch `number` of `each`, and how many: the last may be shorter."""
    first = number * each
    return first, tir.i32(each) if total % each == 0 else tirx.min(tir.i32(each), total - first)


def full_or_rest(block: Expr, size: int, each: int, make: Callable[[int], Stmt]) -> Stmt:
    """`make(n)` for a block of an axis of `size`: n is `each`, or in the last block what is left."""
    full, rest = divmod(size, each)
    if not rest:
        return make(each)
    return tir.when(block < full, make(each), make(rest)) if full else make(rest)


def contiguous(place: Place, index: tuple[Expr, ...], axis: int, lanes: int) -> Expr:
    """`lanes` elements along a logical axis that lie side by side in memory, from `index` on."""
    physical = list(place.physical(tuple(tir.i32(i) if isinstance(i, int) else i for i in index)))
    blocks = len(physical) - 1
    physical[blocks] = tir.ramp(physical[blocks], lanes)
    return tirx.BufferLoad(place.buffer, [tir.i32(i) if isinstance(i, int) else i for i in physical])


def vector(buffer: Any, lanes: int, *index: Expr | int) -> Expr:
    """`lanes` elements of a buffer along its last axis."""
    return tir.load(buffer, *index[:-1], tir.ramp(index[-1], lanes))


def put(buffer: Any, value: Expr, lanes: int, *index: Expr | int) -> Stmt:
    return tir.store(buffer, value, *index[:-1], tir.ramp(index[-1], lanes))


Writer = Callable[[Any, "Expr | int", int, "Expr | int", "Expr | int"], Callable[[Expr], Stmt]]


def store_tile(
    frame: Frame,
    acc: Any,
    rows: Sequence[Any],
    columns: Sequence[Any],
    widths: Sequence[int],
    lanes: int,
    write: Writer,
) -> Stmt:
    """Store a tile of consecutive rows and columns with what follows the anchor.

    `acc` holds vectors of `lanes` in the order [row][column][vector], `widths` their true lanes; `write(buffer, slot,
    vector, row, column)` makes the store of one lane. Long code stands once, in a loop over some pixels at a time, and
    reads from a copy of the accumulators in memory: those themselves must keep constant places to stay in registers.
    """
    many = len(widths)

    def pixel(buffer: Any, r: Expr | int, c: Expr | int, row: Any, column: Any) -> list[Stmt]:
        slots = [((r * len(columns) + c) * many + v) * lanes for v in range(many)]
        return [tir.vectorized(widths[v], write(buffer, slots[v], v, row, column)) for v in range(many)]

    if not frame.heavy or len(rows) * len(columns) < 3:
        return tir.seq(
            s for r, row in enumerate(rows) for c, col in enumerate(columns) for s in pixel(acc, r, c, row, col)
        )
    total = len(rows) * len(columns) * many * lanes
    stage, alloc = tir.local((total,), str(acc.dtype), "stage")
    sums = zip(range(0, total, lanes), cycle(computed_lanes(width, lanes) for width in widths), strict=False)
    copy = [put(stage, vector(acc, n, at), n, at) for at, n in sums]  # more than was computed would spill them
    first, left = tir.expr(rows[0]), tir.expr(columns[0])
    some = _abreast(len(columns), many)
    turns = len(columns) // some

    def line(r: Expr) -> Stmt:
        def one(c: Expr) -> Stmt:
            at = [c * some + k for k in range(some)]
            with turning(frame.zero * (c if turns > 1 else r + first + left)):
                return tir.interleaved([s for k in at for s in pixel(stage, r, k, first + r, left + k)])

        return tir.loop(turns + frame.zero, one, "c") if turns > 1 else one(tir.i32(0))

    return tir.seq(alloc, copy, tir.loop(len(rows) + frame.zero, line, "r") if len(rows) > 1 else line(tir.i32(0)))


def _abreast(columns: int, vectors: int) -> int:
    """How many pixels go side by side: about ABREAST vectors, in whole turns."""
    fits = [n for n in range(1, columns + 1) if columns % n == 0 and (n == 1 or n * vectors <= 2 * ABREAST)]
    return min(fits, key=lambda n: abs(n * vectors - ABREAST))


def chain(conditions: Sequence[tuple[Expr | None, Callable[[], Stmt]]]) -> Stmt:
    """if/else-if chain; a condition of None is the final else."""
    result: Stmt | None = None
    for condition, make in reversed(conditions):
        result = make() if condition is None else tir.when(condition, make(), result)
    assert result is not None
    return result
