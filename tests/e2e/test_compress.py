"""`edgec compress` on a real model: a small budget of flash and RAM, and what ONNX Runtime makes of the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.execution.model import Model

from .models import find

NAME = "mlperf_vww_mbv1_025"


def pictures(count: int) -> np.ndarray:
    """Smooth random pictures with values from 0 to 1."""
    random = np.random.default_rng(0)
    small = random.uniform(0, 1, (count, 6, 6, 3))
    waves = np.kron(small, np.ones((1, 16, 16, 1))) * 0.8 + 0.1 * random.uniform(size=(count, 1, 1, 3))
    return np.clip(waves, 0, 1).astype(np.float32)


@pytest.mark.long
def test_a_model_within_the_flash_and_ram_of_a_small_device(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    data = pictures(24)
    made = edgec.compress(
        find(NAME),
        "rpi4",
        tmp_path / "out",
        calib=data,
        max_flash="260K",
        max_ram="100K",
        methods=["int8", "channels"],
        time="5m",
        name="person",
    )
    bundle, chosen = made.bundle, made.table["chosen"]
    assert bundle.weights_bytes + bundle.code_bytes == chosen["flash_bytes"] <= 260 * 1024
    assert bundle.arena_bytes == chosen["ram_bytes"] <= 100 * 1024
    assert "int8-inputs" in chosen["what"] and made.table["binding"]
    onnx.checker.check_model(str(made.model), full_check=True)
    here = edgec.compile(made.model, "host", tmp_path / "here", name="person")
    session = runtime.InferenceSession(str(made.model), providers=["CPUExecutionProvider"])
    with Model(here) as model:
        (port,) = model.inputs
        assert port.dtype == "uint8" and port.scale
        for x in data[:8]:
            feed = {port.name: np.clip(np.rint(x[None] / port.scale) + (port.zero_point or 0), 0, 255).astype(np.uint8)}
            (want,) = session.run(None, feed)
            (got,) = model.run(feed).values()
            assert np.abs(got - want).max() <= 0.05
