"""The rule language and the rewriting engine. What single rules do is in tests/eir."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler.errors import EdgecError, IRError
from edgec.compiler.ir import Graph, QParams, Value
from edgec.compiler.rewrite import Sweep, python_rule, rewrite
from edgec.compiler.rules.helpers import GUARDS, HELPERS, guard, helper
from edgec.compiler.rules.language import load_rules, parse_rules
from edgec.compiler.session import Session
from edgec.compiler.text import parse, show
from edgec.compiler.verify import verify

SOURCE = """graph @g(%x: f32[2]) {
  %a = Relu(%x) : f32[2]
  %b = Relu(%a) : f32[2]
  %c = Relu(%b) : f32[2]
  return %c
}
"""


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes() if n.op not in ("Input", "Const")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r: Rellu(x) => x", r"r.rules:1: unknown operator 'Rellu'; did you mean 'Relu'\?"),
        ("\n\nr: Relu(x) where cons(x) => x", r"r.rules:3: unknown guard 'cons'; did you mean 'const'\?"),
        ("r: Relu(x)\n => x * flatt(x)", r"r.rules:2: unknown helper 'flatt'; did you mean 'flat'\?"),
        ("r: Relu(input) => imput", r"r.rules:1: 'imput' is not bound by the pattern; did you mean 'input'\?"),
        ("r: Relu(x) where const(y) => x", "r.rules:1: 'y' is not bound by the pattern; known: x"),
        ("r: Relu(x) => Relu(x){**c}", "r.rules:1: 'c' is not bound by the pattern"),
        ("r: LeakyRelu(x){alfa=1.0} => x", r"r.rules:1: LeakyRelu has no attribute 'alfa'; did you mean 'alpha'\?"),
        ("r: Relu(x, y) => x", r"r.rules:1: Relu takes 1 argument\(s\), not 2"),
        ("r: x => x", "r.rules:1: rule 'r': the pattern must be an operator"),
        (
            "r: Relu(relu(x)) => x",
            r"r.rules:1: relu\(...\) in a pattern; operators are Capitalised; did you mean 'Relu'\?",
        ),
        ("r: c@Relu(x){**c} => x", r"r.rules:1: '\*\*' copies attributes in a replacement"),
        ("r: Relu(x) => y@Relu(x)", "r.rules:1: 'y@' binds in a pattern"),
        ("r: Relu(x) => Relu|Abs(x)", r"r.rules:1: alternatives Relu\|Abs in a replacement"),
        ("r: Relu(x) => x\nr: Abs(x) => x", "r.rules:2: rule 'r' stands at r.rules:1 already"),
        ("r: Relu(x) => ", "r.rules:1: syntax error: the text ends too early"),
        ("ok: Abs(x) => x\nr: Relu(x) -> x", "r.rules:2: syntax error: unexpected"),
    ],
)
def test_errors_name_file_line_and_nearest(text: str, message: str) -> None:
    with pytest.raises(EdgecError, match=message) as caught:
        parse_rules(text, "r.rules")
    assert "\n" not in str(caught.value)


def test_absent_file() -> None:
    with pytest.raises(EdgecError, match="none.rules: cannot be read"):
        load_rules(Path("none.rules"))


def test_rewrites_are_numbered_and_named() -> None:
    session = Session(pass_name="tidy")
    graph = rewrite(parse(SOURCE), parse_rules("relu_relu: Relu(r@Relu(_)) => r"), session)
    assert ops(graph) == ["Relu"]
    assert [str(s) for s in session.steps] == ["tidy >> relu_relu >> b", "tidy >> relu_relu >> c"]
    assert [s.number for s in session.steps] == [1, 2] and session.counters == {"relu_relu": 2}
    assert graph.output_names == ("c",)


def test_first_rule_of_the_file_wins() -> None:
    rules = parse_rules("one: Relu(x) => Abs(x)\ntwo: Relu(x) => Neg(x)")
    assert ops(rewrite(parse(SOURCE), rules)) == ["Abs"] * 3


def test_limit_refuses_all_later_rewrites() -> None:
    session = Session(limit=2)
    graph = rewrite(parse(SOURCE), parse_rules("abs: Relu(x) => Abs(x)"), session)
    assert ops(graph) == ["Abs", "Abs", "Relu"] and session.refused


def test_uses_are_counted_in_the_graph_as_rewritten() -> None:
    text = """graph @g(%x: f32[2]) {
  %a = Neg(%x) : f32[2]
  %r = Relu(%a) : f32[2]
  %s = Abs(%a) : f32[2]
  %t = Add(%r, %s) : f32[2]
  return %t
}
"""
    rules = parse_rules("drop: Abs(Neg(x)) => Abs(x)\nonly: Relu(n@Neg(x)) where one_use(n) => Sigmoid(x)")
    said: list[str] = []
    session = Session(why_rules=frozenset({"only"}), why=said.append)
    graph = rewrite(parse(text), rules, session)
    assert ops(graph) == ["Sigmoid", "Abs", "Add"]
    assert said == ["only at r: n has 2 uses"]  # in the first sweep; in the second, Abs no longer reads it


def test_counts_equal_a_recount_after_every_sweep() -> None:
    rng = np.random.default_rng(0)
    lines, names = [], ["x"]
    for i in range(120):
        op = ["Relu", "Neg", "Abs", "Add", "Mul"][rng.integers(5)]
        args = [names[-1 - int(rng.integers(min(6, len(names))))] for _ in range(2 if op in ("Add", "Mul") else 1)]
        lines.append(f"  %v{i} = {op}({', '.join('%' + a for a in args)}) : f32[2]")
        names.append(f"v{i}")
    graph = parse("graph @g(%x: f32[2]) {\n" + "\n".join(lines) + f"\n  return %{names[-1]}, %{names[-5]}\n}}\n")
    rules = parse_rules(
        "a: Relu(r@Relu(_)) => r\nb: Neg(Neg(x)) => x\nc: Abs(Neg(x)) => Abs(x)\nd: Add(x, x) => x * 2.0\n"
        "e: Abs(Mul(x, x)) => x * x\nf: Abs(a@Abs(_)) => a\ng: Relu(a@Abs(_)) => a"
    )
    checked = []

    @python_rule()
    def probe(value: Value, sweep: Sweep) -> Value | str | None:
        checked.append(sweep)
        return None

    for _ in range(20):
        sweep = None
        checked.clear()
        graph = rewrite(graph, [*rules, probe], Session(limit=1))
        sweep = checked[-1]
        recount = graph.uses()
        assert {v: n for v, n in sweep.count.items() if n} == recount
    verify(graph, 2)


def test_rule_that_would_change_the_type_is_refused() -> None:
    said: list[str] = []
    session = Session(why_rules=frozenset({"all"}), why=said.append)
    graph = parse('graph @g(%x: f32[2]) {\n %y = Cast(%x) {to="i32"} : i32[2]\n return %y }')
    rewrite(graph, parse_rules("bad: Cast(x) => x\nnever: Abs(x) => x"), session)
    assert said == ["bad at y: would change the type from i32[2] to f32[2]", "never: its pattern fits nowhere"]


def test_replacement_that_cannot_be_built_is_refused() -> None:
    said: list[str] = []
    session = Session(why_rules=frozenset({"bad"}), why=said.append)
    rewrite(parse(SOURCE), parse_rules("bad: Relu(x) => Transpose(x){perm=[1, 0]}"), session)
    assert said[0].startswith("bad at a: replacement: a: ")


def test_quantization_of_the_replaced_value_is_kept() -> None:
    source = """graph @g(%x: i8[2] q<0.5; 0>) {
  %y = Neg(%x) : i8[2] q<0.25; 3>
  %z = Neg(%y) : i8[2] q<0.125; 0>
  return %z
}
"""
    said: list[str] = []
    session = Session(why_rules=frozenset({"out"}), why=said.append)
    graph = rewrite(parse(source), parse_rules("out: Neg(Neg(x)) => x\nabs: Neg(x) => Abs(x)"), session)
    assert [n.types[0].q for n in graph.nodes()][1:] == [QParams((0.25,), (3,)), QParams((0.125,), (0,))]
    rewrite(parse(source), parse_rules("out: Neg(Neg(x)) => x"), session)
    assert "out at z: would change layout or quantization from i8[2] q<0.125; 0> to i8[2] q<0.5; 0>" in said


def test_origins_are_united_and_names_kept() -> None:
    from dataclasses import replace

    graph = parse("""graph @g(%x: f32[1, 1, 2, 2]) {
  %w = Const() {data=[2.0]} : f32[1, 1, 1, 1]
  %b = Const() {data=[1.0]} : f32[1]
  %s = Const() {data=[3.0]} : f32[1, 1, 1]
  %c = Conv(%x, %w, %b) : f32[1, 1, 2, 2]
  %m = Mul(%c, %s) : f32[1, 1, 2, 2]
  return %m
}
""")
    graph = graph.map(lambda n: replace(n, origin=(f"onnx_{n.name}",)).results if n.op in ("Conv", "Mul") else None)
    rules = parse_rules("r: Mul(c@Conv(x, w, b), s) where const(s) => Conv(x, w * oihw(s, w), b * flat(s)){**c}")
    graph = rewrite(graph, rules)
    (conv,) = [n for n in graph.nodes() if n.op == "Conv"]
    assert conv.name == "m" and conv.origin == ("onnx_c", "onnx_m")
    assert "%w = Const() {data=[6.0]} : f32[1, 1, 1, 1]" in show(graph)
    assert "%b = Const() {data=[3.0]} : f32[1]" in show(graph)


def test_python_rules_share_the_engine() -> None:
    @python_rule("Relu")
    def to_abs(value: Value, sweep: Sweep) -> Value | str | None:
        return "is kept" if value.name == "b" else value.node.args[0]

    said: list[str] = []
    session = Session(why_rules=frozenset({"to_abs"}), why=said.append, pass_name="p")
    graph = rewrite(parse(SOURCE), [to_abs], session)
    assert ops(graph) == ["Relu"] and said == ["to_abs at b: is kept"]
    assert [str(s) for s in session.steps] == ["p >> to_abs >> a", "p >> to_abs >> c"]


def test_fuel_stops_rules_that_never_settle() -> None:
    rules = parse_rules("up: Relu(x) => Relu(Neg(Neg(x)))")
    with pytest.raises(IRError, match="the rules do not settle; the last rewrites: .* >> up >> "):
        rewrite(parse(SOURCE), rules, fuel=100)


def test_a_failing_helper_is_noted_with_its_rule() -> None:
    rules = parse_rules("bad: Relu(x) => Clip(x){min=first(x), max=1.0}", "b.rules")
    with pytest.raises(AttributeError) as caught:
        rewrite(parse(SOURCE), rules)
    assert caught.value.__notes__ == ["in rule 'bad' (b.rules:1) at Relu 'a'"]


def test_guards_and_helpers_are_unique() -> None:
    with pytest.raises(ValueError, match="guard 'const' is defined twice"):
        guard("const")(lambda context: True)
    with pytest.raises(ValueError, match="helper 'flat' is defined twice"):
        helper("flat")(lambda array: array)
    assert all(fn.__doc__ for fn in [*GUARDS.values(), *HELPERS.values()])


def test_five_hundred_nodes_settle_in_well_under_a_second() -> None:
    body = [
        "graph @g(%x: f32[1, 4, 8, 8]) {",
        '  %w = Const() {data="randn:1"} : f32[4, 4, 1, 1]',
        '  %b = Const() {data="zeros"} : f32[4]',
    ]
    body += ['  %s = Const() {data="randn:2"} : f32[4, 1, 1]']
    last = "x"
    for i in range(125):
        for name, text in (
            ("c", f"Conv(%{last}, %w, %b)"),
            ("m", f"Mul(%c{i}, %s)"),
            ("a", f"Add(%m{i}, %s)"),
            ("r", f"Relu(%a{i})"),
        ):
            body.append(f"  %{name}{i} = {text} : f32[1, 4, 8, 8]")
        last = f"r{i}"
    graph = parse("\n".join([*body, f"  return %{last}", "}"]))
    rules = load_rules(Path(__file__).parents[3] / "passes" / "canonicalize.rules")
    started = time.process_time()
    done = rewrite(graph, rules)
    assert time.process_time() - started < 0.8
    assert len(ops(done)) == 250
