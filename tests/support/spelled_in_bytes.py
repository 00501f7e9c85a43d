"""Models that spell products of bytes in 32 bits: what becomes of them, and what their kernels give."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.driver import compile_graph
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph, Node
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.program import Step
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.targets.builder import Builder
from tests.e2e.models import needs
from tests.fuzz.play import play


def integers_of(graph: Graph, target: str = "x86") -> Graph:
    session = Session(target=find_target(target), verify=3)
    return run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), session)


def nodes_of_bytes(graph: Graph, feeds: Any, target: str) -> dict[str, Node]:
    """Nodes by operator, of a graph that still gives the same."""
    whole = integers_of(graph, target)
    np.testing.assert_array_equal(interpret(whole, feeds)["y"], interpret(graph, feeds)["y"])
    return {node.op: node for node in whole.nodes()}


def steps_of_bytes(graph: Graph, feeds: Any, target: str) -> tuple[Step, ...]:
    """Steps of a program that gives the bits of the interpreter."""
    described = find_target(target)
    needs(described)
    program = compile_graph(graph, Session(target=described, verify=2), Builder(ahead=False, workers=1))
    np.testing.assert_array_equal(play(program, feeds)["y"], interpret(graph, feeds)["y"])
    return tuple(program.steps)
