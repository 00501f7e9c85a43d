"""Quantization of blocks as transformers have them: sums that are normalized, functions with factors per channel, and
positions whose elements are much larger than all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from edgec.compiler.cores import shared_out
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph, Node
from edgec.compiler.op import is_const
from edgec.compiler.quantize.bias import normalizes
from edgec.compiler.quantize.held import storing
from edgec.compiler.quantize.placement import place
from edgec.compiler.quantize.walk import Walk
from tests.support.float_models import Array, Net, canonical, data, quantized

SHAPE = (1, 24, 32)
ALL = "real=0"


def samples(count: int = 8, seed: int = 3, first: float = 1.0) -> Array:
    """Samples whose first position is larger than the others."""
    x = data(count, SHAPE, seed)
    x[:, 0] *= first
    return x


def norm(net: Net, x: str, gains: Sequence[float]) -> str:
    scale = np.ones(32)
    scale[: len(gains)] = gains
    return net.node("LayerNormalization", x, net.constant(scale), net.drawn(32, scale=0.1), axis=-1)


def stream(*, gains: Sequence[float] = (), spread: float = 1.0, normed: bool = True) -> onnx.ModelProto:
    """Three blocks h + silu(h w) v, each normalized; columns of w differ by up to `spread`."""
    net = Net(SHAPE)
    h = norm(net, "x", gains) if normed else "x"
    for _ in range(3):
        w = net.random.normal(size=(32, 64)) * 32**-0.5 * np.geomspace(1, spread, 64)
        v = net.random.normal(size=(64, 32)) * 64**-0.5 / np.geomspace(1, spread, 64)[:, None]
        a = net.node("Add", net.node("MatMul", h, net.constant(w)), net.drawn(64, scale=0.1))
        b = net.node("Mul", a, net.node("Sigmoid", a))
        c = net.node("Add", net.node("MatMul", b, net.constant(v)), net.drawn(32, scale=0.1))
        h = net.node("Add", c, h)
        h = norm(net, h, gains) if normed else h
    return net.model(net.node("LayerNormalization", h, net.constant(np.ones(32)), net.constant(np.zeros(32)), axis=-1))


def answers(graph: Graph, given: Array) -> Array:
    return np.concatenate([interpret(graph, {"x": sample[None]})["y"] for sample in given])


def made(model: onnx.ModelProto, calib: Array, options: str = ALL) -> Graph:
    graph, _, _ = quantized(model, calib, f"canonicalize, fold, quantize{{{options}}}")
    return graph


def sqnr(model: onnx.ModelProto, options: str = ALL, first: float = 1.0) -> float:
    """Of fresh samples, in dB."""
    graph, fresh = made(model, samples(first=first), options), samples(4, 9, first)
    real, rough = answers(canonical(model), fresh).astype(np.float64), answers(graph, fresh)
    return float(10 * np.log10(np.square(real).sum() / np.square(real - rough).sum()))


def ops_that_read(graph: Graph, op: str) -> list[list[str]]:
    """The operators that read each result of `op`."""
    users = graph.users()
    return [sorted(n.op for n in users.get(v, [])) for node in graph.nodes() if node.op == op for v in node.results]


def test_a_sum_that_is_computed_in_f32_reads_f32() -> None:
    """Only layers read the 8 bits of what a normalization gives."""
    graph = made(stream(), samples())
    readers = [ops for ops in ops_that_read(graph, "LayerNormalization") if ops]
    assert readers[:3] == [["Add", "QuantizeLinear"]] * 3
    assert [n for n in graph.nodes() if n.op == "MatMul" and n.args[0].node.op != "DequantizeLinear"] == []


def test_an_even_copy_costs_nothing() -> None:
    """Where channels need no factors, no product with ones is left."""
    graph = made(stream(), samples(), f"{ALL}, equalize=false")
    assert [n for n in graph.nodes() if n.op == "Mul" and any(map(is_const, n.args))] == []


def test_channels_behind_a_normalization_are_evened_out_though_a_sum_reads_them() -> None:
    model = stream(gains=[60.0, 20.0])
    assert sqnr(model) > sqnr(model, f"{ALL}, equalize=false") + 6


def test_what_gets_a_factor_per_channel_is_rounded_after_it() -> None:
    graph = made(stream(spread=100.0), samples())
    factors = [n for n in graph.nodes() if n.op == "Mul" and any(map(is_const, n.args)) and n.name.endswith(".even")]
    assert factors
    assert [_source(n).op for n in factors] == ["Mul"] * len(factors)
    assert sqnr(stream(spread=100.0)) > 30


def _source(node: Node) -> Node:
    return next(a.node for a in node.args if not is_const(a))


def test_a_position_of_large_elements_counts_for_little() -> None:
    """What is normalized behind a sum weighs errors by what it divides them by."""
    graph = canonical(stream())
    plan = place(graph)
    layer = plan.layers[1]
    (add,) = plan.users[layer.value]
    (other,) = (a for a in add.args if a != layer.value)
    made, residual = samples(2), samples(2, 5, first=10.0)
    with storing() as store, shared_out() as cores:
        walk = Walk(cores, {}, store, {layer.value: list(made[:, None]), other: list(residual[:, None])})
        weigh = normalizes(plan, walk, layer.value)
        assert normalizes(plan, Walk(cores, {}, store), plan.layers[0].value) is None
    assert weigh is not None
    variance = np.var(made[1] + residual[1], axis=-1)
    np.testing.assert_allclose(weigh(1)[0, :, 0], 1 / variance, rtol=1e-4)


def test_a_model_that_stays_in_f32_has_no_products_with_ones() -> None:
    model = stream()
    graph, report, _ = quantized(model, samples(), max_drop=0.0)
    assert not any(layer.precision == "int8" for layer in report.layers)
    assert [n.op for n in graph.nodes()] == [n.op for n in canonical(model).nodes()]
