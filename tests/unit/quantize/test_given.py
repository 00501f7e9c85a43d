"""What a model is given is rounded for what reads 8 bits, and for nothing else."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph
from edgec.compiler.quantize.branches import branched
from edgec.compiler.quantize.margins import limits
from edgec.compiler.quantize.placement import given, place
from tests.support.float_models import Array, Net, canonical, data, quantized

ALL = "canonicalize, fold, quantize{real=0}"


def loud(count: int, seed: int = 1) -> Array:
    """Spectra, say: a few elements are a hundred times as large as most."""
    x = data(count, seed=seed)
    x[:, :, ::5, ::7] *= 100
    return x


def whole(net: Net, number: int) -> str:
    name = f"n{len(net.constants)}"
    net.constants.append(numpy_helper.from_array(np.array([number]), name))
    return name


def masked(*, split: bool) -> onnx.ModelProto:
    """A mask that layers make of an input is multiplied with it in the end; `split`: with each half of its channels."""
    net = Net()
    half = [net.node("Slice", "x", *(whole(net, n) for n in ends)) for ends in ((0, 4, 1), (4, 8, 1))]
    read = net.node("Concat", *half, axis=1) if split else "x"
    mask = net.node("Sigmoid", net.conv(net.node("Relu", net.conv(read, 8, 8)), 8, 4 if split else 8, gain=0.005))
    return net.model(*(net.node("Mul", mask, x) for x in (half if split else ["x"])))


def sqnr(model: onnx.ModelProto) -> float:
    """Of samples that calibration did not see, in dB."""
    real, graph = canonical(model), quantized(model, loud(16), ALL)[0]
    pairs = [[interpret(g, {"x": x[None]})["y"].astype(np.float64) for g in (real, graph)] for x in loud(4, 5)]
    signal, noise = (
        sum(np.square(p).sum() for p in each) for each in ([a for a, _ in pairs], [a - b for a, b in pairs])
    )
    return float(10 * np.log10(signal / noise))


def readers_of_input(graph: Graph) -> list[str]:
    return sorted(node.op for node in graph.users()[graph.inputs[0]])


def test_a_mask_is_multiplied_with_what_was_given() -> None:
    graph = quantized(masked(split=False), loud(16), ALL)[0]
    assert readers_of_input(graph) == ["Mul", "QuantizeLinear"]
    assert sqnr(masked(split=False)) > 40


def test_what_only_moves_it_is_read_in_both_forms() -> None:
    graph = quantized(masked(split=True), loud(16), ALL)[0]
    assert readers_of_input(graph) == ["QuantizeLinear", "Slice", "Slice"]
    assert sqnr(masked(split=True)) > 40


def test_sums_with_an_input_that_become_bytes_read_its_bytes() -> None:
    """A kernel adds bytes to its sums: there is nothing to be gained."""
    net = Net()
    model = net.model(net.conv(net.node("Relu", net.node("Add", net.conv("x", 8, 8), "x")), 8, 8))
    plan = place(branched(canonical(model)))
    assert {v.name for v in plan.points} == {"x", "Relu_2"}
    assert not any(node.op == "Mul" for node in plan.graph.nodes())


def test_an_input_that_is_an_output_too_stays_what_it_is() -> None:
    net = Net()
    graph = quantized(net.model(net.conv("x", 8, 8), "x"), loud(4), ALL)[0]
    x = loud(1, 3)
    np.testing.assert_array_equal(interpret(graph, {"x": x})["y1"], x)


def test_its_range_is_taken_at_its_word() -> None:
    """As that of inputs that nothing reads in f32: no room is given."""
    plan = place(branched(canonical(masked(split=False))))
    (group,) = (g for g in plan.groups if any(v.name.startswith("x") for v in g.values))
    assert limits(group) is None and [given(v) for v in group.values] == [plan.graph.inputs[0]]
