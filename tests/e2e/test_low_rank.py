"""Split models: the exported one answers in ONNX Runtime what its bundle answers, and as the whole one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler.calibration.request import SETTING, requested
from edgec.compiler.exporter import save_model
from edgec.compiler.importer import import_model
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

from .models import find

NAME = "mnist_cntk_8"


def pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Strokes: a few straight lines each, in the units of the digits' pixels."""
    rng = np.random.default_rng(0)
    made = np.zeros((count, 1, 1, 28, 28), np.float32)
    for picture in made[:, 0, 0]:
        for _ in range(4):
            (y, x), (dy, dx) = rng.uniform(6, 22, 2), rng.uniform(-0.7, 0.7, 2)
            for step in range(14):
                row, column = int(np.clip(y + dy * step, 0, 27)), int(np.clip(x + dx * step, 0, 27))
                picture[row, column] = 255.0
    return made


def test_a_split_model_answers_alike_as_onnx_and_as_bundle(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    path, data = find(NAME), pictures(96)
    session = Session(target=find_target("host"), settings={SETTING: requested(data[:64], None), "threads": 1})
    graph = import_model(path, notice=lambda text: None)
    small = run_pipeline(graph, "canonicalize, fold, low-rank{total=0.8}", session)
    assert session.compression is not None
    records = session.compression.layers
    if all(r.macs_after == r.macs_before for r in records):
        pytest.skip("no split wins on this machine")
    saved = tmp_path / "small.onnx"
    save_model(small, saved)
    onnx.checker.check_model(onnx.load(saved))
    runtime = ort.InferenceSession(str(saved), providers=["CPUExecutionProvider"])
    spec = "+low-rank{total=0.8}@fold"
    bundle = edgec.compile(path, out=tmp_path / "bundle", passes=spec, calib=data[:64])
    whole = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = runtime.get_inputs()
    same = 0
    with edgec.load(bundle.folder) as model:
        (name,) = (i.name for i in model.inputs)
        for picture in data[64:]:
            (wanted,) = runtime.run(None, {given.name: picture})
            (found,) = model.run({name: picture}).values()
            assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
            (first,) = whole.run(None, {whole.get_inputs()[0].name: picture})
            same += int(first.argmax() == wanted.argmax())
    assert same >= 0.9 * len(data[64:])
    assert sum(r.macs_after for r in records) <= 0.8 * sum(r.macs_before for r in records)
    assert [row["layer"] for row in bundle.manifest["compression"]["layers"]] == [r.layer for r in records]
