"""Bisection finds the one rewrite that breaks a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.compiler.bisect import bisect, command, same_as
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import build
from edgec.compiler.pipeline import PASSES, graph_pass, lossy
from edgec.compiler.session import Session
from edgec.compiler.text import parse, show

SOURCE = (
    "graph @g(%x: f32[64]) {\n"
    + "".join(f"  %r{i} = {'Abs' if i == 13 else 'Relu'}(%{f'r{i - 1}' if i else 'x'}) : f32[64]\n" for i in range(20))
    + "  return %r19\n}\n"
)


@pytest.fixture(autouse=True)
def buggy() -> Iterator[None]:
    """A pass that is right about Relu and wrong about Abs."""

    @graph_pass("t-buggy", promise=lossy)
    def rewrite(graph: Graph, *, session: Session) -> Graph:
        """Replaces Relu by Clip, and Abs by Neg, which is wrong."""

        def visit(node: Node) -> Value | None:
            if node.op == "Input" or not session.step("mistake" if node.op == "Abs" else "fine", node):
                return None
            if node.op == "Abs":
                return build("Neg", *node.args, label=node.name)
            return build("Clip", *node.args, label=node.name, min=0.0)

        return graph.map(visit)

    yield
    del PASSES["t-buggy"]


def test_the_first_bad_rewrite_is_named() -> None:
    graph = parse(SOURCE)
    tried: list[tuple[int, bool]] = []
    found = bisect(graph, "t-buggy", same_as(graph, 1e-3), progress=lambda n, good: tried.append((n, good)))
    assert found is not None
    assert (str(found.step), found.step.number, found.total) == ("t-buggy >> mistake >> r13", 14, 20)
    assert "Abs" in show(found.before) and found.after is not None and "Abs" not in show(found.after)
    assert len(tried) <= 8 and tried[0] == (20, False)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    graph = parse(SOURCE.replace("Abs", "Relu"))
    assert bisect(graph, "t-buggy", same_as(graph, 1e-3)) is None


def test_a_check_that_fails_at_once_blames_no_pass() -> None:
    with pytest.raises(EdgecError, match="fails before any rewrite; no pass is to blame"):
        bisect(parse(SOURCE), "t-buggy", lambda graph: False)


def test_a_pass_that_crashes_is_bisected_too() -> None:
    graph = parse(SOURCE)

    @graph_pass("t-crash", promise=lossy)
    def crash(graph: Graph, *, session: Session) -> Graph:
        """Divides by zero at its twelfth rewrite."""
        return graph.map(lambda n: 1 // 0 if n.op != "Input" and session.step("odd", n) and n.name == "r11" else None)

    try:
        found = bisect(graph, "t-crash", same_as(graph, 1e-3))
    finally:
        del PASSES["t-crash"]
    assert found is not None and found.step.node == "r11" and found.after is None
    assert f"'t-crash' of module '{__name__}' fails: ZeroDivisionError: integer division" in found.error


def test_commands_check_files(tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text("import sys\nsys.exit('Neg(' in open(sys.argv[1]).read())\n")
    found = bisect(parse(SOURCE), "t-buggy", command(f"{sys.executable} {script}"))
    assert found is not None and found.step.node == "r13"
    with pytest.raises(EdgecError, match="'/no/such/program' cannot be run"):
        command("/no/such/program")(parse(SOURCE))
    with pytest.raises(EdgecError, match="the check command is empty"):
        command(" ")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "g.eir"
    path.write_text(SOURCE)
    assert main(["bisect", str(path), "--passes", "t-buggy", "--dump", str(tmp_path / "around")]) == 1
    out = capsys.readouterr().out
    assert out == "rewrite 14 of 20 breaks it: t-buggy >> mistake >> r13\n"
    assert sorted(p.name for p in (tmp_path / "around").iterdir()) == ["after.eir", "before.eir"]
    assert main(["bisect", str(path), "--passes", "t-buggy", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found == {"number": 14, "rewrite": "t-buggy >> mistake >> r13", "total": 20, "error": ""}
    path.write_text(SOURCE.replace("Abs", "Relu"))
    assert main(["bisect", str(path), "--passes", "t-buggy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is None
    assert main(["bisect", str(path), "--passes", "t-buggy"]) == 0
    assert "the check holds after all rewrites" in capsys.readouterr().out
    assert main(["bisect", str(path)]) == 1
    assert "which passes? give --passes or --target" in capsys.readouterr().err
