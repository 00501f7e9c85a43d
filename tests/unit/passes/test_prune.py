"""The pass prune: shares, repair, reasons, records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.bundle.manifest import read_bundle
from edgec.compiler.calibration.request import SETTING, Request
from edgec.compiler.cli import main
from edgec.compiler.compress.channels.groups import Family
from edgec.compiler.compress.channels.ratios import Work, _Search, multiple, planned, widths
from edgec.compiler.compress.channels.saliency import Curve
from edgec.compiler.compress.report import Record, Report, lines, rows
from edgec.compiler.errors import EdgecError
from edgec.compiler.exporter import export_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node
from edgec.compiler.macs import macs
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from tests.support.float_models import Net, data, depthwise, residual


def _imported(model: onnx.ModelProto) -> Graph:
    return run_pipeline(import_model(model, notice=lambda text: None), "canonicalize, fold")


def _session(target: str | None = None, calib: Any = None) -> Session:
    settings: Mapping[str, object] = {} if calib is None else {SETTING: Request({"x": calib})}
    return Session(target=find_target(target) if target else None, settings=settings)


def _correlated(count: int = 24) -> np.ndarray:
    """Samples whose channels say much about each other, as those of real data do."""
    rng = np.random.default_rng(3)
    shape = np.asarray(data()).shape[1:]
    base = rng.standard_normal((count, 2, *shape[1:]))
    mixed = np.einsum("cd,ndhw->nchw", rng.standard_normal((shape[0], 2)), base)
    return (mixed + 0.05 * rng.standard_normal((count, *shape))).astype(np.float32)


def _error(before: Graph, after: Graph, samples: np.ndarray) -> float:
    worst, energy = 0.0, 0.0
    for x in samples:
        a, b = (run(g, [x.reshape(g.inputs[0].shape)])[0] for g in (before, after))
        worst, energy = worst + float(np.square(a - b).sum()), energy + float(np.square(a).sum())
    return worst / energy


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("saliency", ["weight", "activation", "reconstruction"])
def test_the_share_that_is_asked_for_goes(share: float, saliency: str) -> None:
    graph, session = _imported(residual()), _session(calib=_correlated())
    after = run_pipeline(graph, f"prune{{channels={share}, saliency={saliency}, round=1}}", session)
    assert share <= 1 - macs(after) / macs(graph) < share + 0.1
    assert [v.type for v in after.outputs] == [v.type for v in graph.outputs]
    assert any(f"{share * 100:.0f}" in note or "% of the multiplications" in note for note in session.notes)


@pytest.mark.parametrize(("model", "left"), [(residual, 0.5), (depthwise, 0.9)])
def test_repair_recovers_some_of_what_is_lost(model: Any, left: float) -> None:
    graph, samples = _imported(model()), _correlated(40)
    made = [
        run_pipeline(graph, f"prune{{channels=0.3, round=1, repair={r}}}", _session(calib=samples[:32]))
        for r in ("false", "true")
    ]
    plain, repaired = (_error(graph, g, samples[32:]) for g in made)
    assert repaired < left * plain


def test_widths_are_multiples_of_what_kernels_work_on() -> None:
    assert multiple(None) == 8
    assert multiple(find_target("x86-avx512")) == 16
    assert multiple(find_target("x86")) == 8
    assert widths(64, 16, False) == [48, 32, 16]
    assert widths(50, 16, False) == [48, 32, 16]
    assert widths(32, 16, False) == [28, 24, 20, 16, 12, 8, 4]
    assert widths(16, 16, False) == [14, 12, 10, 8, 6, 4, 2]
    assert widths(16, 16, True) == []
    assert widths(5, 8, False) == [4, 3, 2, 1]
    assert widths(1, 8, False) == []


def test_round_is_kept_to() -> None:
    after = run_pipeline(_imported(residual()), "prune{channels=0.4, round=4}", _session())
    assert {n.args[1].shape[0] % 4 for n in after.nodes() if n.op == "Conv"} == {0}


def test_no_calibration_data_is_said() -> None:
    session = _session()
    run_pipeline(_imported(residual()), "prune{channels=0.3, round=1}", session)
    assert any("no calibration data is given: channels go by the norms" in note for note in session.notes)


def test_a_share_that_cannot_be_had_is_said() -> None:
    session = _session()
    run_pipeline(_imported(residual()), "prune{channels=0.99, round=4}", session)
    assert any("of 99 % of the multiplications" in note for note in session.notes)


def test_what_cannot_be_pruned_says_why() -> None:
    graph = _imported(residual())
    only = next(n for n in graph.nodes() if n.op == "Conv")
    single = Graph("g", graph.inputs, (only.results[0],), ("y",))
    session = _session()
    assert run_pipeline(single, "prune{channels=0.3}", session) is not None
    assert session.notes == ["prune: no channels are removed: in no layer can any go; it is the output 'y'"]
    assert session.compression is not None
    (row,) = session.compression.layers
    assert row.before == row.after and row.reason == "its outputs stay: it is the output 'y'"


def test_a_quantized_model_is_left_alone() -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, [1, 4])
    scale = onnx.numpy_helper.from_array(np.float32(0.1), "s")
    zero = onnx.numpy_helper.from_array(np.uint8(3), "z")
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])], "g", [x], [y], [scale, zero]
    )
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 13)])
    session = _session()
    run_pipeline(_imported(model), "prune{channels=0.3}", session)
    assert session.notes == ["prune: no channels are removed: the model is quantized already; prune the float model"]


def test_calibration_data_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(EdgecError, match="input 'x' has shape"):
        run_pipeline(_imported(residual()), "prune{channels=0.3}", _session(calib=np.zeros((4, 7), np.float32)))


def test_a_limit_stops_between_families() -> None:
    net = Net()
    hidden = net.node("Relu", net.conv(net.node("Relu", net.conv("x", 8, 16)), 16, 16))
    session = Session(limit=1)
    run_pipeline(_imported(net.model(net.conv(hidden, 16, 8))), "prune{channels=0.6, round=1}", session)
    assert [s.rule for s in session.steps] == ["channels"] and session.refused >= 1


def test_the_pruned_model_is_onnx(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    after = run_pipeline(_imported(residual()), "prune{channels=0.4, round=1}", _session(calib=_correlated()))
    model = export_model(after)
    onnx.checker.check_model(model, full_check=True)
    feed = np.ascontiguousarray(_correlated(1).reshape(after.inputs[0].shape))
    got = runtime.InferenceSession(model.SerializeToString()).run(None, {after.inputs[0].name: feed})[0]
    np.testing.assert_allclose(got, run(after, [feed])[0], rtol=1e-4, atol=1e-5)


def test_manifest_report_and_inspect_say_what_became_of_each_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(residual(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=_correlated())
    args = ["compile", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out"), "--target", "host"]
    assert main([*args, "--passes", "+prune{channels=0.4, round=1}@fold", "--calib", str(tmp_path / "data.npz")]) == 0
    assert "of the multiplications of the layers that can be cut are removed" in capsys.readouterr().err
    found = read_bundle(tmp_path / "out").manifest["compression"]
    assert len(found["layers"]) == 3 and sum(r["macs"] < r["macs_before"] for r in found["layers"]) >= 2
    assert all(r["error"] is None or 0 <= r["error"] < 1 for r in found["layers"])
    assert "<h2>Compression</h2>" in (tmp_path / "out" / "report.html").read_text()
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "channels: " in capsys.readouterr().out
    outputs = edgec.load(tmp_path / "out").run({"x": _correlated(1)})
    assert all(np.isfinite(a).all() for a in outputs.values())


def test_a_damaged_table_is_said(tmp_path: Path) -> None:
    import json

    onnx.save(residual(), tmp_path / "net.onnx")
    folder = edgec.compile(
        tmp_path / "net.onnx", out=tmp_path / "out", passes="+prune{channels=0.4, round=1}@fold"
    ).folder
    path = next(folder.glob("*.json"))
    table = json.loads(path.read_text())
    for key, value, text in (("macs", "many", "macs is not a whole number"), ("error", "big", "error is no number")):
        other = json.loads(json.dumps(table))
        other["compression"]["layers"][0][key] = value
        path.write_text(json.dumps(other))
        with pytest.raises(EdgecError, match=rf"compression\.layers\[0\]\.{text}"):
            read_bundle(folder)


def test_lines_and_rows() -> None:
    report = Report([Record("a", "channels", (8, 4, 3, 3), (4, 4, 3, 3), 100, 50, 0.0123, 2.0, 1.0)])
    report.layers.append(Record("b", "channels", (8, 8), (8, 8), 100, 100, reason="its outputs stay"))
    table = report.table()
    assert lines(table) == ["channels: 1 of 2 layers, 25.0 % of their multiplications less"]
    assert rows(table["layers"])[0] == ("a", "channels", "8x4x3x3", "4x4x3x3", 100, 50, "1.23", "2.0", "1.0", "")


def test_a_model_that_would_be_no_faster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.compiler.compress.channels import pruner
    from edgec.compiler.quantize.modelled import Costs

    monkeypatch.setattr(pruner, "modelled", lambda graph, session: Costs(5.0, {}))
    graph, session = _imported(residual()), _session("x86")
    after = run_pipeline(graph, "prune{channels=0.4}", session)
    assert after.outputs == graph.outputs and session.compression is not None
    why = "the model would be no faster, 5 us modelled, than it is, 5 us"
    assert session.notes[-1] == f"prune: no channels are removed: {why}"
    assert session.compression.layers[0].reason == f"left as it is: {why}"


def test_time_falls_with_the_multiplications() -> None:
    """Two layers of as many multiplications: one that costs little time loses little by a cut, but time must go too."""

    def work(cost: float, outputs: tuple[float, float, float]) -> Work:
        return Work(Node("Conv", (), ()), 100, cost, None, np.asarray(outputs))

    def curve(loss: float) -> Curve:
        family = Family(tuple(np.asarray([k]) for k in range(32)), ())
        errors = np.linspace(0.0, 2 * loss, 33)
        return Curve(family, tuple(range(32)), errors, errors)

    layers = [work(10.0, (32.0, 0.0, 0.0)), work(200.0, (0.0, 32.0, 0.0))]
    assert planned(0.2, [curve(0.01), curve(0.15)], layers, 16, True).gone == (0, 16)
    equal = [replace(layer, cost=100.0) for layer in layers]
    assert planned(0.2, [curve(0.01), curve(0.15)], equal, 16, True).gone == (16, 0)


def test_what_is_not_multiplications_goes_with_inputs_and_results() -> None:
    family = Family(tuple(np.asarray([k]) for k in range(32)), ())
    curves = [Curve(family, tuple(range(32)), np.zeros(33), np.zeros(33))]
    both = Work(Node("Conv", (), ()), 100, 100.0, np.asarray([32.0, 0.0]), np.asarray([0.0, 64.0]), 0.5)
    search = _Search(curves, [both], 16, True)
    assert search.time([32]) == 100.0
    assert search.time([16]) == pytest.approx(50 * 0.5 + 50 * (0.5 + 1) / 2)
