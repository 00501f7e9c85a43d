"""Normalizations that are written out, and functions that magnify what is small: what of them is computed in f32."""

from __future__ import annotations

import numpy as np
import onnx

from edgec.compiler.quantize.placement import Placement, place
from tests.support.float_models import Net, canonical, data, quantized

PLANE = (2, 3)


def normalized() -> onnx.ModelProto:
    """Each channel less its mean, over its deviation: and a factor for each position."""
    net = Net()
    gains = net.constant(np.logspace(-3, 0, 16).reshape(1, 16, 1, 1))
    a = net.node("Mul", net.node("Relu", net.conv("x", 8, 16)), gains)
    off = net.node("Sub", a, net.node("ReduceMean", a, axes=PLANE))
    square = net.node("ReduceMean", net.node("Mul", off, off), axes=PLANE)
    deviation = net.node("Sqrt", net.node("Add", square, net.constant(1e-6)))
    b = net.node("Mul", net.node("Div", off, deviation), net.drawn(1, 1, 12, 12))
    return net.model(net.conv(b, 16, 8, 1))


def logarithm(floor: float) -> onnx.ModelProto:
    """A layer reads the logarithms of energies, to which something small is added."""
    net = Net()
    a = net.conv("x", 8, 16)
    b = net.conv(net.node("Mul", a, a), 16, 16, 1)
    energy = net.node("Add", net.node("Mul", b, b), net.constant(floor))
    return net.model(net.conv(net.node("Log", energy), 16, 8, 1))


def kinds(plan: Placement) -> list[str]:
    return sorted(v.node.op for v in plan.points)


def test_a_normalization_that_is_written_out_is_computed_in_floats() -> None:
    plan = place(canonical(normalized()))
    last = plan.layers[-1].input
    assert plan.points == {last, *plan.graph.inputs}
    report = quantized(normalized(), data())[1]
    assert [layer.precision for layer in report.layers] == ["int8", "int8"]
    assert report.output_sqnr is not None and 25 < report.output_sqnr < np.inf


def test_a_gate_that_layers_compute_stays_in_bytes() -> None:
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 16))
    gate = net.node("Sigmoid", net.conv(net.node("ReduceMean", a, axes=PLANE), 16, 16, 1))
    plan = place(canonical(net.model(net.conv(net.node("Mul", a, gate), 16, 8, 1))))
    assert kinds(plan) == ["Conv", "Input", "Mul", "ReduceMean", "Relu", "Sigmoid"]


def test_a_mean_that_a_layer_reads_stays_in_bytes() -> None:
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 16))
    mean = net.node("ReduceMean", a, axes=PLANE)
    plan = place(canonical(net.model(net.conv(net.node("Add", mean, net.conv(mean, 16, 16, 1)), 16, 8, 1))))
    assert kinds(plan) == ["Add", "Input", "ReduceMean", "Relu"]


def test_what_a_logarithm_reads_stays_real() -> None:
    assert kinds(place(canonical(logarithm(1e-6)))) == ["Conv", "Input", "Log", "Mul"]
    assert kinds(place(canonical(logarithm(1.0)))) == ["Conv", "Conv", "Input", "Log", "Mul"]  # away from 0


def mel() -> onnx.ModelProto:
    """Logarithms of the sums of energies, of which a constant keeps the least away from 0."""
    net = Net((1, 8, 64))
    a = net.node("Mul", "x", "x")
    weights = net.constant(np.abs(net.random.normal(size=(64, 16))))
    energy = net.node("Add", net.node("MatMul", a, weights), net.constant(np.full(16, 1e-7)))
    return net.model(net.node("MatMul", net.node("Log", energy), net.drawn(16, 512)))


def test_layers_whose_sums_have_no_logarithm_in_8_bits_go_back_and_the_others_stay() -> None:
    x = data(8, (1, 8, 64))
    x[:, 3] *= 1e-3  # all of its squares are 0 in 8 bits
    report = quantized(mel(), x)[1]
    assert [layer.precision for layer in report.layers] == ["f32", "int8"]
    assert report.output_sqnr is not None and report.output_sqnr > 20


def test_biases_before_a_logarithm_are_corrected_by_what_it_is_defined_for() -> None:
    x = data(8, (1, 8, 64))
    x[:, 3] = 0.0  # their sums are the constant, less than a step of which there is no logarithm
    report = quantized(mel(), x)[1]
    assert [layer.precision for layer in report.layers] == ["int8", "int8"]
    assert report.output_sqnr is not None and report.output_sqnr > 40
