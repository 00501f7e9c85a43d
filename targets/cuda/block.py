"""The frame of a kernel that chooses its grid: parameters, places, what follows the anchor, shared memory, externs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.program import Launch
from edgec.compiler.registry import Emitted, Problem

from .. import tir
from ..access import Place, parameter
from ..body import Body
from ..tir import Buffer, Expr, Index, Stmt
from .threads import launched, parameters


@dataclass(frozen=True)
class Block:
    """One block of threads: `at` its place in the grid (x, y, z), `thread` the number of the thread.

    `places` are the body's inputs in memory, `out` its output at `place`; `scratch` (bytes) and `zeros` (uint32
    counters, zero before and after) are there where the kernel asked for them.
    """

    body: Body
    places: dict[Value, Place]
    out: Value
    place: Place
    at: Sequence[Expr]
    thread: Expr
    scratch: Buffer | None = None
    zeros: Buffer | None = None

    def value(self, index: Index) -> Expr:
        """The output's element at a logical index, computed by what follows the anchor."""
        return self.body.at(self.out, index)

    def store(self, index: Index) -> Stmt:
        return self.place.store(self.value(index), index)


def emit_grid(
    problem: Problem,
    symbol: str,
    grid: tuple[int, int, int],
    block: int,
    make: Callable[[Block], Stmt],
    *,
    shared: int = 0,
    scratch: int = 0,
    zeros: int = 0,
    waits: bool = False,
) -> Emitted:
    """A kernel of one output whose every block runs `make`.

    `shared`: bytes of dynamic shared memory; `scratch`: bytes in device memory of the whole launch, as the choice's
    `scratch_bytes` says; `zeros`: counters, as the choice's config says (`zeros=n`). The parameters are the body's
    inputs, its output, then scratch and zeros where they are asked for. `waits`: `make` itself calls `wait`.
    """
    graph = problem.body
    params = [parameter(f"a{i}", v.type) for i, v in enumerate(graph.inputs)]
    params.append(parameter("out", graph.outputs[0].type))
    if scratch:
        params.append(("scratch", "uint8", (scratch,)))
    if zeros:
        params.append(("zeros", "uint32", (zeros,)))
    pointers, buffers, head = parameters(params)
    launch = Launch(symbol, grid, block, shared)

    def body(at: Sequence[Expr], thread: Expr) -> Stmt:
        places = {v: Place(v.type, b) for v, b in zip(graph.inputs, buffers, strict=False)}
        rest = buffers[len(graph.inputs) :]
        out = graph.outputs[0]
        own = Body(graph, places)
        frame = Block(own, places, out, Place(out.type, rest[0]), at, thread, *_extra(rest[1:], scratch, zeros))
        return tir.seq(head, make(frame))

    return Emitted(launched(symbol, pointers, launch, body, waits), grid[0] * grid[1] * grid[2], launch)


def _extra(buffers: Sequence[Buffer], scratch: int, zeros: int) -> tuple[Any, Any]:
    rest = list(buffers)
    return (rest.pop(0) if scratch else None), (rest.pop(0) if zeros else None)


def shared(shape: Sequence[int], dtype: str, name: str = "tile") -> tuple[Buffer, Stmt]:
    """Static shared memory (48 KiB per block at most in all): (buffer, statement before its first use)."""
    buffer = tirx.decl_buffer(tuple(shape), dtype, name, scope="shared")
    return buffer, tirx.AllocBuffer(buffer)


def barrier() -> Stmt:
    """All threads of the block have come here, and see what others wrote to shared memory."""
    return tirx.Evaluate(tirx.call_intrin("void", "tirx.tvm_storage_sync", "shared"))


def wait() -> Stmt:
    """All threads come here once, before they touch anything in the device's memory but constants."""
    return call("ec_wait_previous")


def call(name: str, *args: Any) -> Stmt:
    """A function of the prelude for its effect; buffers' elements are passed by `pointer`."""
    return tirx.Evaluate(tirx.call_extern("void", name, *args))


def result(dtype: str, name: str, *args: Any) -> Expr:
    """What a function of the prelude returns; it may depend on memory, so it is not moved."""
    return tirx.call_extern(dtype, name, *args)


def pure(dtype: str, name: str, *args: Any) -> Expr:
    """As `result`, of a function that depends on its arguments only."""
    return tirx.call_pure_extern(dtype, name, *args)


def pointer(buffer: Buffer, *index: Expr | int) -> Expr:
    """Where an element lies."""
    return tirx.address_of(tir.load(buffer, *index))
