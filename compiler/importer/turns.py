"""How many turns a loop makes whose condition counts, as TensorFlow's `while` does: known before the model runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from ..ir import Value
from ..op import const_array, is_const
from .context import Held, Unknown
from .convert import Walk
from .graphs import reads

MOST_COUNTED = 5000


def counted_turns(
    walk: Walk, body: gs.Graph, carried: Sequence[Held], limit: int | None, constant: Callable[[npt.ArrayLike], Value]
) -> int | None:
    """The number of turns of a loop that begins, `limit` at most, where its condition follows from constants and the
    number of the turn; None where it does not, or they are very many."""
    part, places = _condition_alone(body)
    state: list[Held | Unknown] = [carried[k] for k in places]
    names = [body.inputs[0].name, body.inputs[1].name, *(body.inputs[2 + k].name for k in places)]
    always, refused = constant(np.bool_(True)), len(walk.refusals)
    for turn in range(MOST_COUNTED if limit is None else min(limit, MOST_COUNTED)):
        if not all(isinstance(v, Value) and is_const(v) for v in state):
            return None
        values = dict(zip(names, [constant(np.int64(turn)), always, *state], strict=True))
        condition, *state = walk.branch(part, values)
        if not isinstance(condition, Value) or not is_const(condition):
            del walk.refusals[refused:]  # they are told where the loop itself is converted
            return None
        if not np.all(const_array(condition)):
            return turn + 1
    return limit if limit is not None and limit <= MOST_COUNTED else None


def _condition_alone(body: gs.Graph) -> tuple[gs.Graph, list[int]]:
    """The part of a body that its condition needs, and the places of what that part carries from turn to turn."""
    producer = {t.name: node for node in body.nodes for t in node.outputs if t.name}
    place = {t.name: k for k, t in enumerate(body.inputs[2:])}
    needed: set[str] = set()
    stack = [body.outputs[0].name]
    while stack:
        name = stack.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in producer:
            stack += reads(producer[name])
        elif name in place:
            stack.append(body.outputs[1 + place[name]].name)
    places = sorted(place[name] for name in needed if name in place)
    outputs = [body.outputs[0], *(body.outputs[1 + k] for k in places)]
    nodes = [node for node in body.nodes if any(t.name in needed for t in node.outputs)]
    return gs.Graph(nodes=nodes, inputs=body.inputs, outputs=outputs, opset=body.opset), places
