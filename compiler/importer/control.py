"""If: a condition that is constant picks its branch; any other makes a node that owns both.

A result whose size along one axis depends on data, or on the branch, has the largest size; its count is a result too.
"""

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
from .selection import source
from .table import CONTROL, Count, Refused


def branches(walk: Walk, node: gs.Node, context: Context) -> Sequence[Held | Unknown | None]:
    condition = context.arg(0)
    if condition.type.size != 1:
        raise EdgecError(f"{context.where}: its condition is {condition.type}; expected one truth value")
    if is_const(condition):
        return walk.branch(node.attrs["then_branch" if bool(np.all(const_array(condition))) else "else_branch"], {})
    sides = {key: _branch(walk, node.attrs[key], condition) for key in ("then_branch", "else_branch")}
    results = {key: [_tensor(value, key) for value in values] for key, (values, _) in sides.items()}
    if any(value is None for values in results.values() for value in values):
        return [Unknown()] * len(node.outputs)  # refused inside
    known = {key: [v for v in values if v is not None] for key, values in results.items()}
    counted = _counted(walk, list(known.values()))
    for k, axis in counted.items():
        bound = max(values[k].shape[axis] for values in known.values())
        for key, (_, inside) in sides.items():
            (known[key][k], number), made = _filled(walk, context, known[key][k], axis, bound)
            known[key].append(number)
            inside |= made
    outer: dict[Value, None] = {}
    for key, (_, inside) in sides.items():
        outer.update(dict.fromkeys(outer_values(known[key], inside.__contains__)))
    graphs: dict[str, Graph] = {key: closed(key, (), list(outer), values, walk.copy) for key, values in known.items()}
    found = list(context.emit_all("If", context.reshape(condition, ()), *outer, **graphs))
    numbers = [found.pop() for _ in counted]
    for (k, axis), number in zip(counted.items(), reversed(numbers), strict=True):
        found[k] = context.sized(found[k], Count(axis, number, source(context)))
    return found


def _counted(walk: Walk, sides: Sequence[Sequence[Value]]) -> dict[int, int]:
    """The axis of each result whose size depends on data or on the branch; `Refused` where types differ otherwise."""
    found: dict[int, int] = {}
    for k, pair in enumerate(zip(*sides, strict=True)):
        axes = {count.axis for v in pair if (count := walk.counts.get(v))}
        shapes = [v.shape for v in pair]
        if len({len(shape) for shape in shapes}) == 1:
            axes |= {axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1}
        if len({(v.type.dtype, len(v.shape)) for v in pair}) > 1 or len(axes) > 1:
            shown = " and ".join(", ".join(str(v.type) for v in values) for values in sides)
            help = "expected types that differ along one axis only; --bind or --shape may fix its condition"
            raise Refused(f"its branches give {shown}", help)
        found |= dict.fromkeys([k] if axes else [], next(iter(axes), 0))
    return found


def _filled(walk: Walk, context: Context, value: Value, axis: int, bound: int) -> tuple[list[Value], set[Node]]:
    """A branch's result with padding up to a size, and how much of it is there; and the nodes written for them."""
    before, count = walk.made, walk.counts.get(value)
    walk.made = set()
    number = count.value if count else context.const(np.int64(value.shape[axis]))
    pads = [0] * (2 * len(value.shape))
    pads[len(value.shape) + axis] = bound - value.shape[axis]
    padded = context.emit("Pad", value, pads=tuple(pads)) if any(pads) else value
    made = [v for v in walk.publish(context, [padded, number]) if isinstance(v, Value)]
    written, walk.made = walk.made, before | walk.made
    return made, written


def _branch(walk: Walk, graph: gs.Graph, condition: Value) -> tuple[list[Held | Unknown], set[Node]]:
    """A branch's results, and the nodes that were written for it."""
    before, walk.made = walk.made, set()
    try:
        values = walk.branch(graph, {})
        return values, walk.made
    except EdgecError as error:
        raise type(error)(f"{error}{_fixed_by(condition)}") from error.__cause__
    finally:
        walk.made = before | walk.made


def _fixed_by(condition: Value) -> str:
    """Which option makes a condition that hangs on single numbers a constant, so that one branch only is read."""
    nodes = Graph("condition", (), (condition,)).nodes()
    inputs = [n for n in nodes if n.op == "Input"]
    if not inputs or any(n.types[0].size > 1 for n in inputs):
        return ""
    flags = " ".join(f"--bind {n.name}=VALUE" for n in inputs)
    return f"; this stands in a branch of an If, which {flags} decides: of a branch not taken nothing is read"


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
