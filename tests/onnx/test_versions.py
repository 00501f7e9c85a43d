"""Every operator means, in every operator set, what that set's version of it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import edgec.backend
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.onnx.rows_elementwise import conversions, elementwise, pairs
from tests.onnx.rows_folds import products, quantized, reductions, windows
from tests.onnx.rows_moving import constants, moved, rearranged
from tests.onnx.rows_norms import normalized
from tests.onnx.rows_positions import ordered, scattered, unwindowed
from tests.onnx.versions import K, Row, versions

ort = pytest.importorskip("onnxruntime")

FAMILIES = (
    elementwise, pairs, conversions, reductions, rearranged, moved, constants, windows, products, quantized, normalized,
    scattered, ordered, unwindowed,
)  # fmt: skip
ROWS = [row for family in FAMILIES for row in family()]
LOOSE = {"LRN", "GlobalLpPool", "LpPool", "Pow"}


def model(row: Row, opset: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The node as a model, and its inputs."""
    names, feeds, weights = [], {}, []
    for k, arg in enumerate(row.args):
        names.append("" if arg is None else f"a{k}")
        if isinstance(arg, K):
            weights.append(numpy_helper.from_array(arg.value, f"a{k}"))
        elif arg is not None:
            feeds[f"a{k}"] = arg
    outputs = [f"y{k}" for k in range(row.results)]
    node = helper.make_node(row.op, names, outputs, **row.attrs)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in feeds.items()
    ]
    graph = helper.make_graph([node], row.op, infos, [onnx.ValueInfoProto(name=n) for n in outputs], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(made)
    for k, name in enumerate(outputs):
        if not inferred.graph.output[k].type.WhichOneof("value"):
            inferred.graph.output[k].CopyFrom(helper.make_tensor_value_info(name, 1, None))
    return inferred, feeds


def wanted(row: Row, proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """By the row itself, by ONNX Runtime, or by ONNX's evaluator where that one lacks the operator."""
    if row.meaning is not None:
        found = row.meaning(*(a.value if isinstance(a, K) else a for a in row.args))
        return list(found) if isinstance(found, tuple) else [found]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    except Exception:  # it has no class for what is not implemented
        return list(ReferenceEvaluator(proto).run(None, feeds))


def same(got: Any, want: Any, op: str, where: str = "") -> None:
    want = np.asarray(want)
    assert got.shape == want.shape, where
    tolerance = 0.0 if want.dtype.kind != "f" else 1e-4 if op in LOOSE else 1e-5
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=where)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_versions(row: Row) -> None:
    for opset in row.opsets():
        proto, feeds = model(row, opset)
        graph = import_model(proto)
        answers = interpret(graph, {v.name: feeds[v.name] for v in graph.inputs})
        for k, want in enumerate(wanted(row, proto, feeds)):
            same(answers[f"y{k}"], want, row.op, f"opset {opset}")


def test_every_version_of_an_operator_is_met() -> None:
    met = {(row.op, max(v for v in versions(row.op) if v <= opset)) for row in ROWS for opset in row.opsets()}
    assert {(op, v) for op in {row.op for row in ROWS} for v in versions(op)} <= met


# some rows of operators whose form changed, through the whole compiler
CHANGED = ("Clip", "Slice", "Pad", "ReduceMean", "BatchNormalization", "Split", "TopK", "ScatterElements")
COMPILED = [row for row in ROWS if row.op in CHANGED][::5]


@pytest.mark.parametrize("row", COMPILED, ids=str)
def test_compiled(row: Row) -> None:
    proto, feeds = model(row, next(row.opsets()))
    answers = edgec.backend.run_model(proto, list(feeds.values()))
    for got, want in zip(answers, wanted(row, proto, feeds), strict=True):
        same(got, want, row.op)
