"""Computes at compile time what depends on constants only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Data, Graph, Node, Type, Value
from edgec.compiler.op import OPS, const_array, evaluate, is_const
from edgec.compiler.ops.control import first_outer, graphs_of, inputs_of
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.session import Session

# Integer weights with their scales are what integer kernels need; folded, they would be floats of four times the size.
KEPT = ("QuantizeLinear", "DequantizeLinear")


@graph_pass("fold", promise=exact, after={"canonicalize": "it makes operators on constants out of others"})
def fold(graph: Graph, *, max_bytes: int = 1 << 16, session: Session) -> Graph:
    """Computes operators on constants; results larger than `max_bytes` only if no larger than what they replace."""
    session.known_rules.add("fold")

    def computed(node: Node) -> tuple[Value, ...] | None:
        if (
            not node.args
            or not all(map(is_const, node.args))
            or node.op in KEPT
            or OPS[node.op].kind in ("source", "control")
        ):
            return None
        if any(t.layout or t.q for t in node.types) or node.op.startswith("Edgec."):
            return None
        size, replaced = sum(map(_bytes, node.types)), sum(_bytes(a.type) for a in dict.fromkeys(node.args))
        if size > max(max_bytes, replaced):
            if session.wants_why("fold"):
                session.explain("fold", node, f"{size} bytes would stand for {replaced}")
            return None
        if not session.step("fold", node):
            return None
        results = evaluate(node, [const_array(a) for a in node.args])
        return tuple(
            _constant(node, index, np.ascontiguousarray(array).reshape(t.shape))
            for index, (array, t) in enumerate(zip(results, node.types, strict=True))
        )

    return constants_inside(graph.map(computed))


def constants_inside(graph: Graph) -> Graph:
    """Constants that the graphs of a control node read from outside stand in these graphs instead."""

    def moved(node: Node) -> tuple[Value, ...] | None:
        if OPS[node.op].kind != "control":
            return None
        first = first_outer(node)
        known = {k - first: a for k, a in enumerate(node.args) if k >= first and is_const(a)}
        if not known:
            return None
        before = len(inputs_of(node)) - (len(node.args) - first)  # inputs that stand for no outer value
        inside = {before + k: a for k, a in known.items()}
        graphs = {key: _with_constants(value, inside) for key, value in graphs_of(node).items()}
        kept = tuple(a for k, a in enumerate(node.args) if k - first not in known)
        return replace(node, args=kept, attrs={**node.attrs, **graphs}).results

    return graph.map(moved) if any(OPS[n.op].kind == "control" for n in graph.nodes()) else graph


def _with_constants(graph: Graph, known: Mapping[int, Value]) -> Graph:
    """The graph without the inputs that are known."""
    stand_in = {graph.inputs[k]: value for k, value in known.items()}

    def placed(node: Node) -> Value | None:
        return stand_in.get(Value(node)) if node.op == "Input" else None

    new = graph.map(placed)
    kept = tuple(v for k, v in enumerate(new.inputs) if k not in known)
    return new.with_values(kept, new.outputs)


def _bytes(t: Type) -> int:
    return t.size * dtype(t.dtype).bytes


def _constant(node: Node, index: int, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Value:
    name = Value(node, index).name if node.name else ""
    return Value(Node("Const", (), (node.types[index],), {"data": Data(array)}, name, node.origin))
