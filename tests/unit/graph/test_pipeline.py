"""Pipelines as text, order of passes, options, and what a run records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler.eir_file import read_eir
from edgec.compiler.errors import EdgecError, IRError
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build
from edgec.compiler.pipeline import (
    PASSES,
    close,
    exact,
    find_pass,
    graph_pass,
    lossy,
    parse_pipeline,
    run_pipeline,
    show_pipeline,
)
from edgec.compiler.session import Session
from edgec.compiler.text import parse, show

SOURCE = """graph @g(%x: f32[2]) {
  %a = Relu(%x) : f32[2]
  %b = Relu(%a) : f32[2]
  return %b
}
"""


@pytest.fixture(autouse=True)
def passes() -> Iterator[None]:
    """Passes for these tests alone."""

    @graph_pass("t-first", promise=exact)
    def first(graph: Graph) -> Graph:
        """Does nothing."""
        return graph

    @graph_pass("t-abs", promise=lossy, after={"t-first": "it likes company"})
    def to_abs(
        graph: Graph,
        *,
        count: int = 9,
        rate: float = 0.5,
        keep: bool = False,
        mode: Literal["fast", "slow"] = "fast",
        note: str | None = None,
        session: Session,
    ) -> Graph:
        """Replaces Relu by Abs."""
        session.note(f"count={count!r} rate={rate!r} keep={keep!r} mode={mode!r} note={note!r}")

        def visit(node: Node) -> Value | None:
            if node.op != "Relu" or not session.step("to_abs", node):
                return None
            return build("Abs", *node.args, label=node.name)

        return graph if keep else graph.map(visit)

    @graph_pass("t-silent", promise=lossy, needs=("t-first",))
    def silent(graph: Graph) -> Graph:
        """Changes everything without counting."""
        return graph.map(lambda n: build("Neg", *n.args, label=n.name) if n.op == "Relu" else None)

    @graph_pass("t-required", promise=lossy, required=True)
    def required(graph: Graph) -> Graph:
        """Cannot be left out."""
        return graph.map(lambda n: build("Neg", *n.args, label=n.name) if n.op == "Relu" else None)

    @graph_pass("t-wrong", promise=close)
    def wrong(graph: Graph, *, how: str) -> Graph:
        """Breaks its promise, or the graph."""
        if how == "answers":
            return graph.map(lambda n: build("Neg", *n.args, label=n.name) if n.op == "Relu" else None)
        if how == "outputs":
            return replace(graph, outputs=graph.inputs, output_names=("other",))
        if how == "raise":
            raise ZeroDivisionError("by zero")
        bad = Node("Relu", graph.inputs, (Type("f32", (2,)),), {"odd": 1}, "bad", ("conv_7",))
        return graph.with_values(graph.inputs, (Value(bad),))

    yield
    for name in [n for n in PASSES if n.startswith("t-")]:
        del PASSES[name]


def test_text_reads_back() -> None:
    text = 't-first, t-abs{count=3, rate=0.25, keep=true, mode=slow, note="a, b"}'
    stages = parse_pipeline(text)
    assert stages[1].options == {"count": 3, "rate": 0.25, "keep": True, "mode": "slow", "note": "a, b"}
    assert parse_pipeline(show_pipeline(stages)) == stages
    assert parse_pipeline("t-abs{count=3 rate=1}")[0].options == {"count": 3, "rate": 1.0}
    assert parse_pipeline("t-abs{note=none}")[0].options == {"note": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t-frist", "unknown pass 't-frist'; did you mean 't-first'"),
        ("t-abs{cuont=1}", "pass 't-abs': unknown option 'cuont'; did you mean 'count'"),
        ("t-first{a=1}", "pass 't-first': unknown option 'a'; it has none"),
        ("t-abs{count=0.5}", "pass 't-abs': option 'count' is a whole number; got '0.5'"),
        ("t-abs{keep=maybe}", "pass 't-abs': option 'keep' is true or false; got 'maybe'"),
        ("t-abs{mode=slwo}", "option 'mode' is 'fast' or 'slow'; got 'slwo'"),
        ("t-wrong", r"option 'how' \(a word\) is required"),
        ("t-abs, t-first", r"pass 't-abs' must come after 't-first' \(it likes company\)"),
        ("t-silent", "pass 't-silent' needs 't-first' before it"),
        ("t-silent, t-first", "pass 't-silent' must come after 't-first'"),
        ("t-first t-abs", "pipeline 't-first t-abs': column 9: unexpected"),
        ("t-first, t-abs{", "column 16: the text ends too early"),
        ("t-first@t-abs", r"write \+t-first@t-abs"),
        ("t-first, +t-abs", r"\+t-abs does not say after which pass; write \+t-abs@PASS"),
        ("t-first, +t-abs@t-fist", "pass 't-fist' is not in it; did you mean 't-first'"),
        ("t-first, -t-abs", "pass 't-abs' is not in it"),
    ],
)
def test_errors_are_one_line(text: str, message: str) -> None:
    with pytest.raises(EdgecError, match=message) as caught:
        parse_pipeline(text)
    assert "\n" not in str(caught.value)


def test_edits_apply_to_the_spec_or_the_default() -> None:
    assert (
        show_pipeline(parse_pipeline("t-first, t-silent, +t-abs{count=2}@t-first"))
        == "t-first, t-abs{count=2}, t-silent"
    )
    assert show_pipeline(parse_pipeline("+t-abs@t-first, -t-silent", "t-first, t-silent")) == "t-first, t-abs"
    assert show_pipeline(parse_pipeline("", "t-first")) == "t-first"
    assert parse_pipeline("") == []


def test_options_reach_the_pass_and_notes_come_back() -> None:
    session = Session()
    graph = run_pipeline(parse(SOURCE), "t-first, t-abs{count=3, keep=on}", session)
    assert session.notes == ["t-abs: count=3 rate=0.5 keep=True mode='fast' note=None"]
    assert [name for name, _ in session.times] == ["t-first", "t-abs"]
    assert show(graph) == SOURCE


def test_a_pass_that_does_not_count_is_one_rewrite() -> None:
    session = Session()
    run_pipeline(parse(SOURCE), "t-first, t-silent", session)
    assert [str(s) for s in session.steps] == ["t-silent >> all >> g"]
    session = Session(limit=0)
    assert show(run_pipeline(parse(SOURCE), "t-first, t-silent", session)) == SOURCE
    assert "Neg" in show(run_pipeline(parse(SOURCE), "t-required", Session(limit=0)))


def test_limit_counts_over_passes() -> None:
    session = Session(limit=1)
    graph = run_pipeline(parse(SOURCE), "t-first, t-abs, t-silent", session)
    assert [n.op for n in graph.nodes()] == ["Input", "Abs", "Relu"]


@pytest.mark.parametrize(
    ("how", "level", "message"),
    [
        ("answers", 3, "output 'b' differs by"),
        ("outputs", 1, "the outputs changed from"),
        ("structure", 1, r"Relu 'bad' \(from conv_7\): unknown attribute 'odd'"),
    ],
)
def test_verifier_runs_after_each_pass(how: str, level: int, message: str) -> None:
    with pytest.raises(IRError, match=message) as caught:
        spec = f"t-wrong{{how={how}}}" if how == "answers" else f"t-first, t-abs, t-wrong{{how={how}}}"
        run_pipeline(parse(SOURCE), spec, Session(verify=level))
    (note,) = caught.value.__notes__
    assert f"t-wrong{{how={how}}}; last: " in note
    if how != "answers":
        assert note == f"in pass 3 of 3, t-wrong{{how={how}}}; last: rewrite 3: t-wrong >> all >> g"


def test_a_failing_pass_from_elsewhere_is_no_defect_of_edgec() -> None:
    with pytest.raises(EdgecError, match="'t-wrong' of module '.*test_pipeline' fails: ZeroDiv") as caught:
        run_pipeline(parse(SOURCE), "t-wrong{how=raise}")
    assert caught.value.__notes__ == ["in pass 1 of 1, t-wrong{how=raise}; last: no rewrite"]


def test_graphs_are_printed_and_dumped(tmp_path: Path) -> None:
    said: list[str] = []
    session = Session(print_after=frozenset({"t-abs"}), out=said.append, dump=tmp_path / "dump")
    graph = run_pipeline(parse(SOURCE), "t-first, t-abs", session)
    assert said == ["# after t-abs\n" + show(graph)]
    assert sorted(p.name for p in (tmp_path / "dump").iterdir()) == ["00-start.eir", "01-t-first.eir", "02-t-abs.eir"]
    assert show(read_eir(tmp_path / "dump" / "02-t-abs.eir")) == show(graph)


def test_a_pass_is_found_by_its_file() -> None:
    assert find_pass("canonicalize").fn.__module__ == "edgec.passes.canonicalize"
    assert find_pass("fold").promise == exact


def test_registration_checks_itself() -> None:
    with pytest.raises(ValueError, match="'t-first' is defined twice: in .*test_pipeline and in .*test_pipeline"):
        graph_pass("t-first", promise=exact)(lambda graph: graph)
    with pytest.raises(ValueError, match="'depth' is not a keyword argument of bool, int, float or str"):

        @graph_pass("t-odd", promise=exact)
        def odd(graph: Graph, *, depth: list[int]) -> Graph:
            return graph

    with pytest.raises(ValueError, match="pass 'T odd': a pipeline cannot name it; expected small letters"):
        graph_pass("T odd", promise=exact)(lambda graph: graph)


def test_a_pass_that_returns_nothing_is_named() -> None:
    @graph_pass("t-forgets", promise=lossy)
    def forgets(graph: Graph) -> None:
        graph.map(lambda node: None)

    with pytest.raises(EdgecError, match="'t-forgets' of module '.*test_pipeline' returns None; expected a Graph"):
        run_pipeline(parse(SOURCE), "t-forgets")
