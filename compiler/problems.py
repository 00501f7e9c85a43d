"""The kernels of a fused graph as problems for the registry, and the names under which equal ones are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

import numpy as np

from .ir import Attr, Data, Graph, Node, Type, Value
from .layout import storage_bytes
from .op import OPS, body_of, is_const
from .registry import Problem
from .rescale.bounds import gentle, narrows, near, reach, rounds
from .target import Target

COLD = "cold"  # a setting of the session: weights come from memory at each run, whatever a graph alone would say
MOST_FILLED = 0.7  # of a constant whose zeros may be left out
LEAST = 256  # its elements


def problems(g: Graph, target: Target, threads: int, cold: bool = False) -> dict[Node, Problem]:
    """What each `Edgec.Kernel` of a graph must compute, in order. `cold`: the graph is part of a model that is."""
    weights = sum(storage_bytes(n.types[0]) for n in g.nodes() if n.op == "Const")
    cold = cold or weights > max(target.cpu.l2, target.cpu.l3)
    found = {}
    for node in (n for n in g.nodes() if n.op == "Edgec.Kernel"):
        constants = frozenset(i for i, a in enumerate(node.args) if is_const(a))
        body = body_of(node)
        found[node] = Problem(body, target, threads, constants, cold, tuple(_sparse(node.args)), reach(body, node.args))
    return found


def _sparse(args: Sequence[Value]) -> Iterator[tuple[int, Data]]:
    """Matrices of many zeros among constant arguments."""
    for i, value in enumerate(args):
        data = value.node.attrs.get("data") if is_const(value) else None
        if isinstance(data, Data) and len(value.shape) > 1 and value.type.size >= LEAST and filled(data) <= MOST_FILLED:
            yield i, data


def filled(data: Data) -> float:
    """Share of a constant's elements that are not zero."""
    return float(np.count_nonzero(data.array)) / max(data.array.size, 1)


def distinct(known: Mapping[Node, Problem]) -> list[tuple[Problem, list[Node]]]:
    """Each problem once, with the kernels that pose it."""
    found: dict[str, tuple[Problem, list[Node]]] = {}
    for node, problem in known.items():
        found.setdefault(signature(problem), (problem, []))[1].append(node)
    return list(found.values())


def signature(problem: Problem) -> str:
    """Equal for problems that take equally long: operator, shapes, attributes, and which operators are fused to it.

    `Conv f32[1, 3, 8, 8] *f32[4, 3, 3, 3] *f32[4] -> f32[1, 4, 6, 6] {strides=(1, 1)} with Relu, Add(f32[1, 4, 6, 6])`;
    a star marks a constant; of one with many zeros it says how many numbers are none.
    """
    body, anchor = problem.body, problem.anchor
    position = {value: i for i, value in enumerate(body.inputs)}
    share: dict[int | None, str] = {i: f" {100 * filled(data):.0f} % filled" for i, data in problem.sparse}

    def shown(t: Type, at: int | None) -> str:
        return f"{'*' if at in problem.constants else ''}{t.dtype}{list(t.shape)}{share.get(at, '')}"

    args = [shown(a.type, position.get(a)) for a in anchor.args]
    attrs = ", ".join(f"{k}={_value(v)}" for k, v in sorted(anchor.attrs.items()))
    others = []
    for node in body.nodes():
        if node is not anchor and OPS[node.op].kind != "source":
            read = [shown(a.type, position[a]) for a in node.args if a in position]
            others.append(f"{node.op}({' '.join(read)})" if read else node.op)
    text = f"{anchor.op} {' '.join(args)} -> {' '.join(shown(t, None) for t in anchor.types)} {{{attrs}}}"
    text += f" with {', '.join(others)}" if others else ""
    text += "".join(f" within {bits} bits" for bits in near(problem.reach))
    text += " rounds" if rounds(problem.reach) else ""
    text += " real" if isfinite(problem.reach.real) else ""
    text += " gentle" if gentle(problem.reach) else ""
    text += " narrow" if narrows(problem.reach) else ""
    text += " table without {} and {} sixteenths".format(*problem.reach.ends) if any(problem.reach.ends) else ""
    text += " cold" if problem.cold and problem.constants else ""
    return text + (f" on {problem.threads} threads" if problem.threads > 1 else "")


def _value(value: Attr) -> str:
    return f"{value.array.tolist()}" if isinstance(value, Data) else str(value)
