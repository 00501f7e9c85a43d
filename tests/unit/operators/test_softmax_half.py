"""Softmax in f16 and bf16 rounds where ONNX's definition by other operators does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.support.harness import execute, one

HALF = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


def defined(x: Any, axis: int, total: Any = None) -> Any:
    """Every operator rounds its result; the sum adds in f32 unless `total` is given."""
    e = np.exp(x - x.max(axis, keepdims=True))
    assert e.dtype == x.dtype
    return e / (e.astype(np.float32).sum(axis, keepdims=True).astype(x.dtype) if total is None else total(e))


def imported(x: Any, axis: int, kind: int) -> Any:
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"], axis=axis)],
        "softmax",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    return interpret(import_model(model), {"x": x})["y"]


@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize(("shape", "axis"), [((3, 40), 1), ((40, 24), 0), ((2, 9, 5), 1)])
def test_each_step_rounds(tmp_path: Path, kind: str, shape: tuple[int, ...], axis: int) -> None:
    x = (3 * np.random.default_rng(2).standard_normal(shape)).astype(HALF[kind])
    text = f"{kind}[{', '.join(map(str, shape))}]"
    (y,) = execute(one("Softmax", text, axis=axis), "softmax", [x], tmp_path)
    want = defined(x, axis)
    assert np.mean(y != want) < 0.02  # the order in which f32 adds moves a few to a neighbour
    np.testing.assert_allclose(y.astype("f8"), want.astype("f8"), rtol=2 * float(ml_dtypes.finfo(HALF[kind]).eps))
    once = np.exp(x.astype("f4")) / np.exp(x.astype("f4")).sum(axis, keepdims=True)
    assert np.mean(once.astype(HALF[kind]) != want) > 0.1  # what rounding once would give


def test_few_bf16_are_added_one_after_the_other() -> None:
    x = (3 * np.random.default_rng(2).standard_normal((50, 7))).astype(ml_dtypes.bfloat16)

    def chain(e: Any) -> Any:
        total = e[:, :1]
        for k in range(1, e.shape[1]):
            total = total + e[:, k : k + 1]
        return total

    np.testing.assert_array_equal(imported(x, 1, TensorProto.BFLOAT16), defined(x, 1, chain))
    np.testing.assert_array_equal(imported(x.T, 0, TensorProto.BFLOAT16), defined(x, 1, chain).T)
    assert np.any(defined(x, 1) != defined(x, 1, chain))


@pytest.mark.parametrize(("kind", "onnx"), [("f16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_long_rows_keep_their_sum(tmp_path: Path, kind: str, onnx: int) -> None:
    """One after the other, bf16 would stop at 256; 70,000 ones are more than f16 holds."""
    x = np.zeros((1, 70_000), HALF[kind])
    want = np.full(x.shape, 1 / 70_000, np.float32)
    np.testing.assert_allclose(imported(x, 1, onnx).astype("f4"), want, rtol=2e-2)
    (y,) = execute(one("Softmax", f"{kind}[1, 70000]", axis=1), "softmax", [x], tmp_path)
    np.testing.assert_allclose(y.astype("f4"), want, rtol=2e-2)
