"""Closed graphs for the operators that own one: what is computed inside, and the outer values that it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..ir import Graph, Node, Type, Value
from ..op import is_const


def dependents(inputs: Sequence[Value], outputs: Sequence[Value]) -> set[Node]:
    """The nodes on the way to the outputs whose results depend on the inputs."""
    found = {v.node for v in inputs}
    for node in Graph("", tuple(inputs), tuple(outputs)).nodes():
        if any(a.node in found for a in node.args):
            found.add(node)
    return found


def outer_values(outputs: Sequence[Value], inside: Callable[[Node], bool]) -> list[Value]:
    """What a graph of the nodes that lie `inside` reads from outside, constants apart."""
    found: dict[Value, None] = {}
    seen: set[Value] = set()
    stack = list(reversed(outputs))
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if inside(value.node):
            stack += reversed(value.node.args)
        elif not is_const(value):
            found[value] = None
    return list(found)


def closed(
    name: str,
    inputs: Sequence[Value],
    outer: Sequence[Value],
    outputs: Sequence[Value],
    own: Callable[[Value], Value],
) -> Graph:
    """A graph of (inputs, outer values) to outputs. `own` copies a value, so that each output has memory of its own."""
    stand_in = {v: Value(Node("Input", (), (Type(v.type.dtype, v.shape),), {}, v.name)) for v in outer}
    new: dict[Value, Value] = {**{v: v for v in inputs}, **stand_in}
    stack = list(outputs)
    while stack:
        value = stack[-1]
        missing = [a for a in value.node.args if a not in new] if value not in new else []
        if missing:
            stack += missing
            continue
        stack.pop()
        if value not in new:
            made = replace(value.node, args=tuple(new[a] for a in value.node.args))
            unchanged = made.args == value.node.args
            for old, result in zip(value.node.results, (value.node if unchanged else made).results, strict=True):
                new.setdefault(old, result)
    results: list[Value] = []
    taken = {*inputs, *stand_in.values()}
    for value in outputs:
        result = own(new[value]) if new[value] in taken or is_const(new[value]) else new[value]
        taken.add(result)
        results.append(result)
    names = tuple(f"result{k}" for k in range(len(results)))
    return Graph(name, (*inputs, *stand_in.values()), tuple(results), names)
