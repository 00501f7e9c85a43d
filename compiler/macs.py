"""Multiply-accumulates of a graph: what convolutions and matrix multiplications cost, whatever the kernel."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from .ir import Graph, Node


def _attention(batch: Any, sizes: Any) -> int:
    s, t, d, e = sizes
    return int(prod(batch) * s * t * (d + e))


def _conv(n: Node) -> int:
    return n.types[0].size * prod(n.args[1].shape[1:])


def _matmul(n: Node) -> int:
    return n.types[0].size * n.args[0].shape[-1]


_COUNT: dict[str, Callable[[Node], int]] = {
    "Conv": _conv,
    "Edgec.ConvInteger": _conv,
    "ConvTranspose": lambda n: n.args[0].type.size * prod(n.args[1].shape[1:]),
    "Edgec.Attention": lambda n: _attention(n.attrs["batch"], n.attrs["sizes"]),
    "MatMul": _matmul,
    "Edgec.MatMulInteger": _matmul,
    **{f"Edgec.{op}": lambda n: n.args[0].type.size * n.args[1].shape[1] for op in ("RNN", "GRU", "LSTM")},
}


def macs(graph: Graph) -> int:
    """Of all nodes, nested bodies included."""
    total = 0
    for node in graph.nodes():
        body = node.attrs.get("body")
        total += macs(body) if isinstance(body, Graph) else _COUNT[node.op](node) if node.op in _COUNT else 0
    return total
