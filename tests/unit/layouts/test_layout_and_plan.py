"""Layout choice and memory plan on small graphs, with kernel rows made for the test: no code is generated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler import registry
from edgec.compiler.errors import EdgecError, IRError
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import OPS, body_of
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.registry import Choice, Emitted, Problem, Row
from edgec.compiler.session import MAX_RAM, Session
from edgec.compiler.target import find_target
from edgec.compiler.text import parse
from edgec.passes.in_place import replaceable
from edgec.passes.plan_check import check_plan, span

T = "f32[1, 32, 8, 8]"
CONV = "{dilations=[1, 1], group=1, pads=[0, 0, 0, 0], strides=[1, 1]}"
WEIGHTS = '%w = Const() {data="randn:1"} : f32[32, 32, 1, 1]\n %b = Const() {data="randn:2"} : f32[32]\n'


def _emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    raise AssertionError("no code is generated here")


def _heavy(problem: Problem) -> Literal[True] | str:
    return True if OPS[problem.anchor.op].kind == "contract" else "is for contractions"


def _blocked(problem: Problem) -> list[Choice]:
    def want(v: Value) -> str:
        return "OIHW32o" if v is problem.anchor.args[1] else "NCHW16c" if len(v.shape) == 4 else ""

    return [
        Choice("fast", tuple(want(v) for v in problem.body.inputs), ("NCHW16c",), (("mt", 4),), 1.0, scratch_bytes=100)
    ]


def _any(problem: Problem) -> list[Choice]:
    one = "NCHW16c" if len(problem.body.outputs[0].shape) == 4 else ""
    cost = 50.0 if OPS[problem.anchor.op].kind == "contract" else 2.0
    layouts = dict.fromkeys(("", one))
    return [
        Choice("slow", (None,) * len(problem.body.inputs), (x,) * len(problem.body.outputs), (), cost) for x in layouts
    ]


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made = (
        Row("fast", frozenset(), _heavy, _blocked, _emit),
        Row("slow", frozenset(), lambda p: True, _any, _emit),
    )
    monkeypatch.setattr(registry, "ROWS", {row.name: row for row in made})
    yield


def planned(text: str, pipeline: str = "fuse, layout, plan") -> tuple[Graph, Session]:
    session = Session(target=find_target("x86-avx512"), verify=3)
    return run_pipeline(parse("graph @g(%x: " + T + ") {\n" + text + "}\n"), pipeline, session), session


def ops(g: Graph, op: str) -> list[Node]:
    return [n for n in g.nodes() if n.op == op]


def test_constants_are_packed_and_activations_converted_once() -> None:
    g, _ = planned(WEIGHTS + f"%c = Conv(%x, %w, %b) {CONV} : {T}\n %d = Conv(%c, %w, %b) {CONV} : {T}\n return %d\n")
    assert {n.types[0].layout for n in ops(g, "Const")} == {"OIHW32o", ""}
    rows_used = [n.attrs["row"] for n in ops(g, "Edgec.Kernel")]
    assert rows_used == ["slow", "fast", "fast", "slow"]


def test_a_producer_knows_what_readers_of_any_layout_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(problem: Problem) -> list[Choice]:
        ins = ("",) * len(problem.body.inputs)
        return [Choice("fast", ins, (x,), (), cost) for x, cost in (("NCHW16c", 1.0), ("", 1.5))]

    def rows_only(problem: Problem) -> list[Choice]:
        return [Choice("slow", (None,) * len(problem.body.inputs), ("",), (), 50.0)]

    made = (Row("fast", frozenset(), _heavy, both, _emit), Row("slow", frozenset(), lambda p: True, rows_only, _emit))
    monkeypatch.setattr(registry, "ROWS", {row.name: row for row in made})
    body = f"""%c = Conv(%x, %w, %b) {CONV} : {T}
 %m = MaxPool(%c) {{kernel_shape=[1, 1]}} : {T}
 %a = AveragePool(%c) {{kernel_shape=[1, 1]}} : {T}
 return %m, %a
