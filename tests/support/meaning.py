"""One operator: the interpreter's answer is ONNX Runtime's, of the type that inference states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler.importer import import_model
from edgec.compiler.interpret import trace
from edgec.compiler.op import OPS, infer
from tests.support.one_node import OneNode

pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(7)
SEEN: set[str] = set()  # the operators that were compared


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(low: int, high: int, *shape: int, to: Any = np.int32) -> np.ndarray[Any, Any]:
    return RNG.integers(low, high, shape).astype(to)


def i64(*values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values, np.int64)


def check(op: str, *args: Any, opset: int = 21, results: int = 1, tolerance: float = 1e-5, **attrs: Any) -> None:
    """One node, run here and by ONNX Runtime. Arguments: arrays are inputs, K constants, None is left out."""
    one = OneNode(op, args, opset, results, **attrs)
    wanted = one.runtime()
    g = import_model(one.model)
    values = trace(g, one.feeds)
    for n in g.nodes():
        SEEN.add(n.op)
        if OPS[n.op].kind != "source":
            assert infer(n.op, [a.type for a in n.args], n.attrs) == n.types
        for value in n.results:
            assert values[value].shape == value.shape, n
            assert values[value].dtype == {"f32": np.dtype("f4")}.get(value.type.dtype, values[value].dtype), n
    for (name, value), want in zip(g.results, wanted, strict=True):
        got = values[value]
        assert got.shape == want.shape and got.dtype == want.dtype, (name, got.dtype, want.dtype)
        if want.dtype.kind in "fV":
            scale = max(float(np.max(np.abs(want[np.isfinite(want)]), initial=0)), 1e-6)
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale)
        else:
            np.testing.assert_array_equal(got, want)
