"""The verifier: levels, stages, promises, and what its errors say. Level 1 is mostly in tests/eir/errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler import verify as module
from edgec.compiler.errors import IRError
from edgec.compiler.ir import Data, Graph, Node, Type, Value
from edgec.compiler.op import build
from edgec.compiler.text import parse
from edgec.compiler.verify import difference, fault, same_answers, seeded_inputs, stage_rule, verify

SOURCE = "graph @g(%x: f32[2]) {\n  %y = Relu(%x) : f32[2]\n  %z = Neg(%y) : f32[2]\n  return %z\n}\n"


def broken(op: str = "Neg", **changes: object) -> Graph:
    """SOURCE with its last node changed."""
    graph = parse(SOURCE)
    node = replace(graph.outputs[0].node, op=op, origin=("conv_1",), **changes)  # type: ignore[arg-type]
    return graph.with_values(graph.inputs, (Value(node),))


def test_level_0_accepts_anything() -> None:
    verify(broken("Nonsense"), 0)


def test_error_names_node_origin_and_shows_the_ir() -> None:
    with pytest.raises(
        IRError, match=r"^Neg 'z' \(from conv_1\): type says f32\[3\] but its arguments give f32\[2\]$"
    ) as caught:
        verify(broken(types=(Type("f32", (3,)),)))
    lines = caught.value.context.splitlines()
    at = lines.index("  %z = Neg(%y) : f32[3]  # from conv_1")
    assert lines[at + 1].startswith("  ^ type says")


def test_a_cycle_is_found() -> None:
    graph = parse(SOURCE)
    last = graph.outputs[0].node
    object.__setattr__(last.args[0].node, "args", (Value(last),))
    with pytest.raises(IRError, match="before it is made: the graph is cyclic"):
        verify(graph)


def test_a_graph_is_closed() -> None:
    graph = replace(parse(SOURCE), inputs=())
    with pytest.raises(IRError, match="Input 'x': is read but is not an input of this graph"):
        verify(graph)


def test_results_exist() -> None:
    graph = parse(SOURCE)
    with pytest.raises(IRError, match="output asks for result 1; it has 1"):
        verify(graph.with_values(graph.inputs, (Value(graph.outputs[0].node, 1),)))
    with pytest.raises(IRError, match=r"reads result 2 of Relu 'y'; it has 1"):
        verify(_reads_result(2))


def _reads_result(index: int) -> Graph:
    graph = parse(SOURCE)
    node = graph.outputs[0].node
    bad = replace(node, args=(Value(node.args[0].node, index),))
    return graph.with_values(graph.inputs, (Value(bad),))


def test_names_of_inputs_and_outputs_differ() -> None:
    graph = parse(SOURCE)
    twice = Graph("g", graph.inputs, graph.outputs * 2, ("a", "a"))
    with pytest.raises(IRError, match="two outputs are named 'a'"):
        verify(twice)
    with pytest.raises(IRError, match="1 output names for 2 outputs"):
        verify(replace(twice, output_names=("a",)))
    other = Value(Node("Input", (), (Type("f32", (2,)),), {}, "x"))
    with pytest.raises(IRError, match="two inputs are named 'x'"):
        verify(Graph("g", (*graph.inputs, other), graph.outputs))


def test_attributes_are_plain() -> None:
    with pytest.raises(IRError, match="attribute 'alpha' is a float32; expected bool, int, float"):
        verify(broken("LeakyRelu", attrs={"alpha": np.float32(1)}))


def test_constants_fit_their_types() -> None:
    node = Node("Const", (), (Type("f32", (2,)),), {"data": Data(np.zeros(2, np.int8))}, "c")
    with pytest.raises(IRError, match="type says f32 but its data is int8"):
        verify(Graph("g", (), (Value(node),)))
    node = replace(node, attrs={"data": Data(np.zeros(3, np.float32))})
    with pytest.raises(IRError, match=r"type says \[2\] but its data has shape \[3\]"):
        verify(Graph("g", (), (Value(node),)))
    with pytest.raises(IRError, match="a constant has data"):
        verify(Graph("g", (), (Value(replace(node, attrs={})),)))


def test_stage_rules_hold_from_their_stage_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGE_RULES", {})

    def no_neg(graph: Graph) -> None:
        for node in graph.nodes():
            if node.op == "Neg":
                raise fault(graph, node, "is still there; expected none after 'lower'")

    stage_rule("lower", no_neg)
    graph = parse(SOURCE)
    verify(graph, 2, stages=["canonicalize"])
    verify(graph, 1, stages=["canonicalize", "lower"])
    with pytest.raises(IRError, match="Neg 'z': is still there; expected none after 'lower'"):
        verify(graph, 2, stages=["canonicalize", "lower"])


def test_level_3_compares_answers() -> None:
    graph = parse(SOURCE)
    other = parse(SOURCE.replace("Relu", "Abs"))
    verify(other, 2, before=graph)
    with pytest.raises(
        IRError, match="output 'z' differs by .* where the largest magnitude is .*; expected at most 0.0001 of it"
    ):
        verify(other, 3, before=graph, promise="close")
    with pytest.raises(IRError, match="output 'z' differs in 1 of 2 elements; expected the same bits"):
        same_answers(graph, other, "exact", seed=3)
    verify(other, 3, before=graph, promise="lossy")
    with pytest.raises(IRError, match="output 'z' is gone; did you mean 'zz'"):
        same_answers(graph, replace(graph, output_names=("zz",)), "exact")


def test_difference() -> None:
    a = np.array([1, 2, np.nan, np.inf], np.float32)
    assert difference(a, a.copy(), "exact") == ""
    assert difference(a, a + np.float32(1e-5), "close") == ""
    assert "finite in other places" in difference(a, np.zeros(4, np.float32), "lossy")
    assert "was float32[4] and is now float32[3]" in difference(a, a[:3], "lossy")
    q = np.array([1, 2], np.int8)
    assert difference(q, q + np.int8(1), "close") == "" and difference(q, q + np.int8(1), "exact")
    assert difference(q.astype(np.int64), q.astype(np.int64) + 1, "close")
    assert difference(np.zeros(0, np.float32), np.zeros(0, np.float32), "exact") == ""


def test_inputs_are_seeded_and_typed() -> None:
    graph = parse("graph @g(%x: f32[4], %q: i8[100] q<0.5; 0>, %i: i64[100], %b: bool[9]) { return %x, %q, %i, %b }")
    feeds = seeded_inputs(graph, 7)
    assert all((feeds[k] == v).all() for k, v in seeded_inputs(graph, 7).items())
    assert feeds["q"].min() < -50 and set(feeds["i"].tolist()) == {0, 1} and feeds["b"].dtype == np.bool_


def test_round_trip_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse(SOURCE)
    monkeypatch.setattr(module, "parse", lambda text, data: parse(text.replace("Neg", "Abs"), data))
    with pytest.raises(IRError, match=r"does not read back to itself: '%z = Neg\(%y\) : f32\[2\]' became '%z = Abs"):
        verify(graph, 2)


def test_nested_graphs_may_share_names() -> None:
    x = Value(Node("Input", (), (Type("f32", (2,)),)))
    inner = Graph("k", (x,), (build("Relu", x), x))
    module.structure(inner, nested=True)
