"""Graphs and single nodes as ONNX models of the newest opset that the exporter writes."""

from __future__ import annotations

from dataclasses import replace

import onnx

from edgec.compiler.exporter import NoForm, export_model
from edgec.compiler.exporter.opset import NEWEST
from edgec.compiler.ir import Graph, Node, Value

__all__ = ["NoForm", "model", "single"]


def model(graph: Graph) -> onnx.ModelProto:
    """The graph as an ONNX model with the same names of inputs and outputs."""
    return export_model(graph, NEWEST)


def single(node: Node) -> onnx.ModelProto:
    """A model of one node, its arguments `a0`, `a1` ... and its results `r0`, `r1` ..."""
    inputs = tuple(Value(Node("Input", (), (a.type,), {}, f"a{k}")) for k, a in enumerate(node.args))
    alone = replace(node, args=inputs)
    return model(Graph("one", inputs, alone.results, tuple(f"r{k}" for k in range(len(node.types)))))
