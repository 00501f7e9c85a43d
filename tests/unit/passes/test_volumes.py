"""Convolutions and poolings of volumes become those of images, and keep their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target


def volumes(x: tuple[int, ...], outputs: int, kernel: tuple[int, ...], **attrs: Any) -> Graph:
    rng = np.random.default_rng(3)
    source = Value(Node("Input", (), (Type("f32", x),), {}, "x"))
    w = ops.const(rng.standard_normal((outputs, x[1] // attrs.get("group", 1), *kernel)).astype(np.float32), "w")
    b = ops.const(rng.standard_normal(outputs).astype(np.float32), "b")
    return Graph("g", (source,), (ops.build("Conv", source, w, b, **attrs),))


def split(g: Graph) -> Graph:
    return run_pipeline(g, parse_pipeline("phases"), Session(verify=2))


@pytest.mark.parametrize(
    "g",
    [
        volumes((1, 3, 4, 5, 6), 2, (3, 3, 3), pads=(1, 1, 1, 1, 1, 1)),
        volumes((2, 3, 5, 4, 6), 4, (3, 1, 2), strides=(2, 1, 2)),
        volumes((1, 4, 6, 5, 5), 6, (2, 3, 3), dilations=(3, 1, 2), pads=(2, 1, 0, 1, 2, 0), group=2),
        volumes((2, 4, 3, 2, 5), 3, (1, 1, 1)),
        volumes((2, 4, 7, 2, 5), 3, (3, 1, 1), strides=(2, 1, 1), dilations=(2, 1, 1), pads=(1, 0, 0, 2, 0, 0)),
        volumes((1, 4, 5, 2, 3), 4, (3, 1, 1), pads=(1, 0, 0, 1, 0, 0), group=4),
        volumes((1, 2, 3, 4, 4), 3, (1, 3, 3)),
        volumes((1, 2, 3, 4, 4), 3, (1, 1, 1), strides=(2, 2, 2)),
    ],
    ids=lambda g: str(g.outputs[0].node.attrs),
)
def test_images_give_the_same_numbers(g: Graph) -> None:
    x = np.random.default_rng(4).standard_normal(g.inputs[0].shape).astype(np.float32)
    new = split(g)
    assert all(len(node.types[0].shape) == 4 for node in new.nodes() if node.op == "Conv")
    np.testing.assert_allclose(run(new, [x])[0], run(g, [x])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["u8", "i8"])
@pytest.mark.parametrize(
    ("shape", "filters", "attrs"),
    [
        ((1, 3, 4, 5, 6), (2, 3, 3, 3, 3), {"pads": (1, 1, 1, 1, 1, 1), "zero": 7}),
        ((2, 3, 5, 4, 6), (4, 3, 3, 1, 2), {"strides": (2, 1, 2), "pads": (0, 0, 1, 2, 0, 0), "zero": -3}),
        ((1, 4, 6, 5, 5), (6, 2, 2, 3, 3), {"dilations": (3, 1, 2), "pads": (2, 1, 0, 1, 2, 0), "group": 2}),
        ((2, 4, 3, 2, 5), (3, 4, 1, 1, 1), {"zero": 9}),
        ((1, 4, 7, 2, 5), (3, 4, 3, 1, 1), {"pads": (1, 0, 0, 2, 0, 0), "zero": 100}),
    ],
)
@pytest.mark.parametrize("where", ["host", "cortex-m4"])
def test_images_of_bytes_give_the_same_sums(shape: Any, filters: Any, attrs: Any, kind: str, where: str) -> None:
    rng = np.random.default_rng(5)
    low, high = (0, 256) if kind == "u8" else (-128, 128)
    source = Value(Node("Input", (), (Type(kind, shape),), {}, "x"))
    w = ops.const(rng.integers(-128, 128, filters, np.int8), "w")
    b = ops.const(rng.integers(-999, 999, filters[0]).astype(np.int32), "b")
    if kind == "u8" and attrs.get("zero", 0) < 0:
        attrs = {**attrs, "zero": 0}
    g = Graph("g", (source,), (ops.build("Edgec.ConvInteger", source, w, b, **attrs),))
    new = run_pipeline(g, parse_pipeline("phases"), Session(verify=2, target=find_target(where)))
    assert all(len(node.types[0].shape) == 4 for node in new.nodes() if node.op == "Edgec.ConvInteger")
    x = rng.integers(low, high, shape).astype(f"{kind[0]}1")
    np.testing.assert_array_equal(run(new, [x])[0], run(g, [x])[0])


@pytest.mark.parametrize(("where", "copied"), [("x86-avx512", True), ("x86", True), ("rpi5", False)])
def test_depthwise_volumes_of_bytes_have_no_edges_along_rows(where: str, copied: bool) -> None:
    rng = np.random.default_rng(5)
    source = Value(Node("Input", (), (Type("u8", (1, 4, 3, 5, 20)),), {}, "x"))
    w, b = ops.const(rng.integers(-9, 9, (4, 1, 3, 3, 3), np.int8), "w"), ops.const(np.arange(4, dtype=np.int32), "b")
    attrs: Any = {"group": 4, "zero": 7, "pads": (1, 1, 2, 1, 0, 1)}
    g = Graph("g", (source,), (ops.build("Edgec.ConvInteger", source, w, b, **attrs),))
    new = run_pipeline(g, parse_pipeline("phases"), Session(verify=2, target=find_target(where)))
    assert [n.op for n in new.nodes() if n.args] == [*(["Pad"] if copied else []), "Edgec.ConvInteger"]
    x = rng.integers(0, 256, source.shape, np.uint8)
    np.testing.assert_array_equal(run(new, [x])[0], run(g, [x])[0])


def test_pointwise_volumes_are_only_seen_otherwise() -> None:
    assert [n.op for n in split(volumes((1, 4, 3, 2, 5), 3, (1, 1, 1))).nodes() if n.args] == [
        "Reshape",
        "Conv",
        "Reshape",
    ]


@pytest.mark.parametrize("batch", [1, 2])
def test_windows_side_by_side_are_rows_of_a_product(batch: int) -> None:
    g = volumes((batch, 3, 4, 6, 4), 5, (2, 3, 2), strides=(2, 3, 2))
    x = np.random.default_rng(4).standard_normal(g.inputs[0].shape).astype(np.float32)
    new = split(g)
    assert {node.op for node in new.nodes()} >= {"MatMul"} and "Conv" not in {node.op for node in new.nodes()}
    np.testing.assert_allclose(run(new, [x])[0], run(g, [x])[0], rtol=1e-4, atol=1e-5)
    cut = volumes((batch, 3, 5, 6, 4), 5, (2, 3, 2), strides=(2, 3, 2))  # a plane that no window reads
    assert "Conv" in {node.op for node in split(cut).nodes()}


def test_depthwise_volumes_stay() -> None:
    g = volumes((1, 4, 3, 4, 4), 4, (3, 3, 3), group=4)
    assert [n.op for n in split(g).nodes() if n.args] == ["Conv"]


def test_many_planes_are_gathered_through_a_table() -> None:
    """A selection has code for each plane."""
    few, many = (volumes((1, c, 4, 5, 6), 2, (3, 3, 3), pads=(1, 1, 1, 1, 1, 1)) for c in (2, 32))
    assert [n.op for n in split(few).nodes()].count("Edgec.Select") == 1
    g = split(many)
    assert [n.op for n in g.nodes()].count("Edgec.Select") == 0
    x = np.random.default_rng(4).standard_normal(many.inputs[0].shape).astype(np.float32)
    np.testing.assert_allclose(run(g, [x])[0], run(many, [x])[0], rtol=1e-4, atol=1e-4)


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": (3, 3, 3), "strides": (2, 2, 2), "pads": (1, 1, 1, 1, 1, 1)},
    {"kernel_shape": (1, 2, 3), "strides": (1, 2, 2)},
    {"kernel_shape": (3, 1, 1), "strides": (2, 1, 1), "pads": (1, 0, 0, 0, 0, 0)},
    {"kernel_shape": (2, 3, 2), "strides": (3, 2, 3), "pads": (0, 1, 1, 1, 1, 0), "ceil_mode": 1},
    {"kernel_shape": (2, 2, 2), "dilations": (2, 1, 3)},
    {"kernel_shape": (1, 1, 1), "strides": (2, 1, 2)},
]


@pytest.mark.parametrize("attrs", POOLS, ids=str)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pooling_goes_plane_by_plane_and_then_along_depth(op: str, attrs: dict[str, Any]) -> None:
    x = Value(Node("Input", (), (Type("f32", (2, 3, 5, 6, 7)),), {}, "x"))
    data = np.random.default_rng(4).standard_normal(x.shape).astype(np.float32)
    for include in (0, 1) if op == "AveragePool" else (0,):
        more = {"count_include_pad": include} if include else {}
        g = Graph("g", (x,), (ops.build(op, x, **attrs, **more),))
        new = split(g)
        assert {len(node.types[0].shape) for node in new.nodes() if node.op == op} == {4}
        np.testing.assert_allclose(run(new, [data])[0], run(g, [data])[0], rtol=1e-5, atol=1e-6)


def test_pooling_of_other_types_stays() -> None:
    x = Value(Node("Input", (), (Type("i8", (1, 3, 4, 4, 4)),), {}, "x"))
    g = split(Graph("g", (x,), (ops.build("MaxPool", x, kernel_shape=(2, 2, 2)),)))
    assert [len(node.types[0].shape) for node in g.nodes() if node.op == "MaxPool"] == [5]
