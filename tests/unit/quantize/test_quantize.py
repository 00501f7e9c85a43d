"""Post-training quantization of small float models: what is in 8 bits, with which integers, and what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.calibration.request import SETTING, requested
from edgec.compiler.compare.steps import beyond_a_step
from edgec.compiler.errors import EdgecError
from edgec.compiler.exporter import export_model, save_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.layers import LAYERS
from edgec.compiler.op import const_array
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.quantize import job
from edgec.compiler.quantize.model import PASSES
from edgec.compiler.quantize.placement import Placement, place
from edgec.compiler.quantize.qdq import quantized_graph
from edgec.compiler.quantize.ranges import Scale
from edgec.compiler.quantize.reconstruct import reconstruct
from edgec.compiler.quantize.report import Report
from edgec.compiler.quantize.settings import quantizing
from edgec.compiler.quantize.straight import straightened
from edgec.compiler.quantize.weights import nearest_weights
from edgec.compiler.rescale.asked import asked
from edgec.compiler.rescale.bounds import SUMS
from edgec.compiler.rescale.direct import straight
from edgec.compiler.rescale.once import Asked, channels
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from tests.support.float_models import MODELS, Array, Net, canonical, data, quantized

SQNR = {"residual": 35.0, "depthwise": 35.0, "head": 34.0, "gated": 31.0, "joined": 36.0}  # dB of fresh inputs
ALL = pytest.mark.parametrize("name", MODELS)


@cache
def made(name: str) -> tuple[Graph, Report]:
    graph, report, _ = quantized(MODELS[name](), data())
    return graph, report


@cache
def placed(name: str) -> Placement:
    return place(canonical(MODELS[name]()))


FRESH = data(4, seed=7)


def feeds(samples: Array = FRESH) -> Iterator[dict[str, Array]]:
    return ({"x": sample[None]} for sample in samples)


def answers(graph: Graph, samples: Array = FRESH) -> Array:
    return np.concatenate([interpret(graph, feed)["y"] for feed in feeds(samples)])


def sqnr(real: Array, rough: Array) -> float:
    noise = np.square(real.astype(np.float64) - rough).sum()
    return float(10 * np.log10(np.square(real.astype(np.float64)).sum() / noise))


def layers(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes() if node.op in LAYERS]


def stored(value: Value) -> tuple[Array, Array, Array]:
    """Integers, scales and zero points behind a DequantizeLinear of constants."""
    assert value.node.op == "DequantizeLinear"
    whole, scale, zero = (const_array(a) for a in value.node.args)
    return whole, scale, zero


def rescalings(graph: Graph) -> list[Asked]:
    nodes = run_pipeline(graph, "integers", Session()).nodes()
    return [w for w in (asked(n) for n in nodes if n.op == "Edgec.Rescale") if not isinstance(w, str)]


def without_line(graph: Graph) -> int:
    """How many channels of sums have no line that makes bytes of them, where multipliers alone are none."""
    wanted = rescalings(graph)
    assert wanted
    lines = [channels(w) for w in wanted if not straight(w).all()]
    return sum(one is None for each in lines if not isinstance(each, str) for one in each)


def made_for(name: str, target: str | None) -> Graph:
    return quantized(MODELS[name](), data(), PASSES + "{slower=true}", target=target)[0]


@pytest.mark.parametrize("target", [None, "rpi5"])
@pytest.mark.parametrize("name", ["residual", "depthwise"])
def test_sums_of_every_channel_become_bytes_by_one_multiply_add(name: str, target: str | None) -> None:
    graph = made_for(name, target)
    assert all(straight(w).all() for w in rescalings(graph)) and without_line(graph) == 0


def test_scales_move_where_a_channel_has_no_line() -> None:
    plan = placed("residual")
    scales = {v: Scale(0.0371, 0) for v in plan.points}
    weights = {layer.node: nearest_weights(layer, scales[layer.input].scale) for layer in plan.layers}
    moved = straightened(plan, scales, weights)
    before, after = (without_line(quantized_graph(plan, scales, w)) for w in (weights, moved))
    assert before > 0 and after == 0
    assert all(np.allclose(moved[n].scale, weights[n].scale, rtol=1e-4, atol=0) for n in weights)


@ALL
def test_weights_are_symmetric_with_a_scale_per_channel(name: str) -> None:
    for node in layers(made(name)[0]):
        whole, scale, zero = stored(node.args[1])
        axis = 0 if node.op == "Conv" else whole.ndim - 1
        assert whole.dtype == np.int8 and whole.min() >= -127 and not zero.any()
        assert scale.shape == (whole.shape[axis],) and node.args[1].node.attrs["axis"] == axis
        others = tuple(k for k in range(whole.ndim) if k != axis)
        assert (np.abs(whole.astype(int)).max(axis=others) >= 100).all()  # each channel fills its range


@ALL
def test_a_bias_has_the_scale_of_the_sums(name: str) -> None:
    graph, found = made(name)[0], 0
    for node in layers(graph):
        bias = node.args[2] if len(node.args) > 2 else next(iter(_added(graph, node)), None)
        if bias is not None:
            whole, scale, zero = stored(bias)
            x = const_array(node.args[0].node.args[1])
            assert whole.dtype == np.int32 and not zero.any()
            np.testing.assert_array_equal(scale, (x * stored(node.args[1])[1]).astype(np.float32))
            found += 1
    assert found >= 2


def _added(graph: Graph, node: Node) -> list[Value]:
    """The constant that is added to a product."""
    adds = [n for n in graph.nodes() if n.op == "Add" and Value(node) in n.args]
    return [a for add in adds for a in add.args if a.node.op == "DequantizeLinear"]


@ALL
def test_answers_are_near_those_of_the_float_graph(name: str) -> None:
    real = answers(canonical(MODELS[name]()))
    assert sqnr(real, answers(made(name)[0])) > SQNR[name]


@ALL
def test_the_report_says_how_far_off_the_outputs_are(name: str) -> None:
    graph, report = made(name)
    real, rough = answers(canonical(MODELS[name]()), data()), answers(graph, data())
    assert report.output_sqnr == pytest.approx(sqnr(real, rough), abs=0.2)
    assert report.samples == 8 and report.macs_share == 1.0 and report.drop is None
    assert [r.precision for r in report.layers] == ["int8"] * len(layers(graph))
    assert all(r.sqnr and r.sqnr >= report.output_sqnr - 3 for r in report.layers)
    assert all(r.saturated is not None and r.saturated < 0.01 for r in report.layers)


@ALL
def test_no_float_layer_is_left_behind_integers(name: str) -> None:
    graph = made(name)[0]
    whole = run_pipeline(graph, "integers", Session())
    assert not layers(whole)
    assert sum(n.op in ("Edgec.ConvInteger", "Edgec.MatMulInteger") for n in whole.nodes()) == 3
    assert beyond_a_step(answers(whole), answers(graph)) <= 0.01


@ALL
def test_the_exported_model_is_valid_and_onnx_runtime_agrees(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    graph = made(name)[0]
    model = export_model(graph)
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["x"] and [o.name for o in model.graph.output] == ["y"]
    assert model.opset_import[0].version == 13
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    got = np.concatenate([session.run(["y"], feed)[0] for feed in feeds()])
    assert beyond_a_step(got, answers(graph)) <= 0.01


def test_the_exported_model_is_read_back_to_the_same_answers(tmp_path: Path) -> None:
    graph = made("residual")[0]
    save_model(graph, tmp_path / "net.onnx")
    again = import_model(tmp_path / "net.onnx")
    np.testing.assert_array_equal(answers(again), answers(graph))


def test_several_outputs_keep_their_names_and_order() -> None:
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 8))
    model = net.model(net.conv(a, 8, 4), a, net.conv(a, 8, 2))
    graph, _, _ = quantized(model, data())
    assert [name for name, _ in graph.results] == ["y", "y1", "y2"]
    model = export_model(graph)
    assert [o.name for o in model.graph.output] == ["y", "y1", "y2"]
    onnx.checker.check_model(model, full_check=True)


def test_learned_rounding_beats_the_nearest_integers() -> None:
    model, plain = MODELS["residual"](), "canonicalize, fold, quantize{learn=false, correct=false}"
    _, nearest, _ = quantized(model, data(), plain)
    assert made("residual")[1].output_sqnr > (nearest.output_sqnr or 0) + 0.3  # type: ignore[operator]


@pytest.mark.parametrize(("asked", "work", "used"), [("", 1e9, 64), ("{samples=8}", 1e9, 8), ("", 1.0, 32)])
def test_small_models_are_rounded_on_more_samples(
    asked: str, work: float, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def counted(*args: Any) -> Any:
        found.append(len(args[2]))
        return reconstruct(*args)

    monkeypatch.setattr(job, "reconstruct", counted)
    monkeypatch.setattr(job, "WORK", work)
    quantized(MODELS["head"](), data(64), PASSES + asked)
    assert found == [used]


def test_channels_of_different_size_are_evened_out() -> None:
    net = Net()
    w = net.random.normal(size=(16, 8, 1, 1)) * np.geomspace(0.01, 1, 16)[:, None, None, None]
    v = net.random.normal(size=(8, 16, 1, 1)) / np.geomspace(0.01, 1, 16)[None, :, None, None]
    a = net.node("Relu", net.node("Conv", "x", net.constant(w)))
    model = net.model(net.node("Conv", a, net.constant(v)))
    spec = "canonicalize, fold, quantize{{equalize={}}}"
    _, even, _ = quantized(model, data(), spec.format("true"))
    _, uneven, _ = quantized(model, data(), spec.format("false"))
    assert (even.output_sqnr or 0) > (uneven.output_sqnr or 0) + 6


@pytest.mark.parametrize(("op", "factor"), [("Log", 1.0), ("Exp", 100.0)])
def test_values_that_are_no_numbers_are_refused(op: str, factor: float) -> None:
    net = Net()
    a = net.node(op, net.node("Mul", net.conv("x", 8, 8), net.constant(factor)))
    with pytest.raises(
        EdgecError, match=f"quantize: {a} is NaN or infinite in the float model, on calibration sample 0"
    ):
        quantized(net.model(net.conv(a, 8, 8)), data())


def test_numbers_whose_squares_are_beyond_f32() -> None:
    net = Net()
    a = net.node("Conv", "x", net.constant(net.random.normal(size=(4, 8, 1, 1)) * 1e25))
    model = net.model(net.node("Conv", a, net.constant(net.random.normal(size=(4, 4, 1, 1)) * 1e-25)))
    graph, _, _ = quantized(model, data(), PASSES + "{equalize=false}")
    assert sqnr(answers(canonical(model)), answers(graph)) > 30


def test_a_long_and_narrow_layer() -> None:
    """Far more positions than weights are rounded on, all along one axis."""
    net = Net((1, 2, 5000, 1))
    w, v = net.drawn(4, 2, 9, 1, scale=0.3), net.drawn(2, 4, 1, 1)
    model = net.model(net.node("Conv", net.node("Relu", net.node("Conv", "x", w, strides=[2, 1])), v))
    _, report, _ = quantized(model, data(4, (1, 2, 5000, 1)))
    assert [layer.precision for layer in report.layers] == ["int8", "int8"]
    assert (report.output_sqnr or 0) > 35


def test_layers_of_zeros() -> None:
    net = Net()
    model = net.model(net.node("Conv", "x", net.constant(np.zeros((4, 8, 1, 1))), net.constant([1, 0, -2, 0])))
    np.testing.assert_allclose(answers(quantized(model, data())[0]), answers(canonical(model)), rtol=1e-6)


def test_a_channel_that_is_nothing_but_its_bias_has_small_sums() -> None:
    """Dead channels of trained models have weights of 1e-30; kernels convert sums quickly where all are below 2**22."""
    net = Net()
    shares = np.array([1.0, 1e-3, 1e-9, 1e-30, 0.0, 1.0, 1.0, 1.0]).reshape(-1, 1, 1, 1)
    w = net.constant(net.random.normal(size=(8, 8, 3, 3)) * 0.2 * shares)
    model = net.model(net.node("Conv", "x", w, net.constant([0.5, -2, 3, 3, 3, -2, 0.5, 1]), pads=[1] * 4))
    graph = quantized(model, data())[0]
    (layer,) = layers(graph)
    weights, biases = (stored(layer.args[k])[0].astype(np.int64) for k in (1, 2))
    assert np.abs(weights).max(axis=(1, 2, 3)).tolist() == [127, 127, 0, 0, 0, 127, 127, 127]
    assert (np.abs(biases[2:]) < 2 ** (SUMS - 1) + 1).all()
    assert sqnr(answers(canonical(model)), answers(graph)) > 40


def test_a_model_without_layers_is_left_as_it_is() -> None:
    net = Net()
    session = Session(settings={SETTING: requested(data(), None)})
    graph = run_pipeline(import_model(net.model(net.node("Relu", "x"))), PASSES, session)
    assert [n.op for n in graph.nodes()] == ["Input", "Relu"]
    assert any("no convolution or matrix product" in note for note in session.notes)


def test_compiled_answers_are_those_of_the_graph(tmp_path: Path) -> None:
    calib: Any = data()
    bundle = edgec.compile(MODELS["residual"](), out=tmp_path / "net", quantize="int8", calib=calib)
    assert any(step["dtype"] == "u8" for step in bundle.steps)
    with edgec.load(bundle.folder) as model:
        got = np.concatenate([model.run(feed)["y"] for feed in feeds()])
    same, _, _ = quantized(MODELS["residual"](), data(), target="host")  # whose scales are for kernels of this CPU
    assert beyond_a_step(got, answers(same)) <= 0.01


def test_what_never_leaves_a_channel_moves_to_its_readers() -> None:
    """Bias absorption: the answers stay, and the range in 8 bits is that of what varies."""
    net = Net()
    w = net.random.normal(size=(16, 8, 1, 1)) * 0.1
    a = net.node("Relu", net.node("Conv", "x", net.constant(w), net.constant(np.linspace(4, 6, 16))))
    model = net.model(net.node("Conv", a, net.drawn(8, 16, 1, 1, scale=0.3), net.drawn(8)))
    graph, _, _ = quantized(model, data())
    scales = {n.args[0].name: float(const_array(n.args[1])) for n in graph.nodes() if n.op == "QuantizeLinear"}
    assert scales[a] < 0.5 * 6.7 / 255  # without: 0 .. 6.7
    off = answers(graph) - answers(canonical(model))
    assert np.sqrt(np.square(off).mean()) < 0.006  # without: 0.011


@pytest.mark.parametrize(
    ("spec", "begins"),
    [
        (None, "canonicalize, fold, quantize, "),
        ("+prune{channels=0.3}@fold", "canonicalize, fold, prune{channels=0.3}, quantize, "),
        ("+prune@fold, +low-rank@prune", "canonicalize, fold, prune, low-rank, quantize, "),
        ("+byte-inputs@fold", "canonicalize, fold, quantize, byte-inputs, "),
    ],
)
def test_a_model_is_made_smaller_before_it_is_quantized(spec: str | None, begins: str) -> None:
    assert quantizing(spec or "", find_target("host").pipeline).startswith(begins)


def test_quantizing_before_pruning_is_refused() -> None:
    with pytest.raises(EdgecError, match=r"pass 'quantize' must come after 'prune' \(it works on a float model\)"):
        quantizing("+prune@fold, +quantize@fold", find_target("host").pipeline)
