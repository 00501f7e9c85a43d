"""Tables of embeddings in 8 bits: whole numbers, and a scale per row that is looked up beside it.

Of a language model they are half of the bytes or more, and each run reads a few rows only, so that widening these costs
next to nothing. A row's error is that of weights with a scale per channel.
"""

from __future__ import annotations

import numpy as np

from ..ir import Graph, Node, Value
from ..layers import constant
from ..op import build, const, int_attr
from .weights import MOST

LEAST = 4096  # elements of a table that is worth it


def narrow_tables(graph: Graph) -> tuple[Graph, int]:
    """The graph with its tables in 8 bits, and how many these are."""
    tables: dict[Value, tuple[Value, Value]] = {}
    lookups = {node for node in graph.nodes() if _looks_up(node)}
    kept = {a for node in graph.nodes() if node not in lookups for a in node.args} | set(graph.outputs)

    def narrowed(node: Node) -> Value | None:
        if not _looks_up(node) or node.args[0] in kept:
            return None
        table, index = node.args
        if table not in tables:
            tables[table] = _narrow(table)
        whole, scale = (build("Gather", part, index, axis=0, origin=node.origin) for part in tables[table])
        return build("Mul", build("Cast", whole, to="f32"), scale, origin=node.origin, label=node.name)

    made = graph.map(narrowed)
    return made, len(tables)


def _looks_up(node: Node) -> bool:
    """Whether a node takes rows of a constant table by computed numbers."""
    if node.op != "Gather" or int_attr(node, "axis") != 0 or node.types[0].dtype != "f32":
        return False
    table, index = (constant(a) for a in node.args)
    if table is None or index is not None or table.ndim != 2 or table.size < LEAST:
        return False
    return bool(np.isfinite(table).all())


def _narrow(table: Value) -> tuple[Value, Value]:
    """Rows in whole numbers, and the scale of each."""
    rows = constant(table)
    assert rows is not None
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / MOST, 1e-30).astype(np.float32)
    whole = np.clip(np.rint(rows / scale), -MOST, MOST).astype(np.int8)
    return const(whole, f"{table.name}.q", table.node.origin), const(scale, f"{table.name}.scale", table.node.origin)
