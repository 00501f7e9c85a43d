"""Repair: a changed graph answers again as the one before, where its weights can say so; never worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.compiler.calibration.data import calibration
from edgec.compiler.compress.repair.fitting import factors
from edgec.compiler.compress.repair.normal import Normal, lowered
from edgec.compiler.compress.repair.repair import Refit, refitted, repaired
from edgec.compiler.errors import EdgecError
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const, const_array

RNG = np.random.default_rng(5)


def _input(*shape: int) -> Value:
    return Value(Node("Input", (), (Type("f32", shape),), {}, "x"))


def _random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _graph(x: Value, *outputs: Value) -> Graph:
    return Graph("g", (x,), outputs)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Each test draws the same numbers, whichever run before it."""
    global RNG
    RNG = np.random.default_rng(5)


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _node(graph: Graph, op: str, number: int = -1) -> Node:
    return [n for n in graph.nodes() if n.op == op][number]


def _spoiled(graph: Graph, op: str, number: int = -1) -> tuple[Graph, Refit]:
    """The graph with other weights in one layer, and the refit that undoes it."""
    old = _node(graph, op, number)

    def change(node: Node) -> Value | None:
        if node is not old:
            return None
        weights = const_array(node.args[1])
        return Value(replace(node, args=(node.args[0], const(weights * 0.3 + 0.1), *node.args[2:])))

    made = graph.map(change)
    return made, Refit(_node(made, op, number), Value(old))


def _error(before: Graph, after: Graph, count: int = 4) -> float:
    worst = 0.0
    for _ in range(count):
        feed = [_random(*v.shape) for v in before.inputs]
        a, b = run(before, feed)[0], run(after, feed)[0]
        worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
    return worst


