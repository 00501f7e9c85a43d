"""Models with control flow: built in a few lines, and compared with ONNX Runtime through the whole compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.driver import load_kernels
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

F, I64, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node
Array = npt.NDArray[Any]
RNG = np.random.default_rng(5)
W = helper.make_tensor("w", F, [4, 4], RNG.standard_normal(16).astype("f4"))


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype("f4")


def i64(value: int) -> Array:
    return np.asarray(value, np.int64)


def graph(name: str, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], weights: Any = ()) -> Any:
    """Types are (element type, shape)."""
    sides = [[helper.make_tensor_value_info(n, *t) for n, t in side.items()] for side in (inputs, outputs)]
    return helper.make_graph(nodes, name, sides[0], sides[1], list(weights))


def model(*args: Any) -> onnx.ModelProto:
    made = helper.make_model(graph("g", *args), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def check(proto: onnx.ModelProto, folder: Path, *feeds: dict[str, Array], threads: int = 1) -> tuple[str, ...]:
    """Compiled code and the interpreter answer like ONNX Runtime; the names of the steps."""
    ort = pytest.importorskip("onnxruntime")
    reference = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    imported = import_model(proto)
    load_kernels()
    run_pipeline(imported, find_target("host").pipeline, Session(target=find_target("host"), verify=3))
    edgec.compile(proto, target="host", out=folder / "b", threads=threads)
    with edgec.load(folder / "b") as compiled:
        for feed in feeds:
            want = reference.run(None, feed)
            for got in (compiled.run(feed), interpret(imported, feed)):
                for name, expected in zip((o.name for o in proto.graph.output), want, strict=True):
                    assert got[name].shape == expected.shape
                    np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-5)
        return compiled.steps
