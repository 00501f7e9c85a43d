"""The benchmark tools: rows, tables, the part of docs/benchmarks.md that they write; no engine but edgec is needed."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import pytest

from benchmarks import engines, kernels, layers, models, operator_cases, operators, zoo
from edgec.compiler.macs import macs
from edgec.compiler.target import find_target

ROW = models.Row("tiny", 2, {"edgec": 2.0, "onnxruntime": 5.0, "mnn": None, "openvino": 3.0}, {"mnn": "refused"}, 0.5)


def test_the_ratio_is_that_of_the_fastest_other_engine() -> None:
    assert ROW.ratio == 1.5
    assert models.Row("tiny", 1, {"edgec": 2.0, "mnn": None}, {}, 0.5).ratio is None
    assert models.Row("tiny", 1, {"edgec": None, "mnn": 1.0}, {}, None).ratio is None


def test_the_table_shows_what_is_missing() -> None:
    text = models.markdown([ROW], ["edgec", "onnxruntime", "mnn", "openvino"])
    assert "| 2 threads | edgec | ONNX Runtime | MNN | OpenVINO | fastest other / edgec |" in text
    assert "| tiny | 2 | 5 | - | 3 | 1.50 |" in text
    assert "Fastest other engine / edgec over 1 models: geometric mean 1.50, least 1.50." in text


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{models.BEGIN}old\n{models.END}after\n")
    models.write_between(page, "new\n")
    assert page.read_text() == f"before\n{models.BEGIN}new\n{models.END}after\n"
    page.write_text("no markers\n")
    with pytest.raises(SystemExit, match="has no lines"):
        models.write_between(page, "new\n")
    text = (zoo.ROOT / "docs" / "benchmarks.md").read_text()
    assert text.count(models.BEGIN) == text.count(models.END) == 1


def test_engines_take_turns_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = models.inputs_of(zoo.DIGITS, {})
    running = {name: engines.Engine(name, 1) for name in ("edgec", "ncnn")}
    row = models.measured(zoo.DIGITS, running, 1, feed, rounds=2, seconds=0.01)
    assert row.ms["edgec"] is not None and 0 < row.ms["edgec"] < 100 and row.load_seconds is not None
    assert (row.ms["ncnn"] is None) == ("ncnn" in row.why)
    for engine in running.values():
        engine.stop()
        assert not engine.process.is_alive()


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere.onnx: no such file, nor a model in"):
        models.chosen(["nowhere.onnx"], tmp_path)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("resnet50", 4.1), ("resnet18", 1.8), ("mobilenet_v2", 0.3), ("mobilenetv3", 0.215), ("squeezenet", 0.35),
     ("yolov3", 32.8), ("vit_tiny", 1.22), ("minilm", 1.43), ("distilbert", 5.58)],
)  # fmt: skip
def test_a_set_of_layers_has_the_arithmetic_of_its_network(name: str, billions: float) -> None:
    found = layers.SETS[name](find_target("x86"))
    assert sum(layer.times * macs(layer.problem.body) for layer in found) / 1e9 == pytest.approx(billions, rel=0.05)


def test_layers_of_a_model_are_its_distinct_kernels() -> None:
    found = layers.of_model(zoo.DIGITS, find_target("x86"))
    assert sum(macs(layer.problem.body) > 0 for layer in found) >= 2
    assert next(kernels.chosen(found, "", 0.2)).times == 1
    assert list(kernels.chosen(found, "no such layer", 0.0)) == []


@pytest.mark.parametrize(("limit", "code"), [("40%", 1), ("60%", 0)])
def test_the_loss_of_the_picks_can_be_bounded(
    limit: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pick of each layer takes 3 us, another candidate 2 us."""

    def timed(problem: object, offers: list[kernels.Choice], *_: object) -> tuple[list[kernels.Timed], list[str]]:
        return [kernels.Timed(offer, 2.0 if i else 3.0, 0.5) for i, offer in enumerate(offers)], []

    monkeypatch.setattr(kernels, "timed", timed)
    monkeypatch.setattr(kernels, "peak_kernel", lambda target: None)
    monkeypatch.setattr("sys.argv", ["kernels.py", "--set", "minilm", "--target", "x86", "--assert", limit])
    assert kernels.main() == code
    said = capsys.readouterr().out
    assert "<-- 50.0 % behind the best" in said and "the picks are 50.0 % behind the best candidates" in said


