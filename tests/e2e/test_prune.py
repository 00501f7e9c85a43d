"""Real models without some of their channels: they compile, run, and say what went and what did not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler.calibration.request import SETTING, Request
from edgec.compiler.compare.bundle import verify
from edgec.compiler.driver import compile_for
from edgec.compiler.dtypes import dtype
from edgec.compiler.exporter import save_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph
from edgec.compiler.macs import macs
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.ports import Port, random_inputs
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

from .models import MODELS, Model, find, needs

MORE = (
    *(
        Model(name)
        for name in "basic_pitch_nmp gtcrn_simple magika_standard_v3_3 mlperf_sww_1dcnn mp_face_landmark".split()
    ),
    *(Model(name) for name in "mp_selfie_segmentation_landscape squeezenet_fp16 st_mobilenet_v2_128_050".split()),
    *(Model(f"mlperf_{name}_int8") for name in ("ad_autoenc", "ic_resnet8", "kws_dscnn", "sww_1dcnn", "vww_mbv1_025")),
    Model("minilm_l6", dims={"sequence": 32, "batch": 1}),
    Model("ppocr_v3_mobile_det", shapes={"x": (1, 3, 160, 160)}),
    Model("yunet_n_dynamic", dims={"height": 160, "width": 160}),
)


def _imported(model: Model) -> Graph:
    graph = import_model(
        find(model.name), shapes=model.shapes, dims=model.dims, binds=model.bind, notice=lambda text: None
    )
    return run_pipeline(graph, "canonicalize, fold")


def _feed(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    return random_inputs([Port(v.name, dtype(v.type.dtype).numpy.name, v.shape) for v in graph.inputs], seed)


@pytest.mark.parametrize(
    "model", [pytest.param(m, id=m.name, marks=[pytest.mark.long] if m.long else []) for m in (*MODELS, *MORE)]
)
def test_a_quarter_of_the_channels_goes(model: Model, tmp_path: Path) -> None:
    """The library computes what the interpreter does; where nothing goes, the reason is said."""
    needs(find_target("host"))
    graph = _imported(model)
    samples = {v.name: np.stack([_feed(graph, seed)[v.name] for seed in range(4)]) for v in graph.inputs}
    session = Session(target=find_target("host"), settings={SETTING: Request(samples)})
    pruned = run_pipeline(graph, "prune{channels=0.25}", session)
    assert session.compression is not None and all(
        r.macs_after < r.macs_before or r.reason for r in session.compression.layers
    )
    if pruned.outputs == graph.outputs:
        assert any("no channels are removed" in note for note in session.notes)
        return
    assert macs(pruned) < macs(graph)
    assert [v.type for v in pruned.outputs] == [v.type for v in graph.outputs]
    folder = compile_for(find_target("host"), replace(pruned, name="pruned"), tmp_path / "out", 1).folder
    feed = _feed(graph, 9)
    want, got = interpret(pruned, feed), edgec.load(folder).run(feed)
    for name, array in want.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(got[name], array, rtol=0, atol=2e-3 * max(float(np.abs(array).max()), 1e-6))


def test_onnx_runtime_agrees_with_the_library(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    graph = _imported(Model("mlperf_ic_resnet8"))
    samples = {v.name: np.stack([_feed(graph, seed)[v.name] for seed in range(8)]) for v in graph.inputs}
    pruned = run_pipeline(graph, "prune{channels=0.3}", Session(settings={SETTING: Request(samples)}))
    path = tmp_path / "pruned.onnx"
    save_model(pruned, path)
    folder = edgec.compile(path, out=tmp_path / "out").folder
    assert verify(path, folder, runs=3).ok
