"""Real models without some of their channels: they compile, run, and say what went and what did not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler.calibration.request import SETTING, Request
from edgec.compiler.compare import verify
from edgec.compiler.dtypes import dtype
from edgec.compiler.exporter import save_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph
from edgec.compiler.macs import macs
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.runtime import Port, random_inputs
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

from .models import MODELS, Model, find, needs


def _imported(model: Model) -> Graph:
    graph = import_model(
        find(model.name), shapes=model.shapes, dims=model.dims, binds=model.bind, notice=lambda text: None
    )
    return run_pipeline(graph, "canonicalize, fold")


def _feed(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    return random_inputs([Port(v.name, dtype(v.type.dtype).numpy.name, v.shape) for v in graph.inputs], seed)


@pytest.mark.parametrize(
    "model", [pytest.param(m, id=m.name, marks=[pytest.mark.long] if m.long else []) for m in MODELS]
)
def test_a_quarter_of_the_channels_goes(model: Model, tmp_path: Path) -> None:
    """Through ONNX and back: the library computes what the interpreter does; where nothing goes, the reason is said."""
    needs(find_target("host"))
    graph = _imported(model)
    samples = {v.name: np.stack([_feed(graph, seed)[v.name] for seed in range(4)]) for v in graph.inputs}
    session = Session(target=find_target("host"), settings={SETTING: Request(samples)})
    pruned = run_pipeline(graph, "prune{channels=0.25}", session)
    assert session.compression is not None and all(
        r.macs_after < r.macs_before or r.reason for r in session.compression.layers
    )
    if pruned is graph:
        assert any("no channels are removed" in note for note in session.notes)
        return
    assert macs(pruned) < macs(graph)
    assert [v.type for v in pruned.outputs] == [v.type for v in graph.outputs]
    save_model(pruned, tmp_path / "pruned.onnx")
    folder = edgec.compile(tmp_path / "pruned.onnx", out=tmp_path / "out").folder
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
