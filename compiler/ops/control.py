"""If and Loop: nodes that own graphs. What these read from outside comes as the node's last arguments.

If(condition, outer...): both graphs take the outer values; the one that is picked gives the results.

Loop(turns, condition, carried..., outer...): the body takes (number of the turn, carried..., outer...) and gives
(condition, carried..., stacked...). It runs while the condition holds, at most `turns` times; both are looked at before
each turn. Results: the number of turns, the carried values, and each stacked one as [limit, ...], whose entries beyond
the last turn are zero. `limit` -1: there is no bound, and nothing is stacked. A Scan is a Loop that reads slices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import dtype
from ..errors import IRError
from ..ir import Graph, Node, Type, Value
from ..op import REQUIRED, int_attr, op
from .common import Tensor

FLAGS = 64  # bytes at the start of a Loop's block in the arena: whether another turn follows, and its condition
INDEX, FLAG = Type("i64", ()), Type("bool", ())


def graphs_of(node: Node) -> dict[str, Graph]:
    """The graphs that a control node owns, by attribute."""
    return {key: value for key, value in node.attrs.items() if isinstance(value, Graph)}


def first_outer(node: Node) -> int:
    """The position of the first argument that the graphs of a control node read as an outer value."""
    return 1 if node.op == "If" else 2 + int_attr(node, "carried")


def inputs_of(node: Node) -> tuple[Value, ...]:
    """The values in whose place the inputs of a control node's graphs lie: a Loop's turn and state in its results'."""
    own = node.results[: 1 + int_attr(node, "carried")] if node.op == "Loop" else ()
    return (*own, *node.args[first_outer(node) :])


def _plain(t: Type) -> tuple[str, tuple[int, ...]]:
    return t.dtype, t.shape


def _takes(graph: Graph, types: tuple[Type, ...]) -> None:
    given, wanted = [_plain(t) for t in types], [_plain(v.type) for v in graph.inputs]
    if given != wanted:
        raise IRError(f"graph @{graph.name} takes {wanted}; it is given {given}")


def _branched(condition: Type, *outer: Type, then_branch: Graph, else_branch: Graph, **_: Any) -> tuple[Type, ...]:
    if _plain(condition) != _plain(FLAG):
        raise IRError(f"the condition is {condition}; expected {FLAG}")
    for graph in (then_branch, else_branch):
        _takes(graph, outer)
    one, other = ([_plain(v.type) for v in g.outputs] for g in (then_branch, else_branch))
    if one != other:
        raise IRError(f"the branches give {one} and {other}; expected the same types")
    return tuple(Type(*plain) for plain in one)


def _branch(condition: Tensor, *outer: Tensor, then_branch: Graph, else_branch: Graph, **_: Any) -> tuple[Any, ...]:
    from ..interpret import run  # the interpreter reads this table

    return run(then_branch if condition else else_branch, outer)


def _looped(
    turns: Type, condition: Type, *rest: Type, body: Graph, carried: int, limit: int, **_: Any
) -> tuple[Type, ...]:
    if (_plain(turns), _plain(condition)) != (_plain(INDEX), _plain(FLAG)):
        raise IRError(f"turns and condition are {turns}, {condition}; expected {INDEX}, {FLAG}")
    _takes(body, (INDEX, *rest))
    types = [v.type for v in body.outputs]
    if not types or _plain(types[0]) != _plain(FLAG):
        raise IRError(f"the body's first result is {types[:1]}; expected {FLAG}")
    kept, stacked = types[1 : 1 + carried], types[1 + carried :]
    if [_plain(t) for t in kept] != [_plain(t) for t in rest[:carried]]:
        raise IRError(f"carried values begin as {rest[:carried]} and become {kept}; expected the same types")
    if stacked and limit < 0:
        raise IRError("stacks results without a bound on the number of turns")
    return (INDEX, *(Type(*_plain(t)) for t in kept), *(Type(t.dtype, (limit, *t.shape)) for t in stacked))


def _loop(
    turns: Tensor, condition: Tensor, *rest: Tensor, body: Graph, carried: int, limit: int, **_: Any
) -> tuple[Any, ...]:
    from ..interpret import run

    state, outer = list(rest[:carried]), rest[carried:]
    stacks = [np.zeros((limit, *v.shape), dtype(v.type.dtype).numpy) for v in body.outputs[1 + carried :]]
    last = int(turns) if limit < 0 else min(int(turns), limit)
    turn, go = 0, bool(condition)
    while go and turn < last:
        results = run(body, [np.asarray(turn, np.int64), *state, *outer])
        go, state = bool(results[0]), list(results[1 : 1 + carried])
        for stack, value in zip(stacks, results[1 + carried :], strict=True):
            stack[turn] = value
        turn += 1
    return np.asarray(turn, np.int64), *state, *stacks


op(
    "If",
    (1, -1),
    _branched,
    _branch,
    kind="control",
    attrs={"then_branch": REQUIRED, "else_branch": REQUIRED, "arena": (), "scratch_at": 0},
)
op(
    "Loop",
    (2, -1),
    _looped,
    _loop,
    kind="control",
    attrs={"body": REQUIRED, "carried": 0, "limit": -1, "arena": (), "scratch_at": 0},
)
