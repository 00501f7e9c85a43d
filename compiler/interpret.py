"""The interpreter: runs a graph node by node through the numpy meanings of the operator table.

It defines what every later stage must compute. Memory layouts are ignored: arrays are logical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from . import ops  # noqa: F401  (fills the operator table)
from .dtypes import of_numpy
from .errors import EdgecError, nearest
from .ir import Array, Graph, Value
from .op import const_array, evaluate

__all__ = ["interpret", "run", "trace"]


def interpret(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name. `feeds` holds every input by name, in its exact element type and shape."""
    outputs = run(graph, _in_order(graph, feeds))
    return {name: array for (name, _), array in zip(graph.results, outputs, strict=True)}


def trace(graph: Graph, feeds: Mapping[str, Array]) -> dict[Value, Array]:
    """Every value of the graph (kernels' insides excepted), constants included."""
    values = dict(zip(graph.inputs, _in_order(graph, feeds), strict=True))
    _walk(graph, values, {})
    return values


def run(graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs in order for inputs in order, unchecked; intermediate values are dropped after their last use."""
    values = dict(zip(graph.inputs, arrays, strict=True))
    _walk(graph, values, graph.uses())
    return tuple(values[v] for v in graph.outputs)


def _walk(graph: Graph, values: dict[Value, Array], uses: dict[Value, int]) -> None:
    """Fill `values`. A value is dropped when the reads counted in `uses` are done; without a count it stays."""
    for node in graph.nodes():
        if node.op == "Input":
            if Value(node) not in values:
                raise EdgecError(f"{node}: is read by the graph but is not one of its inputs")
        elif node.op == "Const":
            values[Value(node)] = const_array(Value(node))
        else:
            results = evaluate(node, [values[a] for a in node.args])
            values.update(zip(node.results, results, strict=True))
        for arg in node.args:
            if arg in uses:
                uses[arg] -= 1
                if not uses[arg]:
                    del values[arg]


def _in_order(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """The fed arrays in the order of the graph's inputs; an `EdgecError` names what does not fit."""
    known = [v.name for v in graph.inputs]
    for name in feeds:
        if name not in known:
            raise EdgecError(f"{name!r} is not an input{nearest(name, known)}")
    arrays = []
    for value in graph.inputs:
        if value.name not in feeds:
            raise EdgecError(f"input {value.name!r} is not fed; it is {value.type}")
        array = np.asarray(feeds[value.name])
        if of_numpy(array.dtype) != value.type.dtype or array.shape != value.shape:
            got = f"{of_numpy(array.dtype)}[{', '.join(map(str, array.shape))}]"
            raise EdgecError(f"input {value.name!r} is fed {got}; expected {value.type.dtype}{list(value.shape)}")
        arrays.append(array)
    return arrays
