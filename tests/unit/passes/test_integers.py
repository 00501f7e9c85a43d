"""The pass `integers` on random quantized graphs: as QDQ says, up to a step; kernels give the interpreter's bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgec.compiler.compare.steps import beyond_a_step
from edgec.compiler.driver import compile_graph, load_kernels
from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.problems import problems
from edgec.compiler.registry import choices
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.targets.builder import Builder
from tests.e2e.models import needs
from tests.fuzz.play import play
from tests.support.quantized_graphs import EVENED, quantized_graph


def inputs(graph: Graph, seed: int) -> Any:
    (x,) = graph.inputs
    info: Any = np.iinfo(dtype(x.type.dtype).numpy.type)  # type: ignore[type-var]
    rng = np.random.default_rng(seed)
    return {"x": rng.integers(info.min, info.max, x.shape, endpoint=True).astype(info.dtype)}


def cases() -> Iterator[Any]:
    for seed in range(550):
        for target in ("x86-amx", "x86-avx512", "x86"):
            always = seed < 12 or EVENED <= seed < EVENED + 8
            yield pytest.param(seed, target, marks=[] if always else [pytest.mark.long])


@pytest.mark.parametrize(("seed", "target"), list(cases()))
def test_a_quantized_graph(seed: int, target: str) -> None:
    graph = quantized_graph(seed)
    described = find_target(target)
    needs(described)
    session = Session(target=described, verify=2)
    whole = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), session)
    assert not any(n.op in ("Conv", "MatMul") for n in whole.nodes())
    feeds = inputs(graph, seed)
    exact, want = interpret(graph, feeds)["y"], interpret(whole, feeds)["y"]
    assert beyond_a_step(want, exact) < 0.02
    program = compile_graph(graph, Session(target=described, verify=2), Builder(ahead=False, workers=1))
    np.testing.assert_array_equal(play(program, feeds)["y"], want)


@pytest.mark.parametrize(("kind", "zero"), [("int4", 0), ("uint4", 9)])
def test_weights_of_four_bits_are_multiplied_as_bytes(kind: str, zero: int) -> None:
    stored = np.random.default_rng(3).integers(0, 7, (4, 3, 1, 1)).astype(getattr(ml_dtypes, kind))
    x = Value(Node("Input", (), (Type("u8", (1, 3, 5, 5)),), {}, "x"))
    real = build("DequantizeLinear", x, const(np.float32(0.02)), const(np.uint8(7)))
    scale, zeros = np.linspace(0.1, 0.2, 4, dtype=np.float32), np.full(4, zero).astype(stored.dtype)
    w = build("DequantizeLinear", const(stored), const(scale), const(zeros), axis=0)
    y = build("Conv", real, w, const(np.zeros(4, np.float32)))
    graph = Graph("g", (x,), (build("QuantizeLinear", y, const(np.float32(0.05)), const(np.uint8(99))),))
    whole = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session())
    assert [n.op for n in whole.nodes() if n.op not in ("Const", "Input")] == ["Edgec.ConvInteger", "Edgec.Rescale"]
    feeds = inputs(graph, 1)
    got, want = (interpret(g, feeds)[g.outputs[0].name] for g in (whole, graph))
    assert beyond_a_step(got, want) == 0


@pytest.mark.parametrize(
    ("target", "kind"), [("x86-amx", "int8"), ("x86-avx512", "int8"), ("x86", "int8"), ("cortex-m55", "mve")]
)
def test_products_with_one_output_channel_have_fast_kernels(target: str, kind: str) -> None:
    x = Value(Node("Input", (), (Type("u8", (1, 24, 12, 12)),), {}, "x"))
    byte = const(np.uint8(128))
    real = build("DequantizeLinear", x, const(np.float32(0.02)), byte)
    w = const(np.arange(24 * 9, dtype=np.uint8).view(np.int8).reshape(1, 24, 3, 3))
    filters = build("DequantizeLinear", w, const(np.float32(0.01)), const(np.int8(0)))
    one = build("Conv", real, filters, const(np.ones(1, np.float32)), pads=(1, 1, 1, 1))
    flat = build("Reshape", build("QuantizeLinear", one, const(np.float32(0.5)), byte), shape=(12, 12))
    again = build("DequantizeLinear", flat, const(np.float32(0.5)), byte)
    column = build("DequantizeLinear", const(np.ones((12, 1), np.int8)), const(np.float32(0.01)), const(np.int8(0)))
    y = build("QuantizeLinear", build("MatMul", again, column), const(np.float32(0.1)), byte)
    load_kernels()
    session = Session(target=find_target(target))
    whole = run_pipeline(Graph("g", (x,), (y,)), parse_pipeline("canonicalize, fold, integers, fuse"), session)
    found = problems(whole, find_target(target), threads=1)
    rows = [choices(p)[0].row for p in found.values() if p.anchor.op in ("Edgec.ConvInteger", "Edgec.MatMulInteger")]
    assert len(rows) == 2 and all(kind in row for row in rows)


def _added(by: Any, *, read_twice: bool = False) -> tuple[Graph, Graph]:
    """A product of quantized tensors, to which a constant is added in floats; and what the pass makes of it."""
    rng = np.random.default_rng(5)
    x = Value(Node("Input", (), (Type("u8", (7, 40)),), {}, "x"))
    real = build("DequantizeLinear", x, const(np.float32(0.02)), const(np.uint8(9)))
    w = const(rng.integers(-127, 128, (40, 24)).astype(np.int8))
    scale = const(rng.uniform(0.001, 0.01, 24).astype(np.float32))
    product = build("MatMul", real, build("DequantizeLinear", w, scale, const(np.zeros(24, np.int8)), axis=1))
    y = build("Add", product, const(np.asarray(by, np.float32)))
    graph = Graph("g", (x,), (y, product) if read_twice else (y,), ("y", "z")[: 1 + read_twice])
    return graph, run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session(verify=2))


@pytest.mark.parametrize("by", [np.linspace(-3, 5, 24), np.linspace(-3, 5, 24).reshape(1, 24), 0.7])
def test_a_constant_that_is_added_to_sums_joins_their_bias(by: Any) -> None:
    graph, whole = _added(by)
    assert [n.op for n in whole.nodes() if n.op not in ("Const", "Input")] == ["Edgec.MatMulInteger", "Cast", "Mul"]
    feeds = inputs(graph, 1)
    step = 0.02 * 0.01  # of the sums, at most
    np.testing.assert_allclose(interpret(whole, feeds)["y"], interpret(graph, feeds)["y"], rtol=1e-6, atol=0.51 * step)


@pytest.mark.parametrize(("by", "twice"), [(np.ones((7, 1)), False), (1.0, True), (1e9, False)])
def test_it_is_added_in_floats_where_it_is_no_bias(by: Any, twice: bool) -> None:
    assert any(n.op == "Add" for n in _added(by, read_twice=twice)[1].nodes())


def test_it_is_added_in_floats_where_32_bits_might_not_hold_the_sums() -> None:
    """Each of the two fits; what the products and the constant come to together does not."""
    x = Value(Node("Input", (), (Type("u8", (1, 40_000)),), {}, "x"))
    w = build("DequantizeLinear", const(np.full((40_000, 1), 127, np.int8)), const(np.float32(1)), const(np.int8(0)))
    product = build("MatMul", build("DequantizeLinear", x, const(np.float32(1)), const(np.uint8(0))), w)
    graph = Graph("g", (x,), (build("Add", product, const(np.full(1, 1e9, np.float32))),), ("y",))
    whole = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session(verify=2))
    feeds = {"x": np.full((1, 40_000), 255, np.uint8)}
    np.testing.assert_allclose(interpret(whole, feeds)["y"], [[255 * 127 * 40_000 + 1e9]], rtol=1e-6)


def _of_bytes(op: str, *shapes: tuple[int, ...], **attrs: Any) -> tuple[Graph, Graph]:
    """An operator on quantized tensors whose result is quantized; and what the pass makes of it."""
    pair = (const(np.float32(1)), const(np.uint8(0)))
    inputs = [Value(Node("Input", (), (Type("u8", shape),), {}, f"x{k}")) for k, shape in enumerate(shapes)]
    y = build(op, *(build("DequantizeLinear", v, *pair) for v in inputs), **attrs)
    graph = Graph("g", tuple(inputs), (build("QuantizeLinear", y, const(np.float32(1e8)), pair[1]),), ("y",))
    return graph, run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session(verify=2))


LONG = [  # the largest sum that fits, and one more
    ("MatMul", ((1, 33_025), (33_025, 1)), {}),
    ("MatMul", ((1, 33_026), (33_026, 1)), {}),
    ("ReduceSum", ((1, 8_421_504),), {"axes": (1,)}),
    ("ReduceSum", ((1, 8_421_505),), {"axes": (1,)}),
]


@pytest.mark.parametrize(("op", "shapes", "attrs"), LONG)
def test_sums_of_bytes_are_integers_while_32_bits_hold_them(op: str, shapes: Any, attrs: Any) -> None:
    graph, whole = _of_bytes(op, *shapes, **attrs)
    factor = 255 if op == "ReduceSum" else 255**2
    fits = max(shapes[0]) * factor < 2**31
    assert any(n.op in ("Edgec.MatMulInteger", "Edgec.Sum") for n in whole.nodes()) == fits
    feeds = {v.name: np.full(v.shape, 255, np.uint8) for v in graph.inputs}
    np.testing.assert_array_equal(interpret(whole, feeds)["y"], interpret(graph, feeds)["y"])


def cut(weights: bool) -> Graph:
    """A residual sum whose parts are multiplied: as bytes of the same scale, or right behind the Split."""
    pair = (const(np.float32(0.02)), const(np.uint8(7)))
    x = Value(Node("Input", (), (Type("u8", (1, 8, 6, 6)),), {}, "x"))
    real = build("DequantizeLinear", x, *pair)
    parts = build("Split", real, axis=1, split=(3, 5)).node.results
    w = np.random.default_rng(3).integers(-7, 7, (4, 5, 1, 1)).astype(np.int8)
    quantized = build("DequantizeLinear", const(w), const(np.float32(0.1)), const(np.int8(0)))
    if not weights:
        parts = tuple(build("DequantizeLinear", build("QuantizeLinear", p, *pair), *pair) for p in parts)
    y = build("Conv", parts[1], quantized, const(np.zeros(4, np.float32)))
    made = [build("QuantizeLinear", v, const(np.float32(0.05)), const(np.uint8(9))) for v in (y, real)]
    return Graph("g", (x,), (*made, build("Relu", parts[0])), ("product", "whole", "part"))


@pytest.mark.parametrize("weights", [False, True])
def test_parts_of_a_quantized_tensor_are_bytes(weights: bool) -> None:
    graph = cut(weights)
    whole = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session(verify=2))
    (split,) = (n for n in whole.nodes() if n.op == "Split")
    assert [t.dtype for t in split.types] == ["u8", "u8"]
    (product,) = (n for n in whole.nodes() if n.op == "Edgec.ConvInteger")
    assert product.args[0] == split.results[1]
    feeds = inputs(graph, 1)
    got, want = interpret(whole, feeds), interpret(graph, feeds)
    for name in graph.output_names:
        np.testing.assert_array_equal(got[name], want[name])


def test_parts_that_are_read_as_real_numbers_stay_real() -> None:
    pair = (const(np.float32(0.02)), const(np.uint8(7)))
    x = Value(Node("Input", (), (Type("u8", (1, 8, 6, 6)),), {}, "x"))
    one, other = build("Split", build("DequantizeLinear", x, *pair), axis=1, split=(4, 4)).node.results
    graph = Graph("g", (x,), (build("Mul", one, build("Tanh", other)),))
    whole = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session())
    assert [n.types[0].dtype for n in whole.nodes() if n.op == "Split"] == ["f32"]


TRANSPOSED = [(7, 1, 0, 0), (2, 2, 0, 0), (3, 2, 1, 1), (4, 2, 1, 0), (3, 3, 0, 0)]  # kernel, stride, padding, more


@pytest.mark.parametrize(("size", "stride", "pad", "more"), TRANSPOSED)
def test_transposed_convolutions_are_sums_of_integers(size: int, stride: int, pad: int, more: int) -> None:
    rng = np.random.default_rng(3)
    x = Value(Node("Input", (), (Type("u8", (1, 8, 6, 6)),), {}, "x"))
    real = build("DequantizeLinear", x, const(np.float32(0.02)), const(np.uint8(7)))
    scale, zeros = np.linspace(0.1, 0.2, 4, dtype=np.float32), np.zeros(4, np.int8)
    stored = rng.integers(-90, 90, (8, 4, size, size)).astype(np.int8)
    w = build("DequantizeLinear", const(stored), const(scale), const(zeros), axis=1)
    window = {"strides": (stride,) * 2, "pads": (pad,) * 4, "output_padding": (more,) * 2}
    y = build("ConvTranspose", real, w, const(np.array([1, 2, -1, 0], np.float32)), **window)
    y = build("QuantizeLinear", build("Relu", y), const(np.float32(0.3)), const(np.uint8(0)))
    graph, target = Graph("g", (x,), (y,), ("y",)), find_target("x86")
    whole = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session(target=target, verify=2))
    assert not any("f32" in {t.dtype for t in n.types} for n in whole.nodes() if n.op not in ("Const", "Input"))
    feeds = inputs(graph, 1)
    got, want = interpret(whole, feeds)["y"], interpret(graph, feeds)["y"]
    assert got.shape == want.shape and beyond_a_step(got, want) == 0
    assert (got != want).mean() < 0.01
    program = compile_graph(graph, Session(target=target, verify=2), Builder(ahead=False, workers=1))
    np.testing.assert_array_equal(play(program, feeds)["y"], got)
