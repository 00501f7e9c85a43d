"""Walks a graph and a changed form of it on samples, node after node: each value is computed once, also where both
graphs have it, and dropped after its last use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...calibration.data import Calibration
from ...ir import Graph, Node, Value
from ...macs import macs
from ...op import const_array, evaluate, is_const
from ...ops.common import Tensor

Feeds = Sequence[Mapping[str, Tensor]]
Key = tuple[Value, bool]  # a value, and whether it is the changed graph's own
MOST = 512
MACS = 3e11  # multiplications that a walk may take
BYTES = 1 << 30  # that the values of all samples may take at a time


def samples(data: Calibration, graph: Graph, most: int = MOST) -> Feeds:
    """Samples spread evenly over the data: as many as a walk over the graph has time and room for."""
    room = min(MACS / max(2 * macs(graph), 1), BYTES / max(2 * _most_alive(graph), 1))
    wanted = max(1, min(most, max(int(room), 8)))
    count = sum(1 for _ in data.feeds())
    step = -(-count // wanted)
    return [feed for number, feed in enumerate(data.feeds()) if number % step == 0]


def _most_alive(graph: Graph) -> int:
    """Bytes of the values that are alive at a time, of one sample."""
    uses, alive, most = graph.uses(), 0, 0
    for node in graph.nodes():
        if not is_const(Value(node)):
            alive += sum(v.type.size for v in node.results)
            most = max(most, alive)
        for arg in node.args:
            uses[arg] -= 1
            if not uses[arg] and not is_const(arg):
                alive -= arg.type.size
    return 4 * most


@dataclass(frozen=True)
class Step:
    """A node to compute: of the changed graph (`own`), or of the one before; `also`: values read with it."""

    node: Node
    own: bool
    args: tuple[Key, ...]
    also: tuple[Key, ...] = ()

    @property
    def reads(self) -> tuple[Key, ...]:
        return self.args + self.also


def steps(
    before: Graph,
    after: Graph,
    ends: Mapping[Node, Value],
    changed: Collection[Node] = (),
    besides: Mapping[Node, Value] | None = None,
) -> Iterator[Step]:
    """What to compute, in the order of `after`, up to the `ends`: nodes of it, each with a value of `before` that is
    known by then, and one of `after` that comes earlier in its order (`besides`), if any. Nodes of both graphs that no
    `changed` node leads to count as the graph's before."""
    besides = besides or {}
    part = set(Graph(after.name, after.inputs, (*map(Value, ends), *besides.values())).nodes())
    known, seen, same = set(before.nodes()), set[Node](), set[Node]()

    def needed(value: Value) -> Iterator[Step]:
        for node in Graph("", (), (value,)).nodes():
            if node not in seen:
                seen.add(node)
                yield Step(node, False, tuple((a, False) for a in node.args))

    for node in (n for n in after.nodes() if n in part):
        if node in known and node not in changed and node not in ends and all(a.node in same for a in node.args):
            same.add(node)
            continue
        args = tuple((a, a.node not in same) for a in node.args)
        also: tuple[Key, ...] = ((ends[node], False),) if node in ends else ()
        if node in besides:
            also += ((besides[node], besides[node].node not in same),)
        for value, own in args + also:
            if not own:
                yield from needed(value)
        yield Step(node, True, args, also)


class Walk:
    """Runs steps. `visit(step, arrays of what it reads)` sees each before it is computed and may give other arrays for
    constants, by place of the argument."""

    def __init__(self, plan: Sequence[Step], feeds: Feeds) -> None:
        self.plan, self.feeds = plan, feeds
        self.values: dict[Key, Sequence[Tensor]] = {}
        self.left: dict[Key, int] = {}
        for key in (key for step in plan for key in step.reads):
            self.left[key] = self.left.get(key, 0) + 1

    def run(self, visit: Callable[[Step, list[Sequence[Tensor]]], Mapping[int, Tensor]]) -> None:
        """All steps."""
        for step in self.plan:
            arrays = [self.values[key] for key in step.reads]
            instead = visit(step, arrays) if step.own else {}
            made = self._results(step.node, arrays[: len(step.args)], instead)
            for value, results in zip(step.node.results, made, strict=True):
                if (value, step.own) in self.left:
                    self.values[value, step.own] = results
            for key in step.reads:
                self.left[key] -= 1
                if not self.left[key]:
                    del self.values[key]

    def _results(
        self, node: Node, args: Sequence[Sequence[Tensor]], instead: Mapping[int, Tensor]
    ) -> list[Sequence[Tensor]]:
        if node.op == "Input":
            return [[feed[node.name] for feed in self.feeds]]
        if node.op == "Const":
            return [[const_array(Value(node))] * len(self.feeds)]
        rows = []
        for number in range(len(self.feeds)):
            rows.append(evaluate(node, [instead.get(k, column[number]) for k, column in enumerate(args)]))
        return [list(column) for column in zip(*rows, strict=True)]