def test_candidates_are_timed_in_turns_with_the_peak() -> None:
    target = find_target("host")
    (layer,) = [x for x in layers.SETS["squeezenet"](target) if x.text == "512x13 1x1/1 64"]
    offers = kernels.choices(layer.problem)[:2]
    found, failed = kernels.timed(layer.problem, offers, kernels.peak_kernel(target), 2.0)
    assert [t.choice for t in found] == offers and not failed
    assert all(0.05 < t.share < 1.5 and t.us > 1 for t in found)


def test_a_row_of_an_operator_is_a_model_of_one_node() -> None:
    case = operator_cases.one("Resize 1x8x4x4 = =[1.0,1.0,2.0,2.0] mode=linear")
    (node,) = case.model.graph.node
    assert node.op_type == "Resize" and list(node.input) == ["i0", "", "i2"]
    assert [d.dim_value for d in case.model.graph.output[0].type.tensor_type.shape.dim] == [1, 8, 8, 8]
    assert {name: array.shape for name, array in case.feed.items()} == {"i0": (1, 8, 4, 4)}
    assert (operator_cases.one("Div i8:4x4 i8:4x4").feed["i1"] > 0).all()
    grouped = operator_cases.one("GroupNormalization 1x8x4x4 =2 =2 num_groups=2").model
    assert grouped.graph.output[0].type.tensor_type.shape == grouped.graph.input[0].type.tensor_type.shape


def test_every_operator_of_the_table_is_a_model() -> None:
    rows = operator_cases.rows()
    assert len(operator_cases.beside()) == len(set(rows)) > 440


def test_distinct_nodes_of_files_with_their_constants(tmp_path: Path) -> None:
    """Two equal layers are one case, small ones none."""
    case = operator_cases.one("Conv 1x8x32x32 =8x8x3x3 pads=(1,1,1,1)")
    graph, path = case.model.graph, tmp_path / "two.onnx"
    graph.node.add().CopyFrom(graph.node[0])
    graph.node[1].input[0], graph.node[1].output[0] = "o0", "second"
    graph.node.add(op_type="GlobalAveragePool", input=["second"], output=["few"])
    graph.node.add(op_type="Relu", input=["few"], output=["small"])
    graph.output[0].name = "small"
    graph.output[0].type.tensor_type.shape.dim[2].dim_value = graph.output[0].type.tensor_type.shape.dim[
        3
    ].dim_value = 1
    onnx.save(case.model, path)
    found = {each.text: each for each in operator_cases.of_files([path, path])}
    assert list(found) == ["Conv 1x8x32x32 =8x8x3x3 pads=[1, 1, 1, 1]", "GlobalAveragePool 1x8x32x32"]
    (conv, _) = found.values()
    assert len(conv.feed) == len(conv.model.graph.initializer) == len(conv.model.graph.node) == 1


def test_operators_are_raced_without_their_calls(capsys: pytest.CaptureFixture[str]) -> None:
    us, why = operators.raced(operator_cases.one("Relu 1x16x64x64"), ["edgec"], time.process_time_ns)
    assert 0.5 < us["edgec"] < 1000 and not why
    row = operators.Row("Relu", {"edgec": 4.0, "onnxruntime": 3.0, "openvino": 5.0}, {})
    assert row.ratio == 0.75 and row.lost == 1.0
    us, why = operators.raced(operator_cases.one("Relu i8:1"), ["nobody"])
    assert not us and "KeyError" in why["nobody"]
