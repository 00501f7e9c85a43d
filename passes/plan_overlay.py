"""Which result may lie over the value that it is computed from: written from the front where the value was read before.

A region in patches reads its source from the first row to the last and writes its result likewise. What a patch writes
lies where no later patch reads, if the result begins early enough: so both need hardly more memory than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgec.compiler.ir import Node, Value
from edgec.compiler.layout import storage_bytes

ALIASES = frozenset({"Edgec.View", "Edgec.Turn", "Edgec.Part", "Edgec.Sized"})


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
