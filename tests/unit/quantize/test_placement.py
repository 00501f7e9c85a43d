"""Where a float model gets scales: which tensors become bytes, and which share a scale."""

from __future__ import annotations

from functools import cache

from edgec.compiler.quantize.placement import Placement, place
from tests.support.float_models import MODELS, Net, canonical, data, quantized


@cache
def placed(name: str) -> Placement:
    return place(canonical(MODELS[name]()))


def points(plan: Placement) -> set[str]:
    return {v.name for v in plan.points}


def groups(plan: Placement) -> list[set[str]]:
    return [{v.name for v in group.values} for group in plan.groups if len(group.values) > 1]


def test_what_a_kernel_adds_up_or_cuts_off_has_no_scale() -> None:
    assert points(placed("residual")) == {"x", "Relu_1", "Relu_4"}
    assert points(placed("depthwise")) == {"x", "Relu_1", "Relu_3"}


def test_a_bias_behind_a_product_has_no_scale_of_its_own() -> None:
    assert points(placed("head")) == {"x", "Relu_1", "AveragePool_2", "Flatten_3", "Relu_5"}


def test_a_gate_is_a_function_of_one_value() -> None:
    assert points(placed("gated")) == {"x", "Conv_0", "Mul_2", "Conv_3", "Mul_5"}


def test_a_function_per_channel_reads_the_sums_of_its_layer() -> None:
    net = Net()
    a = net.node("PRelu", net.conv("x", 8, 8), net.drawn(8, 1, 1))
    b = net.node("PRelu", net.node("Add", net.conv(a, 8, 8), a), net.drawn(8, 1, 1))  # of what other code has added up
    assert points(place(canonical(net.model(net.conv(b, 8, 8, 1))))) == {"x", a, "Add_3", b}


def test_outputs_of_the_model_stay_real() -> None:
    for name in MODELS:
        plan = placed(name)
        assert not plan.points & set(plan.graph.outputs)


def test_maps_and_concatenations_share_a_scale() -> None:
    assert groups(placed("head")) == [{"AveragePool_2", "Flatten_3"}]
    assert groups(placed("joined")) == [{"Relu_1", "Relu_3", "Concat_4"}]
    graph = quantized(MODELS["joined"](), data())[0]
    scales = {node.name: node.args[1:] for node in graph.nodes() if node.op == "QuantizeLinear"}
    assert scales["Relu_1.q"] == scales["Relu_3.q"] == scales["Concat_4.q"] != scales["x.q"]


def test_what_is_concatenated_and_read_elsewhere_keeps_its_own_scale() -> None:
    net = Net()
    a, b = net.node("Relu", net.conv("x", 8, 8)), net.node("Relu", net.conv("x", 8, 8, 1))
    joint = net.conv(net.node("Concat", a, b, axis=1), 16, 8, 1)
    plan = place(canonical(net.model(joint, net.conv(a, 8, 8))))
    assert groups(plan) == [{b, "Concat_4"}]


def test_of_two_layers_in_a_sum_the_last_adds_the_other() -> None:
    net = Net()
    a, b = net.conv("x", 8, 8), net.conv(net.node("Relu", "x"), 8, 8, 1)  # of one value they would become one
    plan = place(canonical(net.model(net.conv(net.node("Add", a, b), 8, 8))))
    assert points(plan) == {"x", "Relu_1", a, "Add_3"}


def test_a_skipped_layer_reads_and_makes_reals() -> None:
    plan = place(canonical(MODELS["residual"]()), skipped=["Conv_2"])
    assert [layer.name for layer in plan.layers] == ["Conv_0", "Conv_5"]
    assert points(plan) == {"x", "Relu_4"}  # Relu_1 is read by floats alone
