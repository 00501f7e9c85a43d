"""Operators of domain com.microsoft, as tools of ONNX Runtime write them: the answers are that runtime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgec.compiler.errors import UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret

ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(2)
F = np.float32


def model(op: str, args: list[Any], feeds: int = 1, **attrs: Any) -> tuple[Any, dict[str, Any]]:
    """One node; its first array arguments are inputs, as many as `feeds`, the others constants; None is left out."""
    names = ["" if a is None else f"a{k}" for k, a in enumerate(args)]
    arrays = {n: np.asarray(a) for n, a in zip(names, args, strict=True) if n}
    given = dict(list(arrays.items())[:feeds])
    kind = helper.np_dtype_to_tensor_dtype
    infos = [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in given.items()]
    held = [numpy_helper.from_array(a, n) for n, a in arrays.items() if n not in given]
    node = helper.make_node(op, names, ["y"], "it", domain="com.microsoft", **attrs)
    graph = helper.make_graph(
        [node], "g", infos, [helper.make_tensor_value_info("y", infos[0].type.tensor_type.elem_type, None)], held
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), given


def both(op: str, args: list[Any], feeds: int = 1, **attrs: Any) -> tuple[Any, Any]:
    proto, given = model(op, args, feeds, **attrs)
    proto.graph.output[0].ClearField("type")
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, given)[0]
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(want.dtype), None)
    )
    got = interpret(import_model(proto), given)["y"]
    assert got.shape == want.shape and got.dtype == want.dtype
    return got, want


def near(op: str, args: list[Any], feeds: int = 1, **attrs: Any) -> None:
    """Within one step, on the other side of a half; nearly all are equal."""
    got, want = both(op, args, feeds, **attrs)
    off = np.abs(got.astype(np.int64) - want)
    assert off.max() <= 1 and (off > 0).mean() < 0.05 and np.unique(want).size > 3


def numbers(kind: Any, *shape: int) -> Any:
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max + 1, shape).astype(kind)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_two_tensors(op: str, kind: Any) -> None:
    a, b = numbers(kind, 30, 50), numbers(kind, 50)
    near(op, [a, F(0.0313), kind(7), b, F(0.0521), kind(90), F(0.1017), kind(60)])


@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu"])
def test_functions(op: str) -> None:
    x = np.arange(256).astype(np.uint8)
    near(op, [x, F(0.04), np.uint8(120), F(1 / 250), np.uint8(3)], **({"alpha": 0.2} if "Leaky" in op else {}))


def test_a_zero_point_that_is_missing_is_zero() -> None:
    """ONNX Runtime itself does not survive this one."""
    x = np.arange(256).astype(np.uint8)
    graph = import_model(model("QLinearLeakyRelu", [x, F(0.5), None, F(0.25)])[0])
    np.testing.assert_array_equal(interpret(graph, {"a0": x})["y"], np.minimum(x.astype(int) * 2, 255))


@pytest.mark.parametrize(("opset", "axis"), [(11, 1), (13, -1), (13, 1)])
def test_softmax(opset: int, axis: int) -> None:
    x = numbers(np.int8, 2, 4, 5)
    near("QLinearSoftmax", [x, F(0.02), np.int8(3), F(1 / 256), np.int8(-128)], axis=axis, opset=opset)


@pytest.mark.parametrize("last", [0, 1])
def test_pools(last: int) -> None:
    x = numbers(np.uint8, 2, 6, 7, 5)
    ends = [x, F(0.04), np.uint8(120), F(0.03), np.uint8(110)]
    window: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0], "channels_last": last}
    near("QLinearAveragePool", ends, **window)
    near("QLinearAveragePool", ends, count_include_pad=1, **window)
    near("QLinearGlobalAveragePool", [*ends[:3], F(0.01), ends[4]], channels_last=last)


def test_means() -> None:
    ends = [numbers(np.uint8, 3, 4, 9), F(0.04), np.uint8(120), F(0.02), np.uint8(110)]
    graph = import_model(model("QLinearReduceMean", ends, axes=[-1], keepdims=0)[0])
    mean = (ends[0].astype(F) - 120).mean(-1) * 0.04
    want = np.clip(np.rint(mean / 0.02) + 110, 0, 255)
    assert np.abs(interpret(graph, {"a0": ends[0]})["y"] - want).max() <= 1


def test_concat() -> None:
    a, b = numbers(np.int8, 2, 3), numbers(np.int8, 2, 4)
    near("QLinearConcat", [F(0.1), np.int8(4), a, F(0.1), np.int8(4), b, F(0.07), np.int8(-9)], feeds=3, axis=1)


def test_where() -> None:
    which, a, b = RNG.random((2, 3)) < 0.5, numbers(np.uint8, 2, 3), numbers(np.uint8, 2, 3)
    near("QLinearWhere", [which, a, F(0.1), np.uint8(4), b, F(0.07), np.uint8(9), F(0.2), np.uint8(7)])


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("per_column", [False, True])
def test_gemm(turned: int, per_column: bool) -> None:
    """With a bias in units of the sums; without a scale of the result that is real."""
    a, b = numbers(np.uint8, 4, 30), numbers(np.int8, 30, 8)
    scale = (RNG.random(8) * 0.02 + 0.01).astype(F) if per_column else F(0.015)
    zero = np.zeros(8, np.int8) if per_column else np.int8(0)
    bias = RNG.integers(-3000, 3000, 8).astype(np.int32)
    front = [a, F(0.02), np.uint8(99), np.ascontiguousarray(b.T) if turned else b, scale, zero]
    near("QGemm", [*front, bias, F(0.5), np.uint8(128)], transB=turned, alpha=1.0)
    near("QGemm", [*front, None, F(0.5), np.uint8(128)], transB=turned, alpha=0.5)
    got, want = both("QGemm", [*front, bias], transB=turned, alpha=2.0)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("bits", "block", "rows"), [(4, 16, 40), (4, 32, 64), (8, 32, 70), (2, 16, 48)])
def test_weights_of_few_bits(bits: int, block: int, rows: int, zeros: bool) -> None:
    """Rows that fill no block, zero points in the middle where none are given, and a bias."""
    columns, blocks = 5, -(-rows // block)
    x, b = RNG.standard_normal((3, rows)).astype(F), numbers(np.uint8, columns, blocks, block * bits // 8)
    scales = (RNG.random((columns, blocks)) * 0.1 + 0.01).astype(F)
    packed = numbers(np.uint8, columns, -(-blocks * bits // 8)) if zeros else None
    attrs = {"K": rows, "N": columns, "bits": bits, "block_size": block}
    bias = RNG.standard_normal(columns).astype(F)
    got, want = both("MatMulNBits", [x, b, scales, packed, None, bias], **attrs)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_what_of_few_bits_is_refused() -> None:
    x, b, scales = np.zeros((1, 32), F), np.zeros((2, 1, 16), np.uint8), np.ones((2, 1), F)
    attrs = {"K": 32, "N": 2, "bits": 4, "block_size": 32}
    for args, other, why in (
        ([x, b, scales, None, np.zeros(32, np.int32)], {}, "grouped by an index"),
        ([x, b, scales, np.zeros((2, 1), F)], {}, "its zero points are f32; expected u8"),
        ([x, b, scales], {"bits": 5}, "its weights have 5 bits; expected 2, 4 or 8"),
    ):
        with pytest.raises(UnsupportedModel, match=why):
            import_model(model("MatMulNBits", args, **{**attrs, **other})[0])


@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_ends_in_the_domain_of_the_runtime(kind: Any) -> None:
    """QDQ nodes of types that ONNX's own had later."""
    x = (RNG.standard_normal((4, 6)) * 3).astype(F)
    near("QuantizeLinear", [x, F(0.02), kind(100)])
    got, want = both("DequantizeLinear", [numbers(kind, 4, 6), F(0.02), kind(100)])
    np.testing.assert_array_equal(got, want)
