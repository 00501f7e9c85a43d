"""A graph as a networkx digraph, for questions about paths and dominators."""

from __future__ import annotations

from typing import Any, TypeAlias

from .ir import Graph

DiGraph: TypeAlias = Any  # networkx.DiGraph, whose package has no types

SINK = "outputs"


def to_networkx(graph: Graph, *, sink: bool = False, sources: bool = True) -> DiGraph:
    """Nodes are the `Node` records, edges go from producer to consumer and list the arguments' positions in `args`.

    `sink` adds one node `SINK` behind all outputs: dominators of the reversed digraph, started there, are the nodes
    that every path to an output passes. Without `sources`, constants and inputs are left out.
    """
    import networkx  # 0.1 s that most commands do not need

    out: DiGraph = networkx.DiGraph(name=graph.name)
    kept = [n for n in graph.nodes() if sources or n.op not in ("Input", "Const")]
    out.add_nodes_from((n, {"op": n.op, "name": n.name}) for n in kept)
    for node in kept:
        for position, arg in enumerate(node.args):
            if arg.node in out:
                places = out.edges[arg.node, node]["args"] if out.has_edge(arg.node, node) else ()
                out.add_edge(arg.node, node, args=(*places, position))
    if sink:
        out.add_node(SINK, op=SINK, name=SINK)
        out.add_edges_from((v.node, SINK) for v in graph.outputs if v.node in out)
    return out