CONVOLUTIONS = {
    "plain": {"w": (6, 4, 3, 3), "pads": (1, 1, 1, 1)},
    "strided": {"w": (6, 4, 3, 2), "strides": (2, 1), "pads": (1, 0, 0, 1), "dilations": (1, 2)},
    "grouped": {"w": (6, 2, 3, 3), "group": 2},
    "depthwise": {"w": (8, 1, 3, 3), "group": 4, "pads": (1, 1, 1, 1)},
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_weights_of_a_convolution_come_back(case: str) -> None:
    given = dict(CONVOLUTIONS[case])
    w = given.pop("w")
    x = _input(2, 4, 9, 8)
    graph = _graph(x, build("Relu", build("Conv", x, const(_random(*w)), const(_random(w[0])), **given)))
    after, refit = _spoiled(graph, "Conv")
    made = repaired(graph, after, [refit], calibration(_random(16, 2, 4, 9, 8), graph), _silent)
    assert _error(graph, after) > 0.1
    assert _error(graph, made) < 1e-3


@pytest.mark.parametrize("group", [1, 2])
def test_weights_of_a_transposed_convolution_come_back(group: int) -> None:
    x = _input(1, 4, 5, 6)
    given = {"strides": (2, 3), "pads": (1, 0, 2, 1), "output_padding": (1, 0), "dilations": (2, 1), "group": group}
    graph = _graph(x, build("ConvTranspose", x, const(_random(4, 3, 3, 2)), const(_random(3 * group)), **given))
    after, refit = _spoiled(graph, "ConvTranspose")
    made = repaired(graph, after, [refit], calibration(_random(24, 1, 4, 5, 6), graph), _silent)
    assert _error(graph, after) > 0.1
    assert _error(graph, made) < 1e-3


@pytest.mark.parametrize("bias", ["none", "vector", "number"])
@pytest.mark.parametrize("aim", ["product", "sum"])
def test_weights_of_a_product_come_back(bias: str, aim: str) -> None:
    x = _input(1, 5, 7)
    value = build("MatMul", x, const(_random(7, 6)))
    if bias != "none":
        value = build("Add", value, const(_random(6) if bias == "vector" else _random(1)))
    graph = _graph(x, build("Relu", value))
    after, refit = _spoiled(graph, "MatMul")
    if aim == "sum" and bias != "none":
        refit = Refit(refit.node, value)
    made = repaired(graph, after, [refit], calibration(_random(40, 1, 5, 7), graph), _silent)
    assert _error(graph, after) > 0.1
    assert _error(graph, made) < 1e-3


def _two_layers() -> tuple[Value, Graph]:
    x = _input(1, 3, 8, 8)
    y = build("Relu", build("Conv", x, const(_random(6, 3, 3, 3)), const(_random(6))))
    return x, _graph(x, build("Conv", y, const(_random(4, 6, 1, 1)), const(_random(4))))


def test_a_later_layer_makes_up_for_an_earlier_one() -> None:
    _x, graph = _two_layers()
    after, _ = _spoiled(graph, "Conv", 0)
    refit = Refit(_node(after, "Conv"), Value(_node(graph, "Conv")))
    samples = _random(32, 1, 3, 8, 8)
    made, fits = refitted(graph, after, [refit], [{"x": s} for s in samples], _silent)
    assert _error(graph, made) < 0.8 * _error(graph, after)
    assert fits[refit.node].after < 0.8 * fits[refit.node].before


@pytest.mark.parametrize("behind", [None, "Relu"])
def test_the_last_of_added_branches_makes_up_for_the_others(behind: str | None) -> None:
    x = _input(1, 4, 6, 6)
    second = build("Conv", x, const(_random(4, 4, 3, 3)), const(_random(4)), pads=(1, 1, 1, 1))
    first = build("Conv", x, const(_random(4, 4, 1, 1)), const(_random(4)))
    total = build("Add", first, second)
    graph = _graph(x, build(behind, total) if behind else total)
    spoiled, _ = _spoiled(graph, "Conv", 0)  # the branch that comes first
    last = Refit(_node(spoiled, "Conv", 1), Value(_node(graph, "Conv", 1)))
    made = repaired(graph, spoiled, [last], calibration(_random(24, 1, 4, 6, 6), graph), _silent)
    assert _error(graph, spoiled) > 0.1
    assert _error(graph, made) < 1e-3
    assert _node(made, "Conv", 0) == _node(spoiled, "Conv", 0)


def test_a_channel_that_is_a_copy_of_another_is_not_missed() -> None:
    x = _input(1, 3, 8, 8)
    w, b = _random(6, 3, 3, 3), _random(6)
    w[5], b[5] = 2 * w[1], 2 * b[1]
    last, shift = _random(4, 6, 1, 1), const(_random(4))

    def graph(kept: list[int]) -> Graph:
        y = build("Relu", build("Conv", x, const(w[kept]), const(b[kept])))
        return _graph(x, build("Conv", y, const(last[:, kept]), shift))

    before, after = graph([0, 1, 2, 3, 4, 5]), graph([0, 1, 2, 3, 4])
    kept = (0, 1, 2, 3, 4)
    first = Refit(_node(after, "Conv", 0), Value(_node(before, "Conv", 0)), kept)
    refits = [first, Refit(_node(after, "Conv"), Value(_node(before, "Conv")))]
    made = repaired(before, after, refits, calibration(_random(32, 1, 3, 8, 8), before), _silent)
    assert _error(before, after) > 0.1
    assert _error(before, made) < 1e-3


def test_a_mask_is_kept() -> None:
    x = _input(1, 64, 12)
    w = _random(12, 10)
    graph = _graph(x, build("MatMul", x, const(w)))
    mask = RNG.random(w.shape) < 0.5
    after = graph.map(
        lambda n: Value(replace(n, args=(n.args[0], const(np.where(mask, w, 0))))) if n.op == "MatMul" else None
    )
    base = _random(64, 6) @ _random(6, 12)  # inputs that say something about each other
    data = calibration(np.stack([base[None] * s + 0.1 * _random(1, 64, 12) for s in _random(16)]), graph)
    made = repaired(
        graph, after, [Refit(_node(after, "MatMul"), Value(_node(graph, "MatMul")), None, mask)], data, _silent
    )
    new = const_array(_node(made, "MatMul").args[1])
    assert not new[~mask].any()
    assert np.abs(new - w)[mask].max() > 0.05


def test_a_layer_that_is_right_keeps_its_weights() -> None:
    _, graph = _two_layers()
    refits = [Refit(n, Value(n)) for n in graph.nodes() if n.op == "Conv"]
    made = repaired(graph, graph, refits, calibration(_random(8, 1, 3, 8, 8), graph), _silent)
    assert _error(graph, made) < 1e-5


@pytest.mark.parametrize("count", [8, 40])
def test_too_few_samples_make_nothing_worse(count: int) -> None:
    """More weights than samples: what is fitted exactly serves no other sample."""
    x = _input(1, 200)
    graph = _graph(x, build("MatMul", x, const(_random(200, 3))))
    feeds = [{"x": s} for s in _random(count, 1, 200)]
    after, refit = _spoiled(graph, "MatMul")
    made, fits = refitted(graph, after, [refit], feeds, _silent)
    assert fits[refit.node].after <= fits[refit.node].before
    whole, spoiled, repaired_again = (const_array(_node(g, "MatMul").args[1]) for g in (graph, after, made))
    fresh = _random(1000, 200)
    off, was = (np.square(fresh @ (w - whole)).mean() for w in (repaired_again, spoiled))
    assert off <= was * 1.001


def test_one_sample_is_enough_to_run() -> None:
    _, graph = _two_layers()
    after, refit = _spoiled(graph, "Conv", 0)
    made = repaired(graph, after, [refit], calibration(_random(1, 1, 3, 8, 8), graph), _silent)
    assert _error(graph, made) < _error(graph, after)


def test_numbers_beyond_f32_leave_the_weights() -> None:
    _, graph = _two_layers()
    after, refit = _spoiled(graph, "Conv", 0)
    made = repaired(graph, after, [refit], calibration(1e30 * _random(4, 1, 3, 8, 8), graph), _silent)
    assert const_array(_node(made, "Conv", 0).args[1]) is const_array(refit.node.args[1])


def test_nothing_to_refit_is_no_work() -> None:
    _, graph = _two_layers()
    assert repaired(graph, graph, [], calibration(_random(4, 1, 3, 8, 8), graph), _silent) is graph


def test_an_aim_of_another_shape_is_an_error() -> None:
    _, graph = _two_layers()
    refit = Refit(_node(graph, "Conv", 0), Value(_node(graph, "Conv", 1)))
    with pytest.raises(EdgecError, match="repair: Conv.*does not fit its result"):
        repaired(graph, graph, [refit], calibration(_random(4, 1, 3, 8, 8), graph), _silent)


def test_progress_is_told() -> None:
    _, graph = _two_layers()
    after, refit = _spoiled(graph, "Conv", 0)
    told: list[tuple[str, int, int]] = []
    repaired(graph, after, [refit], calibration(_random(4, 1, 3, 8, 8), graph), lambda *a: told.append(a))
    assert told == [("repair", 1, 1)]


def test_rows_of_a_rank_by_their_results() -> None:
    """Least squares of a rank: as near as the principal components of the best results, with the mean in the bias."""
    random = np.random.default_rng(5)
    x = random.normal(size=(1, 6, 400)) * np.asarray([9, 5, 3, 1, 0.5, 0.1])[None, :, None] + 2
    rows, bias = random.normal(size=(1, 4, 6)), random.normal(size=(1, 4))
    sums = Normal.empty(1, 6, 4)
    y = np.matmul(rows, x) + bias[:, :, None]
    sums.add(x, y)
    made, shift = lowered(sums, rows, bias, 2, True)
    spread = np.linalg.svd((y - y.mean(2, keepdims=True))[0])[1]
    assert np.linalg.matrix_rank(made[0], 1e-9) == 2
    assert sums.error(made, shift) == pytest.approx(float(np.square(spread[2:]).sum()), rel=1e-6)
    last, first = factors(made[0], 2)
    np.testing.assert_allclose(last @ first, made[0], atol=1e-9)


def test_factors_of_one_layer_are_solved_together() -> None:
    """What first and last piece make of inputs that lie in few other directions than thought is then exact."""
    random = np.random.default_rng(6)
    weights, turn = random.normal(size=(6, 6)).astype("f4"), np.linalg.qr(random.normal(size=(6, 6)))[0]
    x = Value(Node("Input", (), (Type("f32", (40, 6)),), {}, "x"))
    bias = const(np.ones(6, np.float32))
    whole = build("MatMul", x, const(weights))
    first = build("MatMul", x, const(turn[:, :2].astype("f4")))
    last = build("MatMul", first, const(turn[:2].astype("f4")))
    before = Graph("g", (x,), (build("Add", whole, bias),))
    after = Graph("g", (x,), (build("Add", last, bias),))
    feeds = [{"x": (random.normal(size=(40, 2)) @ random.normal(size=(2, 6))).astype("f4")} for _ in range(1)]
    made, fits = refitted(before, after, [Refit(last.node, whole, first=first.node)], feeds, lambda *_: None)
    assert fits[last.node].after < 1e-3 < fits[last.node].before
    np.testing.assert_allclose(run(made, list(feeds[0].values()))[0], run(before, list(feeds[0].values()))[0], atol=0.2)
