"""Branches and loops, whose graphs are a few elementwise nodes on a value from outside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.ops.common import FLOATS

from ..draw import Draw
from . import recipe

_PLAIN = ("Relu", "Neg", "Tanh", "Sigmoid", "Abs")


def computed(d: Draw) -> Value:
    return d.pick(lambda t: t.dtype in FLOATS and t.size > 0, lambda: Type(d.dtype(FLOATS), d.shape(most=300)))


def truth(d: Draw, x: Value) -> Value:
    """One truth value that hangs on `x`, or an input."""
    if d.flag(0.3):
        return d.fresh(Type("bool", ()), constant=0.2)
    total = d.emit("ReduceSum", x, axes=tuple(range(len(x.shape))), keepdims=0) if x.shape else x
    return d.emit("Less", total, d.constant(0.3, x.type.dtype))


def changed(d: Draw, value: Value, others: Sequence[Value]) -> Value:
    """A few nodes on a value of a graph."""
    for k in range(d.integer(1, 3)):
        kind = d.integer(0, 2)
        if kind == 0:
            value = build(d.choice(_PLAIN), value, label=f"p{k}")
        elif kind == 1 and others:
            value = build(d.choice(("Add", "Sub", "Max")), value, d.choice(others), label=f"o{k}")
        else:
            half = const(np.full((), 0.5, dtype(value.type.dtype).numpy), f"h{k}")
            value = build("Mul", value, half, label=f"m{k}")
    return value


def own(name: str, t: Type) -> Value:
    return Value(Node("Input", (), (Type(t.dtype, t.shape),), {}, name))


@recipe("If", weight=0.7)
def branch(d: Draw, op: str) -> None:
    x = computed(d)
    others = [v for v in d.values if v.type == x.type and v != x][-1:]
    graphs = []
    for name in ("then", "else"):
        inputs = [own(f"a{k}", v.type) for k, v in enumerate((x, *others))]
        graphs.append(Graph(name, tuple(inputs), (changed(d, inputs[0], inputs[1:]),)))
    d.emit(op, truth(d, x), x, *others, then_branch=graphs[0], else_branch=graphs[1])


@recipe("Loop", weight=0.7)
def loop(d: Draw, op: str) -> None:
    """A state and perhaps an outer value; every turn's state may be stacked."""
    x = computed(d)
    others = [v for v in d.values if v.type == x.type and v != x][-1:]
    turn = own("turn", Type("i64", ()))
    inputs = [own(f"s{k}", v.type) for k, v in enumerate((x, *others))]
    state = changed(d, inputs[0], inputs[1:])
    on = build("Less", turn, const(np.full((), d.integer(0, 5), np.int64)), label="on")
    stacked = (build("Neg", state, label="stacked"),) if d.flag() else ()
    body = Graph("body", (turn, *inputs), (on, state, *stacked))
    limit = d.integer(0, 4)
    turns = d.hold(np.asarray(limit, np.int64), 0.6)
    go = d.fresh(Type("bool", ()), constant=0.2) if d.flag(0.3) else d.constant(True)
    d.emit_all(op, turns, go, x, *others, body=body, carried=1, limit=max(limit, 1))
