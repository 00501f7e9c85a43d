"""What the walk reads of a graphsurgeon graph: the numbers of constants, and the nodes in an order that can be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from ..errors import EdgecError


def constant_array(tensor: gs.Constant, where: str) -> npt.NDArray[Any]:
    """The numbers of an ONNX constant."""
    lazy = tensor._values
    if isinstance(lazy, gs.ir.tensor.SparseValues):
        raise EdgecError(f"{where}: is sparse; expected a dense tensor")
    try:
        lazily = isinstance(lazy, gs.ir.tensor.LazyValues)
        return np.asarray(onnx.numpy_helper.to_array(lazy.tensor) if lazily else lazy)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EdgecError(f"{where}: its data do not fit its shape {list(tensor.shape or [])}: {error}") from None


def plain(value: Any, where: str) -> Any:
    """An attribute as numbers, text or an array."""
    return constant_array(value, where) if isinstance(value, gs.Constant) else value


def reads(node: gs.Node) -> Iterator[str]:
    """Names of outer values that a node reads; those that its own graphs define hide outer ones."""
    for tensor in node.inputs:
        yield tensor.name
    for graph in (value for value in node.attrs.values() if isinstance(value, gs.Graph)):
        own = {t.name for t in graph.inputs} | {t.name for inner in graph.nodes for t in inner.outputs}
        read = [name for inner in graph.nodes for name in reads(inner)] + [t.name for t in graph.outputs]
        yield from (name for name in read if name not in own)


def ordered(graph: gs.Graph) -> list[gs.Node]:
    """The nodes, producers first: in the file's order where that will do. Raises `EdgecError` on a cycle."""
    producer = {t.name: k for k, node in enumerate(graph.nodes) for t in node.outputs if t.name}
    needs: Mapping[int, set[int]] = {
        k: {producer[name] for name in reads(node) if name in producer} for k, node in enumerate(graph.nodes)
    }
    if all(k > p for k, producers in needs.items() for p in producers):
        return list(graph.nodes)
    try:
        return [graph.nodes[k] for k in TopologicalSorter(needs).static_order()]
    except CycleError as error:
        names = " -> ".join(graph.nodes[k].name or graph.nodes[k].op for k in reversed(error.args[1]))
        raise EdgecError(f"the graph is cyclic: {names}") from None
