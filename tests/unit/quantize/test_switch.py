"""A model whose layers can be switched answers as the one that is quantized without those that are off."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgec.compiler.interpret import interpret
from edgec.compiler.quantize.placement import place
from edgec.compiler.quantize.qdq import quantized_graph
from edgec.compiler.quantize.ranges import Scale
from edgec.compiler.quantize.switch import SWITCHES, switched_graph
from edgec.compiler.quantize.weights import nearest_weights
from tests.support.float_models import Net, canonical, data

STEP = Scale(0.05, 128)  # coarse, so that it shows which values are rounded


@pytest.mark.parametrize("on", list(product((0, 1), repeat=3)))
def test_a_value_is_in_8_bits_where_any_of_its_readers_is(on: tuple[int, ...]) -> None:
    net = Net()
    shared = net.node("Relu", net.conv("x", 8, 16))
    graph = canonical(net.model(net.conv(shared, 16, 8, 1), net.conv(shared, 16, 4, 1)))
    whole = place(graph)
    weights = {layer.node: nearest_weights(layer, STEP.scale) for layer in whole.layers}
    switched = switched_graph(whole, dict.fromkeys(whole.points, STEP), weights)
    plan = place(graph, [layer.name for layer, stays in zip(whole.layers, on, strict=True) if not stays])
    made = quantized_graph(plan, dict.fromkeys(plan.points, STEP), weights)
    feed = {"x": data(1)}
    trial = interpret(switched, {**feed, SWITCHES: np.array(on, np.float32)})
    for name, value in interpret(made, feed).items():
        np.testing.assert_allclose(trial[name], value, rtol=0, atol=1e-4, err_msg=name)
