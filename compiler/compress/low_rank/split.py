"""Puts the pieces of layers in their places: the weights of a form, the bias that makes up for the mean, the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ...ir import Graph, Node, Type, Value
from ...layers import Layer
from ...op import const, const_array, evaluate
from ...ops.common import Tensor
from ..repair.moments import Spread
from .decompose import Solver
from .forms import Form
from .pieces import Piece, chain, weights_of


@dataclass(frozen=True)
class Split:
    """A layer in pieces: `weights` of each, and the bias behind the last; `error` is a share of its results' energy.
    Without weights it has the shapes only."""

    layer: Layer
    form: Form
    weights: tuple[Tensor, ...] | None
    bias: Tensor | None
    error: float


def split(layer: Layer, form: Form, spread: Spread, solver: Solver | None = None) -> Split:
    """The pieces of a form. Their bias makes up for what they lose of the results' mean."""
    solver = solver or form.method.solver(weights_of(layer), spread.covariance)
    weights = tuple(np.ascontiguousarray(w, np.float32) for w in solver.factors(form.rank))
    bias = layer.bias
    if bias is not None:
        whole = weights_of(layer)
        lost = whole.reshape(len(whole), -1) @ spread.mean
        lost = lost - applied(form.pieces, weights, spread.mean.reshape(1, *whole.shape[1:]))[0]
        bias = (bias + lost).astype(np.float32)
    return Split(layer, form, weights, bias, solver.error(form.rank))


def outline(layer: Layer, form: Form) -> Split:
    """A layer in pieces of which only the shapes are known."""
    return Split(layer, form, None, layer.bias, 0.0)


def applied(pieces: Sequence[Piece], weights: Sequence[Tensor], windows: Tensor) -> Tensor:
    """[N, outputs] of pieces at one position each, which reads a window of [N, inputs, *window]."""
    x = Value(Node("Input", (), (Type("f32", windows.shape),), {}, "x"))
    rank = len(pieces[0].window)
    plain = [
        p if p.matrix else replace(p, strides=(1,) * rank, pads=(0,) * 2 * rank, dilations=(1,) * rank) for p in pieces
    ]
    found: Tensor = np.asarray(windows, np.float32)
    for node in chain(x, plain, weights):
        found = evaluate(node, [found, *map(const_array, node.args[1:])])[0].astype(np.float32)
    return found.reshape(len(windows), -1).astype(np.float64)


def composed(pieces: Sequence[Piece], weights: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Weights of the one layer of a shape that pieces together are."""
    size = prod(shape[1:])
    return applied(pieces, weights, np.eye(size, dtype=np.float32).reshape(size, *shape[1:])).T.reshape(shape)


def split_graph(graph: Graph, splits: Sequence[Split]) -> tuple[Graph, dict[Node, Node]]:
    """The graph with layers in pieces; and what every node has become, of a layer its last piece."""
    made: dict[Node, Node] = {}
    wanted = {s.layer.node: s for s in splits}
    adds = {s.layer.value.node: s for s in splits if s.layer.value.node != s.layer.node and s.bias is not None}

    def instead(old: Node, args: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if old in wanted:
            one = wanted[old]
            bias = one.bias if old.op != "MatMul" else None
            return chain(args[0], one.form.pieces, one.weights, bias, one.layer.node.name, old.origin)[-1].results
        if old in adds:
            return replace(old, args=_with_bias(old, adds[old], args)).results
        return None

    return rebuilt(graph, instead, made), made


def _with_bias(add: Node, one: Split, args: tuple[Value, ...]) -> tuple[Value, ...]:
    assert one.bias is not None
    place = 1 - add.args.index(Value(one.layer.node))
    old = add.args[place]
    bias = one.bias.reshape(old.shape) if old.type.size == one.bias.size else one.bias
    other = const(bias, old.node.name, old.node.origin)
    return (args[0], other) if place else (other, args[1])


def rebuilt(
    graph: Graph,
    fn: Callable[[Node, tuple[Value, ...]], Sequence[Value] | None],
    made: dict[Node, Node] | None = None,
) -> Graph:
    """As `Graph.map`, but `fn` sees each node of the graph itself, and its rebuilt arguments; `made` gets what each
    node has become."""
    new: dict[Value, Value] = {}
    for old in graph.nodes():
        args = tuple(new[a] for a in old.args)
        results = fn(old, args)
        if results is None:
            results = (old if args == old.args else replace(old, args=args)).results
        new.update(zip(old.results, results, strict=True))
        if made is not None:
            made[old] = results[0].node
    return _with(graph, new)


def _with(graph: Graph, new: Mapping[Value, Value]) -> Graph:
    return graph.with_values(tuple(new[v] for v in graph.inputs), tuple(new[v] for v in graph.outputs))
