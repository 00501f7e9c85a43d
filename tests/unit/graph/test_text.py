"""The text form: names, constants, nesting, errors. More of it is in tests/eir."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from edgec.compiler.dtypes import DTYPES, DType
from edgec.compiler.eir_file import read_eir, write_eir
from edgec.compiler.errors import EdgecError, IRError
from edgec.compiler.ir import Data, Graph, Node, QParams, Type, Value
from edgec.compiler.op import build, const, const_array
from edgec.compiler.text import constants, excerpt, parse, show, show_node


def graph_of(*outputs: Value, inputs: tuple[Value, ...] = ()) -> Graph:
    return Graph("g", inputs, outputs)


def source(name: str, shape: tuple[int, ...] = (2,)) -> Value:
    return Value(Node("Input", (), (Type("f32", shape),), {}, name))


def test_nodes_that_share_a_name_are_told_apart() -> None:
    x = source("x")
    a = build("Relu", x, label="x")
    b = build("Neg", a, label="x")
    text = show(graph_of(b, inputs=(x,)))
    assert "%x~2 = Relu(%x)" in text and "%x~3 = Neg(%x~2)" in text
    again = parse(text)
    assert show(again) == text
    assert [n.name for n in again.nodes()] == ["x", "x", "x"]


def test_nameless_nodes_are_numbered_and_stay_nameless() -> None:
    x = source("0")
    y = build("Neg", build("Relu", x))
    text = show(graph_of(y, inputs=(x,)))
    assert text.splitlines()[0] == 'graph @g(%"0": f32[2]) {'
    assert "%1 = Neg(%0)" in text
    again = parse(text)
    assert show(again) == text
    assert [n.name for n in again.nodes()] == ["0", "", ""]


@pytest.mark.parametrize(
    "name", ["a/b:0", "with space", 'a "quote"', "back\\slash", "new\nline", "~", "é", "%x", "a~2", "3"]
)
def test_every_name_survives(name: str) -> None:
    x = source(name)
    split = Node("Split", (x,), (Type("f32", (1,)),) * 2, {"split": (1, 1)}, name + "'s")
    graph = replace(graph_of(Value(split, 1), inputs=(x,)), output_names=(name + " out",))
    again = parse(show(graph))
    assert show(again) == show(graph)
    assert [n.name for n in again.nodes()] == [name, name + "'s"]
    assert again.output_names == (name + " out",)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint64", "bool", ml_dtypes.bfloat16])
def test_small_constants_round_trip_exactly(dtype: str) -> None:
    array = np.random.default_rng(0).standard_normal(30).astype(np.float32).view(np.uint8)[:32]
    values = array.astype(dtype) if np.dtype(dtype).kind in "iub" else (array.astype(np.float64) / 7 - 9).astype(dtype)
    graph = graph_of(const(values, "c"))
    (node,) = parse(show(graph)).nodes()
    assert const_array(Value(node)).tobytes() == values.tobytes()


@pytest.mark.parametrize("row", [r for r in DTYPES.values() if r.is_storage], ids=lambda r: str(r.name))
def test_every_element_that_only_stores_round_trips(row: DType, tmp_path: Path) -> None:
    array = np.arange(1 << row.bits, dtype=np.uint8).view(row.numpy)
    array = array[~np.isnan(array.astype(np.float32))]
    parts = [const(array[k : k + 32], f"c{k}") for k in range(0, array.size, 32)]
    for node, part in zip(parse(show(graph_of(*parts))).nodes(), parts, strict=True):
        assert node.types[0].dtype == row.name and const_array(Value(node)).tobytes() == const_array(part).tobytes()
    large = const(np.tile(array, 40), "c")
    write_eir(graph_of(large), tmp_path / "large.eir")
    (node,) = read_eir(tmp_path / "large.eir").nodes()
    assert const_array(Value(node)).dtype == row.numpy
    assert const_array(Value(node)).tobytes() == const_array(large).tobytes()
    for text in ("zeros", "ones", "arange", "fill:1", "randn:3"):
        (node,) = parse(f'graph @g() {{ %c = Const() {{data="{text}"}} : {row.name}[40] return %c }}').nodes()
        assert const_array(Value(node)).dtype == row.numpy


def test_small_integers_have_their_range() -> None:
    with pytest.raises(IRError, match=r"not the numbers of i4\[2\]: expected -8 to 7"):
        parse("graph @g() { %c = Const() {data=[7, 8]} : i4[2] return %c }")
    with pytest.raises(IRError, match=r"not the numbers of u2\[1\]: expected 0 to 3"):
        parse("graph @g() { %c = Const() {data=[-1]} : u2[1] return %c }")


def test_infinities_and_nan_are_numbers() -> None:
    graph = graph_of(const(np.array([np.inf, -np.inf, np.nan, -0.0], np.float32), "c"))
    assert "data=[inf, -inf, nan, -0.0]" in show(graph)
    assert show(parse(show(graph))) == show(graph)


def test_large_constants_are_named_by_their_content() -> None:
    array = np.arange(64, dtype=np.float32)
    graph = graph_of(const(array, "a"), const(array.copy(), "b"), const(array.reshape(8, 8), "c"))
    stored = constants(graph)
    assert len(stored) == 2
    again = parse(show(graph), stored)
    assert show(again) == show(graph)
    with pytest.raises(IRError, match=r"line 2, column .*: the numbers of 'sha256:[0-9a-f]{16}' are not at hand"):
        parse(show(graph))


def test_files_keep_their_constants_beside_them(tmp_path: Path) -> None:
    array = np.arange(64).astype(ml_dtypes.bfloat16)
    graph = graph_of(const(array, "a"))
    write_eir(graph, tmp_path / "own.eir")
    write_eir(graph, tmp_path / "one.eir", "weights.npz")
    write_eir(graph, tmp_path / "two.eir", "weights.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.eir", "own.eir", "own.npz", "two.eir", "weights.npz"]
    for name in ("own", "one", "two"):
        (node,) = read_eir(tmp_path / f"{name}.eir").nodes()
        assert const_array(Value(node)).dtype == ml_dtypes.bfloat16
        assert (const_array(Value(node)) == array).all()
    (tmp_path / "own.npz").write_bytes(b"not an archive")
    with pytest.raises(EdgecError, match="the constants cannot be read"):
        read_eir(tmp_path / "own.eir")
    with pytest.raises(EdgecError, match="absent.eir: cannot be read"):
        read_eir(tmp_path / "absent.eir")


def test_data_in_attributes_and_nested_graphs() -> None:
    x = source("x")
    table = Data(np.arange(40, dtype=np.int8))
    inner = graph_of(build("Relu", source("x"), label="y"), inputs=(source("x"),))
    node = Node(
        "Any.Thing",
        (x,),
        (Type("f32", (2,)),),
        {"table": table, "bodies": (inner, inner), "deep": ((1, 2.0), ("s", True))},
        "n",
    )
    graph = graph_of(Value(node), inputs=(x,))
    text = show(graph)
    assert 'dense<i8[40], "sha256:' in text and 'deep=[[1, 2.0], ["s", true]]' in text
    assert show(parse(text, constants(graph))) == text


def test_types_show_layout_and_quantization() -> None:
    t = Type("i8", (1, 4, 2, 2), "NCHW4c", QParams((0.1, 0.2, 1e-9, 3.0), (0, 1, -2, 3), 1))
    graph = graph_of(Value(Node("Input", (), (t,), {"arena": (0, 16)}, "x")))
    graph = replace(graph, inputs=graph.outputs)
    text = show(graph)
    assert "i8[1, 4, 2, 2]@NCHW4c q<0.1, 0.2, 1e-09, 3.0; 0, 1, -2, 3; axis=1> {arena=[0, 16]}" in text
    (node,) = parse(text).nodes()
    assert node.types == (t,) and node.attrs == {"arena": (0, 16)}


def test_origins_are_comments() -> None:
    x = source("x")
    graph = graph_of(build("Relu", x, label="y", origin=("conv1", "bn1")), inputs=(x,))
    assert "%y = Relu(%x) : f32[2]  # from conv1, bn1" in show(graph, origins=True)
    assert show(parse(show(graph, origins=True))) == show(graph)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph @g() {", "line 1, column 13: syntax error: the text ends too early"),
        ("graph @g(%x: f32[2]) { return $x }", "line 1, column 31: syntax error: unexpected character"),
        ("graph @g(%x: f32[2]) {\n  return %y\n}", "line 2, column 10: %y is not defined here; known: %x"),
        (
            "graph @g(%x: f32[2]) {\n %y, %z = Relu(%x) : f32[2]\n return %y }",
            r"line 2, column 11: 2 result\(s\) but 1 type\(s\)",
        ),
        ("graph @g(%x: f32[2]) {\n %y = Relu(%x) {a=1, a=2} : f32[2]\n return %y }", "attribute 'a' is given twice"),
        ('graph @g(%x: f32[2]) {\n %y = Relu(%x) {a="\\q"} : f32[2]\n return %y }', "unknown escape in a string"),
        ("graph @g(%x: i8[2] q<0.5; 0.5>) { return %x }", "zero points are integers"),
        ('graph @g() {\n %c = Const() {data="randn:x"} : f32[2]\n return %c }', "bad number in 'randn:x'"),
        ('graph @g() {\n %c = Const() {data="zeros"} : f32[99999, 99999]\n return %c }', "too large to be generated"),
    ],
)
def test_errors_name_line_and_column(text: str, message: str) -> None:
    with pytest.raises(IRError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert "^ " in caught.value.context


def test_hostile_texts_are_refused() -> None:
    deep = "graph @g(%x: f32[2]) {\n %y = Relu(%x) {a=" + "[" * 5000 + "]" * 5000 + "} : f32[2]\n return %y }"
    with pytest.raises(IRError, match="nested too deeply"):
        parse(deep)
    with pytest.raises(IRError, match="text: .*digits"):
        parse(f"graph @g(%x: f32[{'9' * 5000}]) {{ return %x }}")


def test_excerpt_stands_under_the_line() -> None:
    x = source("x")
    y = build("Relu", x, label="y")
    z = build("Neg", y, label="z")
    text = excerpt(graph_of(z, inputs=(x,)), y.node, "is wrong")
    assert text.splitlines()[1:3] == ["  %y = Relu(%x) : f32[2]", "  ^ is wrong"]
    assert show_node(z.node) == "%z = Neg(%y) : f32[2]"


def test_generators_are_typed() -> None:
    text = """graph @g() {
  %a = Const() {data="arange"} : i8[3]
  %b = Const() {data="fill:2.5"} : f16[2]
  %c = Const() {data="randn:3*0.01"} : f32[100]
  %d = Const() {data="randn:1"} : u8[100]
  return %a, %b, %c, %d
}
"""
    graph = parse(text)
    arrays = [const_array(v) for v in graph.outputs]
    assert arrays[0].tolist() == [0, 1, 2] and arrays[1].tolist() == [2.5, 2.5]
    assert arrays[2].std() < 0.02 and arrays[3].dtype == np.uint8
    assert show(graph) == text
