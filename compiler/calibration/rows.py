"""Which numbers inputs may hold: those that are read as places in a table lie within it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..ir import Graph, Node, Value
from ..op import int_attr

_MOVES = ("Cast", "Reshape", "Transpose", "Expand")  # places are the same numbers behind these


@dataclass(frozen=True)
class Rows:
    """A node that reads rows of a table at an input's numbers: -count to count - 1."""

    node: str
    count: int


def rows_read(graph: Graph) -> dict[str, Rows]:
    """By input, the smallest table whose rows it names."""
    found: dict[str, Rows] = {}
    for name, rows in _reads(graph):
        if name not in found or rows.count < found[name].count:
            found[name] = rows
    return found


def _reads(graph: Graph) -> Iterator[tuple[str, Rows]]:
    for node in graph.nodes():
        if node.op != "Gather":
            continue
        table, places = node.args
        source = _source(places)
        if source.op == "Input":
            yield source.name, Rows(node.name, table.shape[int_attr(node, "axis")])


def _source(value: Value) -> Node:
    node = value.node
    while node.op in _MOVES:
        node = node.args[0].node
    return node
