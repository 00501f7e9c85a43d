"""If: a condition that is constant picks its branch; any other makes a node that owns both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from ..errors import EdgecError
from ..ir import Graph, Node, Value
from ..op import const_array, is_const
from .bodies import closed, outer_values
from .context import Context, Held, Unknown
from .convert import Walk
from .table import CONTROL, Refused


def branches(walk: Walk, node: gs.Node, context: Context) -> Sequence[Held | Unknown | None]:
    condition = context.arg(0)
    if condition.type.size != 1:
        raise EdgecError(f"{context.where}: its condition is {condition.type}; expected one truth value")
    if is_const(condition):
        return walk.branch(node.attrs["then_branch" if bool(np.all(const_array(condition))) else "else_branch"], {})
    sides = {key: _branch(walk, node.attrs[key]) for key in ("then_branch", "else_branch")}
    results = {key: [_tensor(value, key) for value in values] for key, (values, _) in sides.items()}
    if any(value is None for values in results.values() for value in values):
        return [Unknown()] * len(node.outputs)  # refused inside
    known = {key: [v for v in values if v is not None] for key, values in results.items()}
    types = {key: [str(v.type) for v in values] for key, values in known.items()}
    if types["then_branch"] != types["else_branch"]:
        shown = " and ".join(", ".join(t) for t in types.values())
        raise Refused(f"its branches give {shown}", "expected the same types; --bind or --shape may fix its condition")
    outer: dict[Value, None] = {}
    for key, (_, inside) in sides.items():
        outer.update(dict.fromkeys(outer_values(known[key], inside.__contains__)))
    graphs: dict[str, Graph] = {key: closed(key, (), list(outer), values, walk.copy) for key, values in known.items()}
    return context.emit_all("If", context.reshape(condition, ()), *outer, **graphs)


def _branch(walk: Walk, graph: gs.Graph) -> tuple[list[Held | Unknown], set[Node]]:
    """A branch's results, and the nodes that were written for it."""
    before, walk.made = walk.made, set()
    try:
        values = walk.branch(graph, {})
        return values, walk.made
    finally:
        walk.made = before | walk.made


def _tensor(value: Held | Unknown, what: str) -> Value | None:
    """None for what was refused already."""
    if isinstance(value, Unknown):
        return None
    if not isinstance(value, Value):
        raise Refused(
            f"its {what} gives a sequence or an optional", "--bind or --shape may make its condition a constant"
        )
    return value


CONTROL["If"] = branches
