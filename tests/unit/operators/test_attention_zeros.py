"""Queries from which a mask hides every key give zeros where the weights of NaN are made zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgec.compiler.interpret import interpret
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.text_parse import parse

CASE = Path(__file__).parents[2] / "eir/attention/nan_guard.eir"


def test_a_query_that_sees_no_key_gives_zeros_when_fused() -> None:
    graph = parse(CASE.read_text().split("# =>")[0])
    fused = run_pipeline(graph, parse_pipeline("canonicalize, fold, attention"), Session())
    assert "Edgec.Attention" in {node.op for node in fused.nodes()}
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs[:3]}
    feeds["seen"] = np.ones((1, 1, 3, 6), bool)
    feeds["seen"][..., 1, :] = False
    want, got = (interpret(g, feeds)["y"] for g in (graph, fused))
    assert not np.any(got[:, :, 1]) and np.all(got[:, :, 0])
    np.testing.assert_allclose(got, want, atol=1e-6)
