"""Zeros among the weights of a real model: kernels that leave them out, smaller weights, and the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgec
import edgec.passes.prune
from edgec.compiler.driver import load_kernels
from edgec.compiler.exporter import save_model
from edgec.compiler.importer import import_model
from edgec.compiler.op import const_array
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

from .models import find

MODEL = "mobilenet_v2_100_224"


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "row", "smaller"),
    [("sparsity=0.8", "conv_f32_sparse", 0.65), ("sparsity=0.8, block=16x1", "sparse_blocks", 0.4)],
)
def test_zeros_make_a_model_smaller_and_give_what_onnx_runtime_gives(
    options: str, row: str, smaller: float, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    load_kernels()
    target = "x86-avx512"
    graph = import_model(find(MODEL), notice=lambda text: None)
    session = Session(target=find_target(target))
    pruned = run_pipeline(graph, parse_pipeline(f"canonicalize, fold, prune{{{options}}}"), session)
    assert session.compression is not None
    sparse = {r.layer for r in session.compression.layers if "% zero" in r.reason}
    shares = {n.name: (const_array(n.args[1]) == 0).mean() for n in pruned.nodes() if n.op == "Conv"}
    assert len(sparse) >= 30 and all(shares[name] > 0.6 for name in sparse if name in shares)
    save_model(pruned, tmp_path / "pruned.onnx")
    dense, bundle = (
        edgec.compile(path, target=target, out=tmp_path / name)
        for path, name in ((find(MODEL), "dense"), (tmp_path / "pruned.onnx", "sparse"))
    )
    assert sum(row in step["kernel"] for step in bundle.steps) >= 30
    assert bundle.manifest["weights_bytes"] < smaller * dense.manifest["weights_bytes"]
    if find_target("host").cpu.isa >= find_target(target).cpu.isa:
        x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
        want = runtime.InferenceSession(str(tmp_path / "pruned.onnx")).run(None, {graph.inputs[0].name: x})[0]
        with edgec.load(bundle.folder) as model:
            got = next(iter(model.run({graph.inputs[0].name: x}).values()))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
