"""Which result may lie over the value that it is computed from: written from the front where the value was read before.

A region in patches reads its source from the first row to the last and writes its result likewise. What a patch writes
lies where no later patch reads, if the result begins early enough: so both need hardly more memory than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgec.compiler.ir import Node, Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.memory.arena import Buffer

ALIASES = frozenset({"Edgec.View", "Edgec.Turn", "Edgec.Part", "Edgec.Sized"})


@dataclass(eq=False)
class Cluster:
    """Values in one buffer, each at its byte offset within it."""

    offsets: dict[Value, int]
    bytes: int
    first: int
    last: int
    pinned: bool = False  # holds a join, an input or an output: nothing may be written over it early
    name: str = ""
    outside: bool = False  # an input of a nested graph: it has a place already


Unit = list[tuple[Cluster, int]]  # clusters that lie together, each at its offset: a value and what is made of it


def buffer_of(unit: Unit) -> Buffer:
    """What a unit needs: where two lie together the first as long as it lives, then the second."""
    cluster, by = unit[0]
    if len(unit) == 1:
        return Buffer(cluster.name, cluster.bytes, cluster.first, cluster.last)
    over = unit[1][0]
    size = max(cluster.bytes + by, over.bytes)
    return Buffer(cluster.name, size, cluster.first, cluster.last, over.bytes, over.last)


@dataclass(frozen=True)
class Touch:
    """Bytes start .. stop-1 of a buffer, read or written in a step."""

    step: int
    start: int
    stop: int


def shift(reads: Sequence[Touch], writes: Sequence[Touch], align: int) -> int:
    """How far in front of the value the result must begin, so that nothing is written over before it is read."""
    room = [r.start - w.stop for w in writes for r in reads if r.step >= w.step]
    return -(min([0, *room]) // align) * align


def touches(
    nodes: Sequence[Node], step: Mapping[Node, int], at: Mapping[Value, int]
) -> tuple[list[Touch], list[Touch]]:
    """Reads and writes by kernels of the values of one buffer, which lie there `at` these offsets."""
    reads: list[Touch] = []
    writes: list[Touch] = []
    for node in nodes:
        if node not in step or not (at.keys() & {*node.args, *node.results}):
            continue
        for values, found in ((dict.fromkeys(node.args), reads), (node.results, writes)):
            found += [Touch(step[node], at[v], at[v] + storage_bytes(v.type)) for v in values if v in at]
    return reads, writes


def one_value(values: Sequence[Value]) -> bool:
    """Whether all values of a buffer are one and what shows its bytes."""
    return sum(value.node.op not in ALIASES for value in values) == 1


def overlaid(
    clusters: Sequence[Cluster],
    joins: Sequence[Cluster],
    nodes: Sequence[Node],
    step: Mapping[Node, int],
    align: int,
) -> list[Unit]:
    """Clusters that are placed together: a join in patches and the value that its parts read last."""
    pairs: dict[Cluster, tuple[Cluster, int]] = {}
    for result in joins:
        for source in clusters:
            fits = not source.pinned and result.first < source.last < result.last and source.first <= result.first
            if fits and source not in pairs and one_value(list(source.offsets)):
                writes = touches(nodes, step, result.offsets)[1]
                by = shift(touches(nodes, step, source.offsets)[0], writes, align)
                if by < min(result.bytes, source.bytes):
                    pairs[source] = result, by
                    break
    joined = {result for result, _ in pairs.values()}
    together: list[Unit] = [[(source, by), (result, 0)] for source, (result, by) in pairs.items()]
    return together + [[(c, 0)] for c in clusters if c not in pairs and c not in joined]
