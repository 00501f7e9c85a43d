"""The networkx view of a graph."""

from __future__ import annotations

import networkx as nx

import edgec.compiler.ops  # noqa: F401
from edgec.compiler.dataflow import SINK, to_networkx
from edgec.compiler.text import parse

SOURCE = """graph @g(%x: f32[2]) {
  %c = Const() {data=[1.0, 2.0]} : f32[2]
  %a = Relu(%x) : f32[2]
  %b = Mul(%a, %a) : f32[2]
  %d = Add(%a, %c) : f32[2]
  %y = Add(%b, %d) : f32[2]
  return %y, %d
}
"""


def test_edges_go_from_producer_to_consumer() -> None:
    graph = parse(SOURCE)
    flow = to_networkx(graph)
    by_name = {n.name: n for n in graph.nodes()}
    assert set(flow.nodes) == set(by_name.values())
    assert flow.edges[by_name["a"], by_name["b"]]["args"] == (0, 1)
    assert flow.edges[by_name["c"], by_name["d"]]["args"] == (1,)
    assert nx.is_directed_acyclic_graph(flow)
    assert set(to_networkx(graph, sources=False).nodes) == {by_name[n] for n in "abdy"}


def test_dominators_of_the_reversed_graph_are_post_dominators() -> None:
    graph = parse(SOURCE)
    by_name = {n.name: n for n in graph.nodes()}
    flow = to_networkx(graph, sink=True, sources=False)
    dominators = nx.immediate_dominators(flow.reverse(), SINK)
    assert dominators[by_name["b"]] is by_name["y"]
    assert dominators[by_name["d"]] == SINK and dominators[by_name["a"]] == SINK