"""
    g, _ = planned(WEIGHTS + body)
    (conv,) = [n for n in ops(g, "Edgec.Kernel") if n.attrs["row"] == "fast"]
    assert conv.types[0].layout == ""


def test_a_kernel_reads_in_the_layout_of_its_row_where_no_copy_is_needed() -> None:
    one = "f32[1, 32, 1, 1]"
    text = f"%t = ReduceMax(%x) {{axes=[2, 3]}} : {one}\n %c = Conv(%t, %w, %b) {CONV} : {one}\n return %c\n"
    g, _ = planned(WEIGHTS + text)
    (conv,) = [n for n in ops(g, "Edgec.Kernel") if n.attrs["row"] == "fast"]
    assert [v.type.layout for v in body_of(conv).inputs] == ["NCHW16c", "OIHW32o", ""]


@pytest.mark.parametrize(("limit", "row"), [(None, "greedy"), (1 << 20, "greedy"), (200_000, "modest")])
def test_scratch_memory_is_avoided_where_ram_is_limited(
    limit: int | None, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offering(name: str, cost: float, scratch: int) -> Row:
        def offers(problem: Problem) -> list[Choice]:
            return [Choice(name, ("",) * len(problem.body.inputs), ("",), (), cost, scratch_bytes=scratch)]

        return Row(name, frozenset(), _heavy, offers, _emit)

    made = (offering("greedy", 1.0, 1 << 14), offering("modest", 1.5, 0))
    monkeypatch.setattr(registry, "ROWS", {row.name: row for row in made})
    session = Session(target=find_target("x86-avx512"), settings={MAX_RAM: limit})
    text = "graph @g(%x: " + T + ") {\n" + WEIGHTS + f"%c = Conv(%x, %w, %b) {CONV} : {T}\n return %c\n}}\n"
    (conv,) = ops(run_pipeline(parse(text), "fuse, layout", session), "Edgec.Kernel")
    assert conv.attrs["row"] == row


def test_outputs_are_row_major() -> None:
    g, _ = planned(WEIGHTS + f"%c = Conv(%x, %w, %b) {CONV} : {T}\n return %c\n")
    assert g.outputs[0].type.layout == ""


def test_a_value_may_have_any_number_of_readers() -> None:
    names = [f"%y{k}" for k in range(70)]
    lines = "".join(f"  {name} = Relu(%x) : f32[8]\n" for name in names)
    text = f"graph @g(%x: f32[8]) {{\n{lines}  return {', '.join(names)}\n}}\n"
    g = run_pipeline(parse(text), "fuse, layout, plan", Session(target=find_target("x86-avx512")))
    assert len(ops(g, "Edgec.Kernel")) == 70


def test_the_reason_for_a_row_is_kept() -> None:
    g, _ = planned(WEIGHTS + f"%c = Conv(%x, %w, %b) {CONV} : {T}\n return %c\n")
    assert "against 50.0 us for slow" in str(ops(g, "Edgec.Kernel")[1].attrs["why"])


def test_concat_on_channels_becomes_a_join_without_a_copy() -> None:
    body = f"""%c = Conv(%x, %w, %b) {CONV} : {T}
 %d = Conv(%c, %w, %b) {CONV} : {T}
 %e = Conv(%c, %w, %b) {CONV} : {T}
 %j = Concat(%d, %e) {{axis=1}} : f32[1, 64, 8, 8]
 %r = Relu(%j) : f32[1, 64, 8, 8]
 return %r
