"""Rows for operators that are loops of their own: sorting, scattering, recurrence. One node, everything row-major.

Such an operator is `alone` in the operator table. Its code gets the node's arguments, results and scratch as `Tensors`
and gives the number of its tasks and the statements of one task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from edgec.compiler.ir import Node, Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

if TYPE_CHECKING:
    from ..tir import Expr, Stmt
    from .plain_lines import Line

Code: TypeAlias = "Callable[[Tensors], tuple[int, Callable[[Expr], Stmt]]]"
Part = tuple[str, int]  # TVM element type, number of elements
LINE = 64  # bytes: parts of the scratch begin at multiples


@dataclass(frozen=True)
class Tensors:
    """What the code of a node reads and writes: `args`, `results` and `scratch`, which each worker has for itself.

    Arguments and results have their logical axes, or with `flat` in `plain` one that holds all elements.
    """

    node: Node
    problem: Problem
    args: tuple[Any, ...]
    results: tuple[Any, ...]
    scratch: tuple[Any, ...]

    def read(self, k: int, *index: Expr | int) -> Expr:
        """Element of argument `k` at a logical index, in the type that holds it in a kernel (bf16 as f32)."""
        return _place(self.node.args[k], self.args[k]).load(index)

    def read_back(self, k: int, *index: Expr | int) -> Expr:
        """Element of result `k`, which must have been written."""
        return _place(Value(self.node, k), self.results[k]).load(index)

    def write(self, k: int, value: Expr, *index: Expr | int) -> Stmt:
        """Store an element of result `k`; `value` has the type that holds the result's."""
        return _place(Value(self.node, k), self.results[k]).store(value, index)

    def line(self, k: int) -> Line:
        """Argument `k` of a row that is `flat`."""
        from .plain_lines import Line

        return Line(self.args[k], self.node.args[k].type.dtype)

    def out(self, k: int = 0) -> Line:
        """Result `k` of a row that is `flat`."""
        from .plain_lines import Line

        return Line(self.results[k], self.node.types[k].dtype)

    def unless_over(self, k: int, copy: Stmt) -> Stmt:
        """`copy` where the first result does not take the memory of argument `k` (see `Op.over`)."""
        from tvm import tirx

        from .. import tir

        bits = f"int{self.problem.target.pointer_bits}"
        ours, theirs = (tir.address(buffer, bits) for buffer in (self.results[0], self.args[k]))
        return tir.when(tirx.NE(ours, theirs), copy)


def _place(value: Value, buffer: Any) -> Any:
    from ..access import Place

    return Place(value.type, buffer)


def plain(
    name: str,
    ops: Sequence[str],
    code: Code,
    cycles: Callable[[Node, Cpu], float],
    summary: str,
    scratch: Callable[[Node, Cpu], Sequence[Part]] = lambda node, cpu: (),
    flat: bool = False,
) -> None:
    """Register a row. `cycles`: modelled cycles of the node on one core; `scratch`: what each worker needs beside.

    `flat`: the code addresses each tensor by the number of an element, in row-major order.
    """

    def offers(problem: Problem) -> Sequence[Choice]:
        from .cost import CALL_US

        body, cpu = problem.body, problem.target.cpu
        cost = CALL_US + cycles(problem.anchor, cpu) / (cpu.ghz * 1e3)
        layouts_in, layouts_out = ("",) * len(body.inputs), ("",) * len(body.outputs)
        needed = scratch_bytes(scratch(problem.anchor, cpu))
        return [Choice(name, layouts_in, layouts_out, cost_us=cost, scratch_bytes=needed)]

    def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
        return emit_plain(problem, symbol, code, scratch(problem.anchor, problem.target.cpu), flat)

    kernel(Row(name, frozenset(ops), _match, offers, emit, summary))


def _match(problem: Problem) -> Literal[True] | str:
    return True


def scratch_bytes(parts: Sequence[Part]) -> int:
    """Bytes of the scratch that holds these parts."""
    return _offsets(parts)[1]


def _offsets(parts: Sequence[Part]) -> tuple[list[int], int]:
    """Byte offset of each part, and bytes in all."""
    offsets, end = [], 0
    for kind, count in parts:
        offsets.append(end)
        end += -(-count * np.dtype(kind).itemsize // LINE) * LINE
    return offsets, end


def emit_plain(problem: Problem, symbol: str, code: Code, parts: Sequence[Part], flat: bool = False) -> Emitted:
    """The kernel of one node; an argument lies as its type in the body says."""
    from .. import abi, tir
    from ..access import parameter as shaped

    def parameter(name: str, t: Type) -> tuple[str, str, tuple[int, ...]]:
        _, element, shape = shaped(name, t)
        return name, element, (max(1, t.size),) if flat else shape

    node, body = problem.anchor, problem.body
    inputs = [parameter(f"a{k}", v.type) for k, v in enumerate(body.inputs)]
    outputs = [parameter(f"r{k}", v.type) for k, v in enumerate(body.outputs)]
    held = [(f"s{k}", kind, n, at) for k, ((kind, n), at) in enumerate(zip(parts, _offsets(parts)[0], strict=True))]
    count = 1

    def statements(buffers: list[Any], begin: Expr, end: Expr) -> Stmt:
        nonlocal count
        first = dict(zip(body.inputs, buffers, strict=False))
        results = dict(zip(body.outputs, buffers[len(inputs) :], strict=False))
        tensors = Tensors(
            node,
            problem,
            tuple(first[a] for a in node.args),
            tuple(results[v] for v in node.results),
            tuple(buffers[len(inputs) + len(outputs) :]),
        )
        count, task = code(tensors)
        return tir.tasks(begin, end, task)

    function = abi.kernel(symbol, inputs + outputs, statements, pointer_bits=problem.target.pointer_bits, parts=held)
    return Emitted(function, max(1, count))
