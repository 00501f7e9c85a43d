"""Zeros among weights: exactly as many and where they are asked for, with others that make up for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import edgec.passes.prune  # noqa: F401
from edgec.compiler.calibration.request import SETTING, requested
from edgec.compiler.compress.zeros.masks import Pattern, best_of_groups, pattern_of, without_lowest
from edgec.compiler.compress.zeros.second_order import Curvature, losses, pruned_rows
from edgec.compiler.compress.zeros.shares import counts
from edgec.compiler.driver import load_kernels
from edgec.compiler.errors import EdgecError
from edgec.compiler.exporter import export_model
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph
from edgec.compiler.op import const_array
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from tests.support.float_models import Net, canonical, data, quantized

SHAPE = (1, 64, 6, 6)
LAYER = (48, 64)  # weights of the first layer that is made sparse


def model() -> onnx.ModelProto:
    """A window, two 1x1 convolutions with a depthwise one between them, and a product."""
    net = Net(SHAPE)
    a = net.node("Relu", net.conv("x", 64, 64))
    b = net.node("Relu", net.conv(a, 64, 48, 1))
    c = net.node("Relu", net.conv(b, 48, 48, 3, group=48))
    d = net.node("Relu", net.conv(c, 48, 64, 1))
    e = net.node("Flatten", net.node("GlobalAveragePool", d))
    return net.model(net.gemm(e, 64, 40))


def pruned(options: str, calib: Any = None, target: str = "") -> tuple[Graph, Session]:
    load_kernels()
    session = Session(
        target=find_target(target) if target else None, settings={SETTING: requested(calib, None)}, verify=2
    )
    return run_pipeline(canonical(model()), f"prune{{{options}}}", session), session


def weights(graph: Graph) -> dict[str, Any]:
    """Of every layer, [outputs, all that an output reads]."""
    found = {}
    for node in graph.nodes():
        if node.op in ("Conv", "MatMul"):
            array = const_array(node.args[1])
            found[node.name] = array.T if node.op == "MatMul" else array.reshape(len(array), -1)
    return found


def answers(graph: Graph, count: int = 4) -> Any:
    return np.stack([run(graph, [x[None]])[0] for x in data(count, SHAPE, seed=9)])


# -- masks -----------------------------------------------------------------------------------------------------------


def test_n_of_m_stay_in_every_group() -> None:
    scores = np.random.default_rng(0).random((12, 22))
    keep = best_of_groups(scores, Pattern(2, 4))
    assert (keep[:, :20].reshape(12, 5, 4).sum(2) == 2).all()
    assert (keep[:, 20:].sum(1) == 1).all()  # half of what is left
    assert (scores[keep].reshape(12, -1).min() > 0) and scores[keep].mean() > scores[~keep].mean()


def test_blocks_go_as_a_whole() -> None:
    scores = np.random.default_rng(1).random((40, 9))
    keep = without_lowest(scores, 10, Pattern(outputs=16, inputs=2))
    blocks = [keep[r : r + 16, c : c + 2] for r in (0, 16, 32) for c in range(0, 9, 2)]
    assert all(b.all() or not b.any() for b in blocks) and sum(not b.any() for b in blocks) == 10


def test_the_cheapest_for_the_time_go_first_and_no_layer_goes_far_from_the_others() -> None:
    dear, cheap = np.full((10, 10), 1.0), np.full((10, 10), 1e-6)
    assert counts([dear, cheap], [1.0, 1.0], 0.8)[0] < counts([dear, cheap], [1.0, 1.0], 0.8)[1]
    few, many = counts([np.arange(100.0), np.arange(100.0)], [1.0, 100.0], 0.5)
    assert few < many
    assert all(0.5 < n / 100 < 0.9 for n in counts([dear, cheap], [1.0, 1.0], 0.8))


# -- second order ----------------------------------------------------------------------------------------------------


def correlated(inputs: int) -> Any:
    rng = np.random.default_rng(3)
    mixed = rng.standard_normal((inputs, inputs // 6)) @ rng.standard_normal((inputs // 6, inputs)) / inputs
    return mixed @ mixed.T + 0.01 * np.eye(inputs)


def error(rows: Any, made: Any, own: Any) -> float:
    return float(np.einsum("oi,oi->", (made - rows) @ own, made - rows) / np.einsum("oi,oi->", rows @ own, rows))


@pytest.mark.parametrize("pattern", [Pattern(), Pattern(2, 4), Pattern(3, 7), Pattern(outputs=8), Pattern(0, 0, 4, 4)])
def test_second_order_is_better_than_magnitude_on_correlated_inputs(pattern: Pattern) -> None:
    own = correlated(148)
    rows = np.random.default_rng(4).standard_normal((24, 148))
    curvature, none = Curvature(own, np.zeros(148)), Curvature.none(148)
    if pattern.m:
        plain, given = best_of_groups(np.abs(rows), pattern), None
    else:
        gone = int(0.7 * -(-24 // pattern.outputs) * -(-148 // pattern.inputs))
        plain = without_lowest(losses(rows, none), gone, pattern)
        given = without_lowest(losses(rows, curvature), gone, pattern)
    made, keep = pruned_rows(rows, curvature, pattern, given)
    assert (made[~keep] == 0).all() and keep.sum() == plain.sum()
    assert error(rows, made, own) < 0.5 * error(rows, rows * plain, own)


# -- the pass --------------------------------------------------------------------------------------------------------


def zeros(array: Any) -> float:
    return float((array == 0).mean())


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_share_of_the_weights_becomes_zero_in_layers_with_kernels(calibrated: bool) -> None:
    graph, session = pruned("sparsity=0.8", data(8, SHAPE) if calibrated else None)
    found = {name: zeros(array) for name, array in weights(graph).items()}
    assert found["Conv_0"] == 0 and found["Conv_4"] == 0
    assert all(0.65 < found[name] < 0.92 for name in ("Conv_2", "Conv_6"))
    assert session.compression is not None
    reasons = {r.layer: r.reason for r in session.compression.layers}
    assert "window is 3x3" in reasons["Conv_0"] and "groups" in reasons["Conv_4"] and "% zero" in reasons["Conv_2"]
    assert any("one by one" in note for note in session.notes)
    onnx.checker.check_model(export_model(graph), full_check=True)


@pytest.mark.parametrize("calibrated", [False, True])
def test_n_of_m_and_blocks(calibrated: bool) -> None:
    calib = data(8, SHAPE) if calibrated else None
    array = weights(pruned("n=1, m=4", calib)[0])["Conv_2"]
    assert ((array.reshape(48, 16, 4) != 0).sum(2) == 1).all()
    array = weights(pruned("sparsity=0.5, block=16x4", calib)[0])["Conv_2"]
    live = (array.reshape(3, 16, 16, 4) != 0).any((1, 3))
    assert 0.3 < live.mean() < 0.7 and zeros(array) == pytest.approx(1 - live.mean())


def test_calibration_makes_up_for_zeros() -> None:
    before = answers(canonical(model()))
    off = {}
    for name, options, calib in (
        ("plain", "sparsity=0.6", None),
        ("weights", "sparsity=0.6, repair=false", data(24, SHAPE)),
        ("repaired", "sparsity=0.6", data(24, SHAPE)),
    ):
        off[name] = float(np.square(answers(pruned(options, calib)[0]) - before).sum())
    assert off["weights"] < 0.8 * off["plain"] and off["repaired"] < 0.5 * off["plain"]


def test_layers_that_would_be_no_faster_stay_dense() -> None:
    graph, session = pruned("sparsity=0.05", target="x86-avx512")
    assert all(zeros(array) == 0 for array in weights(graph).values())
    assert session.compression is not None
    assert "stays dense: modelled" in {r.layer: r.reason for r in session.compression.layers}["Conv_2"]
    assert any("no weights are made zero" in note for note in session.notes)


def test_zeros_are_rewrites_that_have_numbers() -> None:
    session = Session(limit=1)
    graph = run_pipeline(canonical(model()), "prune{sparsity=0.8}", session)
    assert [name for name, array in weights(graph).items() if zeros(array)] == ["Conv_2"]


def test_quantization_keeps_zeros() -> None:
    calib = data(8, SHAPE)
    graph, _, _ = quantized(model(), calib, "canonicalize, fold, prune{sparsity=0.8}, quantize")
    kept = {}
    for node in graph.nodes():
        if node.op == "DequantizeLinear" and node.args[0].node.op == "Const" and len(node.args[0].shape) == 4:
            array = const_array(node.args[0])
            kept.setdefault(array.shape[:2], []).append(zeros(array))
    assert min(kept[LAYER]) > 0.65 and min(kept[64, 48]) > 0.65


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("sparsity=1.0", r"sparsity=1: expected a share of the multiplications, from 0 to below 1"),
        ("sparsity=-0.1", r"sparsity=-0.1: expected a share"),
        ("n=4, m=4", r"n=4, m=4: expected n of m weights to stay, 0 < n < m"),
        ("n=5, m=4", r"n=5, m=4: expected n of m"),
        ("n=2", r"n=2, m=0: expected n of m"),
        ("sparsity=0.5, block=16", r"block=16: expected outputs x inputs, 16x1 say"),
        ("sparsity=0.5, block=0x4", r"block=0x4: expected outputs x inputs"),
        ("block=16x1", r"block=16x1: says no share; expected sparsity=0.8"),
        ("n=2, m=4, block=16x1", r"block=16x1 does not go with n=2, m=4"),
        ("n=2, m=4, sparsity=0.5", r"sparsity=0.5 does not go with n=2, m=4"),
        ("sparsity=0.5, samples=0", r"samples=0: expected a number of samples"),
    ],
)
def test_bad_options_are_refused_in_a_line(options: str, message: str) -> None:
    with pytest.raises(EdgecError, match=f"prune: {message}"):
        pruned(options)


def test_a_model_without_products_says_so() -> None:
    net = Net()
    session = Session()
    graph = run_pipeline(canonical(net.model(net.node("Relu", "x"))), "prune{sparsity=0.5}", session)
    assert [n.op for n in graph.nodes() if n.op != "Input"] == ["Relu"]
    assert any("the model has no product of floats by constant weights" in note for note in session.notes)


def test_the_pattern_of_no_options_is_single_weights() -> None:
    assert pattern_of(0, 0, "") == Pattern() and str(pattern_of(0, 0, "16x4")) == "in blocks of 16x4"
