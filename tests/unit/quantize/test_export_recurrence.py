"""Recurrent operators are written as ONNX nodes that have their products with the input inside, as they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgec.compiler.exporter import NoForm, export_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run
from edgec.compiler.pipeline import run_pipeline
from tests.unit.importer.test_recurrence import feed, model

CASES: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {}),
    ("RNN", {"given": ("B", "h"), "direction": "reverse"}),
    ("RNN", {"activations": ["Relu"], "read": (1,)}),
    ("GRU", {"given": ("B",)}),
    ("GRU", {"given": ("B", "h", "lengths"), "linear_before_reset": 1, "direction": "bidirectional"}),
    ("LSTM", {"given": ("B", "h", "c", "P", "lengths"), "direction": "bidirectional", "read": (0, 1, 2)}),
    ("LSTM", {"given": ("B",), "clip": 0.3, "input_forget": 1}),
    ("LSTM", {"activations": ["HardSigmoid", "ScaledTanh", "LeakyRelu"], "activation_alpha": [0.3, 1.5, 0.1]}),
    ("LSTM", {"given": ("B", "h"), "layout": 1}),
    ("LSTM", {"given": ("B",), "constant": False}),
    ("GRU", {"given": ("B",), "constant": False}),
]


@pytest.mark.parametrize(("op", "options"), CASES)
def test_the_written_node_computes_the_same(op: str, options: dict[str, Any]) -> None:
    graph = run_pipeline(import_model(model(op, **options)), "canonicalize, fold")
    written = export_model(graph)
    onnx.checker.check_model(written, full_check=True)
    assert [n.op_type for n in written.graph.node].count(op) == 1
    feeds = feed(graph)
    for want, got in zip(run(graph, feeds), run(import_model(written), feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_the_input_is_multiplied_inside_the_node(op: str) -> None:
    written = export_model(run_pipeline(import_model(model(op, given=("B",))), "canonicalize, fold"))
    assert {n.op_type for n in written.graph.node} <= {op, "Reshape"}
    sizes = {len(c.dims): list(c.dims) for c in written.graph.initializer if list(c.dims)[-1:] == [3]}
    assert sizes[3][2] == 3  # W keeps its inputs


def test_directions_in_an_order_of_their_own_have_no_node() -> None:
    graph = import_model(model("GRU", given=("B",), direction="bidirectional"))
    turned = graph.map(
        lambda n: (
            type(n)(n.op, n.args, n.types, {**n.attrs, "reverse": (1, 0)}, n.name, n.origin).results
            if n.op == "Edgec.GRU"
            else None
        )
    )
    with pytest.raises(NoForm, match="directions"):
        export_model(turned)
