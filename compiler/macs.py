"""Multiply-accumulates of a graph: what convolutions and matrix multiplications cost, whatever the kernel."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from .ir import Graph, Node


def _attention(batch: Any, sizes: Any) -> int:
    s, t, d, e = sizes
    return int(prod(batch) * s * t * (d + e))


_COUNT: dict[str, Callable[[Node], int]] = {
    **dict.fromkeys(("Conv", "Edgec.ConvInteger"), lambda n: n.types[0].size * prod(n.args[1].shape[1:])),
    "ConvTranspose": lambda n: n.args[0].type.size * prod(n.args[1].shape[1:]),
    "Edgec.Attention": lambda n: _attention(n.attrs["batch"], n.attrs["sizes"]),
    **dict.fromkeys(("MatMul", "Edgec.MatMulInteger"), lambda n: n.types[0].size * n.args[0].shape[-1]),
    **{f"Edgec.{op}": lambda n: n.args[0].type.size * n.args[1].shape[1] for op in ("RNN", "GRU", "LSTM")},
}


def node_macs(node: Node) -> int:
    """Of one node, without what it owns."""
    return _COUNT[node.op](node) if node.op in _COUNT else 0


def macs(graph: Graph) -> int:
    """Of all nodes, nested bodies included."""
    total = 0
    for node in graph.nodes():
        body = node.attrs.get("body")
        total += macs(body) if isinstance(body, Graph) else node_macs(node)
    return total