"""
    g, _ = planned(WEIGHTS + body)
    (join,) = ops(g, "Edgec.Join")
    first, second = (span(a) for a in join.args)
    assert first[1] == second[0] and (first[0], second[1]) == span(Value(join))


def test_a_value_in_two_joins_is_copied_into_the_second() -> None:
    body = f"""%a = Relu(%x) : {T}
 %s = Sigmoid(%x) : {T}
 %j = Concat(%a, %s) {{axis=1}} : f32[1, 64, 8, 8]
 %k = Concat(%s, %a) {{axis=1}} : f32[1, 64, 8, 8]
 %r = Add(%j, %k) : f32[1, 64, 8, 8]
 return %r
"""
    g, _ = planned(body)
    assert len(ops(g, "Edgec.Join")) == 2 and len(ops(g, "Edgec.Kernel")) == 5


def test_a_value_joined_with_itself_is_copied_once() -> None:
    body = f"""%a = Relu(%x) : {T}
 %j = Concat(%a, %a) {{axis=1}} : f32[1, 64, 8, 8]
 return %j
"""
    g, _ = planned(body)
    (join,) = ops(g, "Edgec.Join")
    assert join.args[0] != join.args[1] and len(ops(g, "Edgec.Kernel")) == 2


def test_a_value_and_a_view_of_it_lie_in_one_join_only() -> None:
    body = f"""%a = Relu(%x) : {T}
 %v = Reshape(%a) {{shape=[1, 64, 8, 4]}} : f32[1, 64, 8, 4]
 %j = Concat(%a, %x) {{axis=1}} : f32[1, 64, 8, 8]
 %k = Concat(%v, %v) {{axis=1}} : f32[1, 128, 8, 4]
 return %j, %k
"""
    g, _ = planned(body)
    first, second = ops(g, "Edgec.Join")
    assert span(first.args[0])[0] not in {span(a)[0] for a in second.args}


def test_an_output_that_is_a_constant_is_copied_into_the_arena() -> None:
    body = f"""%k = Const() {{data=[1.0, 2.0, 3.0, 4.0]}} : f32[4]
 %v = Reshape(%k) {{shape=[2, 2]}} : f32[2, 2]
 %r = Relu(%x) : {T}
 return %k, %v, %r
"""
    g, _ = planned(body)
    assert [v.node.op for v in g.outputs] == ["Edgec.Kernel"] * 3


def test_split_becomes_parts_of_its_source() -> None:
    body = f"""%a = Relu(%x) : {T}
 %s, %t = Split(%a) {{axis=1, split=[16, 16]}} : f32[1, 16, 8, 8], f32[1, 16, 8, 8]
 %r = Add(%s, %t) : f32[1, 16, 8, 8]
 return %r
"""
    g, _ = planned(body)
    parts = ops(g, "Edgec.Part")
    assert [span(Value(p))[0] - span(p.args[0])[0] for p in parts] == [0, 16 * 64 * 4]


def test_elementwise_results_take_the_place_of_their_argument() -> None:
    body = f"""%m = MaxPool(%x) {{kernel_shape=[1, 1]}} : {T}
 %a = MaxPool(%m) {{kernel_shape=[1, 1]}} : {T}
 %s = Add(%a, %m) : {T}
 return %s
"""
    g, session = planned(body, "fuse{epilogues=false}, layout, plan")
    kernel = ops(g, "Edgec.Kernel")[-1]
    assert span(Value(kernel)) in [span(a) for a in kernel.args]
    assert session.arena is not None and session.arena.bytes == 2 * 32 * 64 * 4


def test_an_argument_that_is_read_later_through_a_view_is_not_overwritten() -> None:
    body = f"""%a = Relu(%x) : {T}
 %m = MaxPool(%a) {{kernel_shape=[1, 1]}} : {T}
 %s = Sigmoid(%m) : {T}
 %p = MaxPool(%s) {{kernel_shape=[1, 1]}} : {T}
 %v = Reshape(%m) {{shape=[1, 2048]}} : f32[1, 2048]
 %n = Neg(%v) : f32[1, 2048]
 return %p, %n
