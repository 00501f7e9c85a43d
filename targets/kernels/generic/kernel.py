"""The frame of a generic kernel: its parameters, its spaces, its stores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import layout, physical_shape, storage_bytes
from edgec.compiler.registry import Emitted, Problem

from ... import abi, tir
from ...body import Body
from ...conversions import stored
from ...tir import Buffer, Expr, Index, Stmt
from .nest import Region
from .space import Flat, Loop, Pair, Space


class Kernel:
    """Buffers of a kernel's arguments, and bodies that read them."""

    def __init__(self, problem: Problem, buffers: Sequence[Buffer]) -> None:
        self.problem = problem
        count = len(problem.body.inputs)
        self.inputs = dict(zip(problem.body.inputs, buffers[:count], strict=True))
        self.outputs = list(zip(problem.body.outputs, buffers[count : count + len(problem.body.outputs)], strict=True))

    def space(
        self,
        box: Sequence[tuple[int, int]],
        folds: Sequence[int] = (),
        within: Collection[int] = (),
        given: int = 0,
        split: tuple[int, int] = (-1, 1),
    ) -> Space:
        """Loops over a box of an output's physical space, then over folded extents, and a body that reads through them.

        `within`: dimensions of the box itself that are folded over; `given`: how many leading ones others loop over;
        `split`: a dimension that is a whole number of stretches, and their length: two loops.
        """
        body = Body(self.problem.body, {})
        dims: list[Loop | Pair] = []
        for k, (start, end) in enumerate(box):
            n = end - start
            if k == split[0] and start == 0 and n % split[1] == 0:
                dims.append(Pair(Loop(n // split[1]), Loop(split[1])))
            else:
                dims.append(Loop(n, start=start, fold=k in within, given=k < given))
        loops = [x for d in dims for x in ((d.outer, d.inner) if isinstance(d, Pair) else (d,))]
        loops += [Loop(n, fold=True) for n in folds]
        space = Space(body, loops, dims)
        body.places = {v: Flat(v.type, b, space) for v, b in self.inputs.items()}
        return space

    def store(self, space: Space, value: Value, element: Expr, index: Index) -> Stmt:
        """Write an element of a value to every output that is this value."""
        return tir.seq(Flat(v.type, b, space).store(element, index) for v, b in self.outputs if v == value)


def logical(t: Type, loops: Sequence[Loop | Pair]) -> Index:
    """Logical index of a position in physical space."""
    lay = layout(t.layout, len(t.shape))
    if not t.shape:
        return ()
    index: list[Any] = [None] * len(t.shape)
    for place, axis in enumerate(lay.order):
        index[axis] = loops[place].at
    for k, (axis, size) in enumerate(lay.blocks):
        index[axis] = index[axis] * size + loops[len(lay.order) + k].at
    return tuple(index)


def kernel_function(problem: Problem, symbol: str, regions: Callable[[Kernel], Region], scratch: int = 0) -> Emitted:
    """The PrimFunc around the regions' tasks. Parameters are flat arrays: inputs, outputs, scratch (f32) if any."""
    values = [*problem.body.inputs, *problem.body.outputs]
    params = [(f"a{k}", stored(v.type.dtype), _flat(v.type)) for k, v in enumerate(values)]
    if scratch:
        params.append(("scratch", "float32", (scratch,)))
    count = 1

    def body(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
        nonlocal count
        if all(storage_bytes(v.type) == 0 for v in problem.body.outputs):
            return tir.seq()
        count, task = regions(Kernel(problem, buffers))
        return tir.tasks(begin, end, task)

    function = abi.kernel(symbol, params, body, pointer_bits=problem.target.pointer_bits)
    return Emitted(function, max(1, count))


def _flat(t: Type) -> tuple[int, ...]:
    size = 1
    for n in physical_shape(t):
        size *= n
    return (max(1, size),)
