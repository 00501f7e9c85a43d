"""Nodes of more arguments than the runtime passes to a kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.compiler.driver import load_kernels
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.registry import MAX_ARGS, Problem, choices
from edgec.compiler.target import find_target
from edgec.compiler.text import parse

MANY = 80


@pytest.mark.parametrize("batch", [1, 2])
def test_a_concat_of_many_values(batch: int, tmp_path: Path) -> None:
    """In one piece of memory, where each may be written to its place, and in several."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(4, 4, 1, 1)).astype("f4") for _ in range(MANY)]
    nodes = [helper.make_node("Conv", ["x", f"w{k}"], [f"y{k}"]) for k in range(MANY)]
    nodes.append(helper.make_node("Concat", [f"y{k}" for k in range(MANY)], ["y"], axis=1))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, n, 3, 3])
        for name, n in (("x", 4), ("y", 4 * MANY))
    ]
    constants = [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "many", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = rng.normal(size=(batch, 4, 3, 3)).astype("f4")
    edgec.compile(model, out=tmp_path)
    with edgec.load(tmp_path) as compiled:
        want = np.concatenate([np.einsum("oi,bihw->bohw", w[..., 0, 0], x) for w in weights], axis=1)
        np.testing.assert_allclose(compiled.run({"x": x})["y"], want, rtol=1e-4, atol=1e-5)


def concat(count: int) -> Graph:
    """Rows of so many values: no value of it lies in one piece."""
    names = [f"%x{k}" for k in range(count)]
    inputs = ", ".join(f"{name}: f32[2, 3]" for name in names)
    made = f"%y = Concat({', '.join(names)}) {{axis=1}} : f32[2, {3 * count}]"
    return parse(f"graph @g({inputs}) {{\n  {made}\n  return %y\n}}\n")


def test_fusion_keeps_kernels_within_what_the_runtime_passes() -> None:
    kernels = [n for n in run_pipeline(concat(700), "fuse").nodes() if n.op == "Edgec.Kernel"]
    assert len(kernels) >= 30 and max(len(n.args) for n in kernels) < MAX_ARGS


def test_no_kernel_is_offered_more() -> None:
    load_kernels()
    assert choices(Problem(concat(MAX_ARGS - 1), find_target("host")))
    assert not choices(Problem(concat(MAX_ARGS), find_target("host")))
