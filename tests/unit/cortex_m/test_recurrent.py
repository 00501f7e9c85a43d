"""Recurrences on an emulated Cortex-M4, whose products are assembly: close to their meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.bundle import read_bundle
from edgec.compiler.bundle.firmware import Firmware
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run
from tests.support.emulated import needs_board
from tests.unit.importer.test_recurrence import feed, model

pytestmark = pytest.mark.firmware
BOTH: dict[str, Any] = {"direction": "bidirectional"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one unit": ("RNN", {"hidden": 1, "batch": 1}),
    "whole tiles": ("RNN", {"hidden": 16, "given": ("B", "h")}),
    "a tile left over": ("GRU", {"hidden": 11, "batch": 1, "given": ("B",), "linear_before_reset": 1}),
    "two phases": ("GRU", {"hidden": 13, "given": ("B", "h"), **BOTH}),
    "four gates": ("LSTM", {"hidden": 8, "batch": 1, "given": ("B",)}),
    "everything": ("LSTM", {"hidden": 9, "given": ("B", "h", "c", "P", "lengths"), "read": (0, 1, 2), **BOTH}),
    "three gates": ("LSTM", {"hidden": 10, "given": ("B",), "input_forget": 1, "direction": "reverse"}),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_a_recurrence_is_close(case: str, optimize: str, tmp_path: Path) -> None:
    needs_board()
    op, options = CASES[case]
    made = model(op, **options)
    onnx.save(made, tmp_path / "model.onnx")
    edgec.compile(tmp_path / "model.onnx", target="cortex-m4", out=tmp_path / "out", optimize=optimize)
    bundle = read_bundle(tmp_path / "out")
    (step,) = [s for s in bundle.steps if s["kernel"] == "recurrent"]
    assert "dots=1" in step["config"]
    graph = import_model(made)
    feeds = feed(graph)
    (got,) = Firmware(bundle).run([dict(zip((v.node.name for v in graph.inputs), feeds, strict=True))])
    for value, want in zip(got.values(), run(graph, feeds), strict=True):
        np.testing.assert_allclose(value, want, rtol=0, atol=2e-6)
