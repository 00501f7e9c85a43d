"""Layers computed some rows at a time: the same bits, less memory, few kinds of kernels; without TVM."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.compiler.driver import load_kernels
from edgec.compiler.errors import IRError
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import OPS, body_of
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.registry import Problem
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.compiler.text import parse
from edgec.passes.plan_check import check_plan, span
from edgec.passes.plan_overlay import Touch, shift
from edgec.passes.rows_read import Rows, cut_body, rows_read
from edgec.targets.build_jobs import Job
from edgec.targets.codegen import choice_of

HEAD = "fuse, layout"
FLOATS = """graph @g(%t: f32[1, 16, 8, 2]) {
  %w = Const() {data="randn:1"} : f32[8, 2, 3, 3]
  %b = Const() {data="randn:2"} : f32[8]
  %v = Const() {data="randn:3"} : f32[8, 1, 3, 3]
  %c = Const() {data="randn:4"} : f32[8]
  %i = Transpose(%t) {perm=[0, 3, 1, 2]} : f32[1, 2, 16, 8]
  %y = Conv(%i, %w, %b) {pads=[1, 1, 1, 1]} : f32[1, 8, 16, 8]
  %r = Relu(%y) : f32[1, 8, 16, 8]
  %d = Conv(%r, %v, %c) {group=8, pads=[1, 1, 1, 1], strides=[2, 2]} : f32[1, 8, 8, 4]
  %p = MaxPool(%d) {kernel_shape=[2, 2], strides=[2, 2]} : f32[1, 8, 4, 2]
  %o = Transpose(%p) {perm=[0, 2, 3, 1]} : f32[1, 4, 2, 8]
  return %o
}"""
RESIDUAL = """graph @g(%t: f32[1, 16, 8, 1]) {
  %w = Const() {data="randn:1"} : f32[4, 1, 3, 3]
  %v = Const() {data="randn:4"} : f32[4, 4, 3, 3]
  %b = Const() {data="randn:2"} : f32[4]
  %s = Const() {data="randn:3"} : f32[1, 4, 1, 1]
  %i = Transpose(%t) {perm=[0, 3, 1, 2]} : f32[1, 1, 16, 8]
  %y = Conv(%i, %w, %b) {pads=[1, 1, 1, 1]} : f32[1, 4, 16, 8]
  %m = Mul(%y, %s) : f32[1, 4, 16, 8]
  %z = Conv(%m, %v, %b) {dilations=[2, 2], pads=[2, 2, 2, 2]} : f32[1, 4, 16, 8]
  %a = Add(%z, %m) : f32[1, 4, 16, 8]
  %p = AveragePool(%a) {count_include_pad=0, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]} : f32[1, 4, 8, 4]
  %o = Transpose(%p) {perm=[0, 2, 3, 1]} : f32[1, 8, 4, 4]
  return %o
}"""
BYTES = """graph @g(%t: i8[1, 12, 12, 3]) {
  %w = Const() {data="randn:1*20"} : i8[8, 3, 3, 3]
  %b = Const() {data="randn:2*20"} : i32[8]
  %k = Const() {data=[0.01]} : f32[1]
  %v = Const() {data="randn:3*20"} : i8[8, 1, 3, 3]
  %i = Transpose(%t) {perm=[0, 3, 1, 2]} : i8[1, 3, 12, 12]
  %y = Edgec.ConvInteger(%i, %w, %b) {pads=[0, 0, 1, 1], strides=[1, 1], zero=3} : i32[1, 8, 11, 11]
  %q = Edgec.Rescale(%y, %k) {high=127, low=-128, to="i8", zero=-3, zeros=[0]} : i8[1, 8, 11, 11]
  %d = Edgec.ConvInteger(%q, %v, %b) {group=8, pads=[1, 1, 1, 1], strides=[2, 2], zero=-3} : i32[1, 8, 6, 6]
  %r = Edgec.Rescale(%d, %k) {high=127, low=-128, to="i8", zero=5, zeros=[0]} : i8[1, 8, 6, 6]
  %o = Transpose(%r) {perm=[0, 2, 3, 1]} : i8[1, 6, 6, 8]
  return %o
}"""
SEQUENCE = """graph @g(%t: f32[1, 40, 4]) {
  %w = Const() {data="randn:1"} : f32[8, 4, 5]
  %b = Const() {data="randn:2"} : f32[8]
  %v = Const() {data="randn:3"} : f32[4, 8, 3]
  %c = Const() {data="randn:4"} : f32[4]
  %i = Transpose(%t) {perm=[0, 2, 1]} : f32[1, 4, 40]
  %y = Conv(%i, %w, %b) {pads=[2, 2]} : f32[1, 8, 40]
  %z = Conv(%y, %v, %c) {pads=[1, 1], strides=[2]} : f32[1, 4, 20]
  %o = Transpose(%z) {perm=[0, 2, 1]} : f32[1, 20, 4]
  return %o
}"""


def laid(text: str, edit: str = "") -> tuple[Graph, Session]:
    load_kernels()
    session = Session(target=find_target("cortex-m4"), verify=2)
    graph = run_pipeline(parse(text), f"{HEAD}{edit}, plan", session)
    return graph, session


def data_for(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    whole = {"i8": lambda shape: rng.integers(-128, 128, shape).astype(np.int8)}
    floats = lambda shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    return [whole.get(v.type.dtype, floats)(v.shape) for v in graph.inputs]


def arena(session: Session) -> int:
    assert session.arena is not None
    return session.arena.bytes


@pytest.mark.parametrize("text", [FLOATS, RESIDUAL, BYTES, SEQUENCE], ids=["floats", "residual", "bytes", "sequence"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_any_height_gives_the_same_bits_and_takes_less(text: str, rows: int) -> None:
    whole, before = laid(text)
    cut, after = laid(text, f", patches{{rows={rows}}}")
    feeds = data_for(whole)
    for want, got in zip(run(whole, feeds), run(cut, feeds), strict=True):
        if want.dtype == np.int8:
            np.testing.assert_array_equal(got, want)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)  # the interpreter's products: sums in any order
    assert arena(after) < arena(before)
    assert any("multiply-accumulates" in note for note in after.notes)


def test_the_height_that_fits_with_least_arithmetic_is_taken() -> None:
    _, before = laid(FLOATS)
    sizes = [arena(laid(FLOATS, f", patches{{rows={rows}}}")[1]) for rows in (1, 2)]
    _, roomy = laid(FLOATS, f", patches{{max_ram={sizes[1]}}}")
    _, tight = laid(FLOATS, f", patches{{max_ram={sizes[0]}}}")
    _, enough = laid(FLOATS, f", patches{{max_ram={arena(before)}}}")
    assert sizes[0] < sizes[1] < arena(before)
    assert arena(roomy) <= sizes[1]
    assert arena(tight) <= sizes[0]
    again = [float(s.notes[-1].split(" %")[0].split()[-1]) for s in (roomy, tight)]
    assert 0 < again[0] < again[1]
    assert not enough.notes
    assert arena(enough) == arena(before)


def test_patches_of_equal_shape_share_a_kernel() -> None:
    """First, inner and last patches: three kinds of each layer, however many patches there are."""
    graph, _ = laid(FLOATS, ", patches{rows=1}")
    target = find_target("cortex-m4")
    kernels = [n for n in graph.nodes() if n.op == "Edgec.Kernel"]
    jobs = {Job("", Problem(body_of(n), target), choice_of(n)).content for n in kernels}
    assert len(kernels) == 4 * 3
    assert len(jobs) <= 3 * 3


def test_results_are_joined_and_sources_read_without_copies() -> None:
    graph, _ = laid(FLOATS, ", patches{rows=2}")
    ops = [n.op for n in graph.nodes()]
    assert ops.count("Edgec.Join") == 1
    rows = {str(n.attrs["row"]) for n in graph.nodes() if n.op == "Edgec.Kernel"}
    assert "generic_map" not in rows


def test_rows_that_lie_apart_are_copied() -> None:
    """An input with channels first: rows of it are no stretch of memory."""
    text = FLOATS.replace("%t: f32[1, 16, 8, 2]", "%i: f32[1, 2, 16, 8]").replace(
        "  %i = Transpose(%t) {perm=[0, 3, 1, 2]} : f32[1, 2, 16, 8]\n", ""
    )
    whole, before = laid(text)
    graph, after = laid(text, ", patches{rows=1}")
    feeds = data_for(whole)
    np.testing.assert_allclose(run(graph, feeds)[0], run(whole, feeds)[0], rtol=1e-4, atol=1e-4)
    assert sum(n.attrs.get("why") == "its rows do not lie in one piece" for n in graph.nodes()) == 4
    assert arena(after) < arena(before)


def test_what_is_read_elsewhere_too_stays_whole() -> None:
    graph, _ = laid(FLOATS.replace("return %o", "return %o, %y"), ", patches{rows=2}")
    assert (1, 8, 16, 8) in {n.types[0].shape for n in graph.nodes() if n.name == "y"}


def test_a_height_that_cannot_be_is_said() -> None:
    graph, session = laid(FLOATS, ", patches{rows=2,layers=9}")
    assert not any(n.op == "Edgec.Join" for n in graph.nodes())
    assert session.notes == ["patches: no layers can be computed 2 rows at a time where they lie"]


def test_the_target_of_many_rooms_is_its_own_limit() -> None:
    load_kernels()
    session = Session(target=find_target("cortex-m4"), settings={"max_ram": 4100}, verify=2)
    run_pipeline(parse(FLOATS), f"{HEAD}, patches, plan", session)
    assert arena(session) <= 4100 - 1024


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("%y = Softmax(%x) {axis=2} : f32[1, 2, 8, 4]", "does not go row by row"),
        ("%y = Transpose(%x) {perm=[0, 1, 3, 2]} : f32[1, 2, 4, 8]", "does not go row by row"),
        ("%y = MaxPool(%x) {ceil_mode=1, kernel_shape=[2, 2], strides=[2, 2]} : f32[1, 2, 4, 2]", "rounds its size up"),
        ("%y = MaxPool(%x) {kernel_shape=[8, 1]} : f32[1, 2, 1, 4]", "has no rows"),
        ('%c = Const() {data="randn:1"} : f32[1, 1, 8, 4]\n %y = Add(%x, %c) : f32[1, 2, 8, 4]', "from row to row"),
        (
            "%r = Relu(%x) : f32[1, 2, 8, 4]\n"
            " %p = MaxPool(%r) {kernel_shape=[3, 1], pads=[1, 0, 1, 0]} : f32[1, 2, 8, 4]\n"
            " %y = Add(%p, %r) : f32[1, 2, 8, 4]",
            "different rows",
        ),
    ],
)
def test_what_has_no_rows_says_why(text: str, why: str) -> None:
    graph = parse(f"graph @g(%x: f32[1, 2, 8, 4]) {{\n {text}\n return %y\n}}")
    assert why in str(rows_read(graph, Rows(0, 1)))


def test_padding_stays_at_the_border() -> None:
    """Each stretch of rows is what the whole has there, windows at the border included."""
    graph = parse(
        """graph @g(%x: f32[1, 2, 9, 4]) {
  %w = Const() {data="randn:1"} : f32[3, 2, 3, 3]
  %b = Const() {data="randn:2"} : f32[3]
  %y = Conv(%x, %w, %b) {dilations=[2, 1], pads=[2, 1, 3, 1], strides=[2, 1]} : f32[1, 3, 5, 4]
  %z = Relu(%y) : f32[1, 3, 5, 4]
  return %z
}"""
    )
    (x,) = data_for(graph)
    (whole,) = run(graph, [x])
    for start in range(5):
        for stop in range(start + 1, 6):
            demand = rows_read(graph, Rows(start, stop))
            assert not isinstance(demand, str), demand
            read = demand[Value(graph.inputs[0].node)]
            assert read is not None
            (part,) = run(cut_body(graph, demand), [x[:, :, read.start : read.stop]])
            np.testing.assert_array_equal(part, whole[:, :, start:stop])


def test_every_window_is_known_or_refused() -> None:
    """Operators that read rows beside their own are either windows that this knows, or none of its kinds."""
    from edgec.passes.rows_read import _CONVOLUTIONS, _POOLS

    windows = {name for name, row in OPS.items() if row.kind == "window"}
    assert windows >= _POOLS
    assert all(OPS[name].kind == "contract" for name in _CONVOLUTIONS)


def test_the_result_lies_over_the_rows_that_are_read() -> None:
    """Input of 2,048 bytes and a result of 512 that takes no memory of its own while patches are computed."""
    wide = FLOATS.replace("1, 16, 8, 2]", "1, 16, 8, 4]").replace("1, 4, 16, 8]", "1, 4, 16, 8]")
    wide = wide.replace("f32[1, 2, 16, 8]", "f32[1, 4, 16, 8]").replace("f32[8, 2, 3, 3]", "f32[8, 4, 3, 3]")
    graph, session = laid(wide, ", patches{rows=1}")
    kernels = [n for n in graph.nodes() if n.op == "Edgec.Kernel"]
    written = {span(v) for n in kernels for v in n.results if n.name.startswith("p.rows")}
    (source,) = graph.inputs
    assert all(span(source)[0] <= start and stop <= span(source)[1] for start, stop in written)
    check_plan(graph)
    assert session.arena is not None
    assert sum(a.bytes for a in session.arena.map if a.value == "t") == 2048


def test_a_result_over_rows_that_are_still_read_is_found() -> None:
    graph, _ = laid(FLOATS, ", patches{rows=1}")

    def moved(node: Node) -> tuple[Value, ...] | None:
        if node.name != "p.rows0" or node.op != "Edgec.Kernel":
            return None
        at = span(graph.inputs[0])[1] - 64  # over the last rows of the input
        return replace(node, attrs={**node.attrs, "arena": (at,)}).results

    with pytest.raises(IRError, match="written over before this step"):
        check_plan(graph.map(moved))


def test_a_shift_keeps_writes_behind_reads() -> None:
    reads = [Touch(0, 0, 40), Touch(2, 20, 60), Touch(4, 40, 80)]
    assert shift(reads, [Touch(1, 0, 10), Touch(3, 10, 20), Touch(5, 20, 30)], 16) == 0
    assert shift(reads, [Touch(1, 0, 40), Touch(3, 40, 80)], 16) == 48  # by 40, aligned
