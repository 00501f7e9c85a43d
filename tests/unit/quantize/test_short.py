"""Scales of weights and biases are chosen such that 16 bits hold what kernels read of each channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.quantize.model import PASSES
from edgec.compiler.quantize.placement import place
from edgec.compiler.quantize.ranges import Scale
from edgec.compiler.quantize.short_scales import LOW, End, multipliers, short_scales
from edgec.compiler.quantize.shorten import all_short, ends, evened, reachable
from edgec.compiler.rescale.asked import PRODUCTS
from edgec.compiler.rescale.direct import straight
from edgec.compiler.rescale.once import Asked
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from tests.support.float_models import MODELS, Net, canonical, data, quantized

FAR = 0.01277074497193098, 0.014325777068734169  # with these scales of in- and output no f32 has some multipliers


def constants(model: Any, target: str | None) -> tuple[list[str], Any]:
    """The types of multipliers and biases that channels have in code for Cortex-M, of a model quantized for a target;
    its graph."""
    graph, _, _ = quantized(model, data(), PASSES + "{slower=true}", target=target)
    where = Session(target=find_target("cortex-m4" if target == "cortex-m4" else "x86-avx512"))
    kinds = []
    for node in run_pipeline(graph, "integers, zero-points, short-constants", where).nodes():
        if node.op == "Edgec.Rescale" and node.args[0].node.op in PRODUCTS:
            kinds.append(node.args[len(node.args) // 2].type.dtype)
        if node.op in PRODUCTS:
            kinds.append(node.args[2].type.dtype)
    return kinds, graph


@pytest.mark.parametrize("target", ["x86-avx512", "cortex-m4"])
@pytest.mark.parametrize("name", ["residual", "depthwise", "head"])
def test_16_bits_hold_multipliers_and_biases(name: str, target: str) -> None:
    assert set(constants(MODELS[name](), target)[0]) == {"bf16", "i16"}


@pytest.mark.parametrize("target", [None, "rpi5"])
@pytest.mark.parametrize("name", ["residual", "depthwise", "head"])
def test_so_they_do_where_one_multiply_add_rescales(name: str, target: str | None) -> None:
    """All layers whose sums nothing is added to."""
    graph, _, _ = quantized(MODELS[name](), data(), PASSES + "{slower=true}", target=target)
    made = run_pipeline(graph, "integers, rescale-once, short-constants", Session(target=find_target("rpi5")))
    nodes = [n for n in made.nodes() if n.args and n.args[0].node.op in PRODUCTS and n.op.startswith("Edgec.Resc")]
    kinds = {(n.op, len(n.args), n.args[len(n.args) // 2].type.dtype) for n in nodes}
    alone, added = ("Edgec.RescaleOnce", 2, "bf16"), ("Edgec.Rescale", 4, "bf16")
    assert alone in kinds and kinds <= {alone, added}
    if target is not None:
        assert {n.args[0].node.args[2].type.dtype for n in nodes} == {"i16"}


def test_a_channel_that_is_nothing_but_its_bias_has_one_of_16_bits() -> None:
    net = Net()
    shares = np.array([1.0, 1e-3, 1e-9, 1e-30, 0.0, 1.0, 1.0, 1.0]).reshape(-1, 1, 1, 1)
    w = net.constant(net.random.normal(size=(8, 8, 3, 3)) * 0.2 * shares)
    first = net.node("Relu", net.node("Conv", "x", w, net.constant([0.5, -2, 3, 3, 3, -2, 0.5, 1]), pads=[1] * 4))
    model = net.model(net.node("Conv", first, net.drawn(8, 8, 1, 1), net.drawn(8)))
    assert set(constants(model, "x86-avx512")[0]) == {"bf16", "i16"}


def test_scales_are_a_little_larger() -> None:
    before = np.random.default_rng(0).uniform(1e-4, 1e-2, 2000).astype(np.float32)
    made = short_scales(before, 0.0171, End(0.0315), np.full(2000, 1e5))
    assert not (multipliers(made, 0.0171, 0.0315).view(np.uint32) & LOW).any()
    assert ((made >= before) & (made <= before * (1 + 2.0**-4))).all() and np.median(made / before) < 1 + 2.0**-8


def test_few_are_much_larger_where_bytes_are_made_by_one_multiply_add() -> None:
    before = np.exp(np.random.default_rng(0).uniform(np.log(1e-3), np.log(1e-1), 2000)).astype(np.float32)
    reach = np.full(2000, 1 << 20)
    made = short_scales(before, 0.0171, End(0.0315, 118, once=True), reach)
    numbers = multipliers(made, 0.0171, 0.0315)
    assert not (numbers.view(np.uint32) & LOW).any()
    assert straight(Asked(numbers, -reach, reach, 118, 0, 255)).all()
    assert (made >= before).all() and np.mean(made / before) < 1.02


@pytest.mark.parametrize(("zero", "even"), [(0, 0), (1, 2), (97, 98), (127, 128), (128, 128), (129, 128), (255, 254)])
def test_zero_points_are_made_even_and_ranges_no_smaller(zero: int, even: int) -> None:
    was, now = Scale(0.031, zero), evened(Scale(0.031, zero))
    assert now.zero == even and now.scale <= was.scale * (1 + 1 / 120)
    assert now.low <= was.low * (1 - 1e-6) and now.high >= was.high * (1 - 1e-6)


def test_a_scale_of_activations_moves_where_some_multipliers_cannot_be_reached() -> None:
    net = Net()
    sizes = np.array([0.01599281, 0.00810049, 0.00392154, 0.00807284, 0.00793948, 0.00401532, 0.00815184, 0.005])
    w = sizes.reshape(-1, 1, 1, 1) * 127 * np.ones((8, 8, 1, 1))
    first = net.node("Relu", net.node("Conv", "x", net.constant(w), net.drawn(8)))
    plan = place(canonical(net.model(net.node("Conv", first, net.drawn(8, 8, 1, 1), net.drawn(8)))))
    (layer, end), *_ = ends(plan, {v: Scale(1.0, 0) for v in plan.points}).items()
    (conv,) = [one for one in plan.layers if one.node == layer]
    scales = {v: Scale(float(np.float32(FAR[v == end])), 0) for v in plan.points}
    assert not all_short(conv, FAR[0], End(FAR[1]))
    moved = reachable(plan, scales)
    assert all_short(conv, moved[conv.input].scale, End(moved[end].scale))
    assert all(abs(moved[v].scale / scales[v].scale - 1) < 1e-4 for v in scales)