"""
    g, _ = planned(body)
    check_plan(g)


@pytest.mark.parametrize(
    "other", ["Slice(%m) {starts=[0], ends=[1], axes=[0], steps=[1]}", "Transpose(%v) {perm=[1, 0]}"]
)
def test_an_argument_that_is_also_read_elsewhere_under_another_name_is_not_overwritten(other: str) -> None:
    shape = "[1, 16]" if "Slice" in other else "[16, 16]"
    g = parse(f"""graph @g(%x: f32[16, 16]) {{
 %m = Softmax(%x) {{axis=1}} : f32[16, 16]
 %v = Reshape(%m) {{shape=[16, 16]}} : f32[16, 16]
 %o = {other} : f32{shape}
 %s = Sub(%m, %o) : f32[16, 16]
 return %s
}}
""")
    g = run_pipeline(g, "fuse, layout, plan", Session(target=find_target("x86"), verify=3))
    last = g.outputs[0]
    assert len(last.node.args) == 2 and span(last) not in [span(a) for a in last.node.args]


def test_what_is_read_twice_within_a_kernel_bars_its_source() -> None:
    g = parse("""graph @g(%x: f32[4, 4]) {
 %s = Edgec.Kernel(%x) {body=graph @body(%a: f32[4, 4]) {
  %r = Relu(%a) : f32[4, 4]
  %t = Transpose(%r) {perm=[1, 0]} : f32[4, 4]
  %y = Add(%r, %t) : f32[4, 4]
  return %y
 }} : f32[4, 4]
 return %s
}
""")
    assert replaceable(g.outputs[0].node, g.outputs[0]) == []


def test_the_check_knows_the_scratch_of_every_worker() -> None:
    text = f"{WEIGHTS} %c = Conv(%x, %w, %b) {CONV} : {T}\n return %c\n"
    session = Session(target=find_target("x86-avx512"), verify=3, settings={"threads": 3})
    g = run_pipeline(parse("graph @g(%x: " + T + ") {\n" + text + "}\n"), "fuse, layout, plan", session)
    conv = next(n for n in ops(g, "Edgec.Kernel") if n.attrs["scratch"])
    scratch = next(a for a in session.arena.map if a.value.endswith(".scratch")) if session.arena else None
    assert scratch is not None and scratch.bytes == 3 * 128 and conv.attrs["workers"] == 3
    low = span(Value(conv))[0]
    before = replace(conv, attrs={**conv.attrs, "scratch_at": low - 2 * 128})  # the third worker's is in the way
    broken = g.map(lambda n: Value(before) if n.name == conv.name else None)
    with pytest.raises(IRError, match=r"scratch bytes .* lies over 'c'"):
        check_plan(broken)


def test_scratch_is_placed_and_in_nobodys_way() -> None:
    g, session = planned(WEIGHTS + f"%c = Conv(%x, %w, %b) {CONV} : {T}\n return %c\n")
    assert session.arena is not None
    assert any(a.value.endswith(".scratch") for a in session.arena.map)
    check_plan(g)


def test_the_check_finds_an_overwritten_value() -> None:
    g, _ = planned(
        f"%a = Relu(%x) : {T}\n %m = MaxPool(%a) {{kernel_shape=[1, 1]}} : {T}\n %s = Add(%m, %a) : {T}\n return %s\n"
    )
    broken = g.map(lambda n: Value(replace(n, attrs={**n.attrs, "arena": (0,)})) if n.op == "Edgec.Kernel" else None)
    with pytest.raises(IRError, match=r"result bytes 0\.\.8191 lies over argument 'a', bytes 0\.\.8191"):
        check_plan(broken)


def test_no_row_for_a_kernel_names_the_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(registry.ROWS, "slow")
    with pytest.raises(EdgecError, match=r"a: Relu: no kernel on x86-avx512 \(fast: is for contractions"):
        planned(f"%a = Relu(%x) : {T}\n return %a\n")
