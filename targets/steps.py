"""The order of steps: kernels as the graph has them, and for If and Loop the branches and copies around their graphs.

Copies, counters and branches are kernels of the runtime (`ec_copy` ... in edgec.h). A branch goes on `jump` steps
further, or back, where its flag is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import OPS, const, int_attr
from edgec.compiler.program import Ref

Place = Callable[[Value], Ref]


@dataclass(frozen=True)
class Line:
    """A step: a kernel node, or a kernel of the runtime (`symbol`; none: a branch) with its arguments and tasks."""

    node: Node
    what: str = ""
    symbol: str = ""
    args: tuple[Ref, ...] = ()
    tasks: int = 1
    jump: int = 0
    nested: bool = False


def lines(g: Graph, place: Place, nested: bool = False) -> list[Line]:
    """All steps of a planned graph. `place` says where a value lies, and puts constants among the weights."""
    found: list[Line] = []
    for node in g.nodes():
        if node.op == "Edgec.Kernel":
            found.append(Line(node, nested=nested))
        elif OPS[node.op].kind == "control":
            found += _If(node, place).lines() if node.op == "If" else _Loop(node, place).lines()
    return found


@dataclass(frozen=True)
class _Control:
    node: Node
    place: Place

    def graph(self, key: str) -> Graph:
        value = self.node.attrs[key]
        assert isinstance(value, Graph)
        return value

    def branch(self, flag: Ref, jump: int, what: str) -> Line:
        return Line(self.node, what, "", (flag,), 1, jump)

    def always(self, jump: int, what: str) -> Line:
        return self.branch(self.place(const(np.bool_(False))), jump, what)

    def copies(self, to: Sequence[Value], values: Sequence[Value], what: str) -> Iterator[Line]:
        for target, value in zip(to, values, strict=True):
            yield from self.copy(self.place(target), value, what)

    def copy(self, to: Ref, value: Value, what: str) -> Iterator[Line]:
        if size := storage_bytes(value.type):
            yield Line(self.node, what, "ec_copy", (to, self.place(value)), size)


class _If(_Control):
    """flag ? then, copies, jump : else, copies."""

    def lines(self) -> list[Line]:
        then, other = (self._side(key) for key in ("then_branch", "else_branch"))
        return [
            self.branch(self.place(self.node.args[0]), len(then) + 2, "if"),
            *then,
            self.always(len(other) + 1, "end of then"),
            *other,
        ]

    def _side(self, key: str) -> list[Line]:
        graph = self.graph(key)
        return [
            *lines(graph, self.place, nested=True),
            *self.copies(self.node.results, graph.outputs, key.partition("_")[0]),
        ]


class _Loop(_Control):
    """State and counter begin; while another turn follows: body, copies of the state, entries of the stacks."""

    def lines(self) -> list[Line]:
        node, body, carried = self.node, self.graph("body"), int_attr(self.node, "carried")
        at = int_attr(node, "scratch_at")
        more, flag, count = Ref("arena", at), Ref("arena", at + 1), self.place(node.results[0])
        turns, condition, *state = node.args[: 2 + carried]
        kept, stacks = node.results[1 : 1 + carried], node.results[1 + carried :]
        before = [
            *self.copy(count, const(np.int64(0)), "begin"),
            *self.copy(flag, condition, "begin"),
            *self.copies(kept, state, "begin"),
            *(Line(node, "begin", "ec_clear", (self.place(s),), storage_bytes(s.type)) for s in stacks if s.type.size),
        ]
        after, next_state, entries = body.outputs[0], body.outputs[1 : 1 + carried], body.outputs[1 + carried :]
        inside = [
            *lines(body, self.place, nested=True),
            *self.copies(kept, next_state, "state"),
            *(line for s, e in zip(stacks, entries, strict=True) for line in self._stack(s, e, count)),
            *self.copy(flag, after, "condition"),
            Line(node, "next", "ec_next", (count,)),
        ]
        test = Line(node, "turn", "ec_more", (more, count, self.place(turns), flag))
        back = -(len(inside) + 2)
        return [*before, test, self.branch(more, len(inside) + 2, "turn"), *inside, self.always(back, "back")]

    def _stack(self, stack: Value, entry: Value, count: Ref) -> Iterator[Line]:
        if size := storage_bytes(entry.type):
            length = self.place(const(np.int64(size)))
            yield Line(self.node, "stack", "ec_put", (self.place(stack), self.place(entry), count, length), size)
