"""What ONNX Runtime's optimizers fuse answers as it does there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.errors import UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret

ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(4)
I32 = np.int32


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype("f4")


def model(op: str, args: Sequence[Any], outputs: Sequence[str] = ("y",), feeds: int = 1, **attrs: Any) -> Any:
    """One node; its first arguments are inputs, as many as `feeds`, the others constants; None is left out."""
    names = ["" if a is None else f"a{k}" for k, a in enumerate(args)]
    arrays = {n: a for n, a in zip(names, args, strict=True) if n}
    inputs = list(arrays)[:feeds]
    kind = helper.np_dtype_to_tensor_dtype
    infos = [helper.make_tensor_value_info(n, kind(arrays[n].dtype), arrays[n].shape) for n in inputs]
    held = [numpy_helper.from_array(a, n) for n, a in arrays.items() if n not in inputs]
    node = helper.make_node(op, names, list(outputs), "it", domain="com.microsoft", **attrs)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs if n]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", infos, ends, held)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), {n: arrays[n] for n in inputs}


def same(
    op: str, args: Sequence[Any], outputs: Sequence[str] = ("y",), feeds: int = 1, off: float = 2e-6, **attrs: Any
) -> None:
    proto, given = model(op, args, outputs, feeds, **attrs)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, given)
    got = interpret(import_model(proto), given)
    for name, expected in zip((n for n in outputs if n), want, strict=True):
        assert got[name].shape == expected.shape
        np.testing.assert_allclose(got[name], expected, rtol=off, atol=off * np.abs(expected).max())


@pytest.mark.parametrize("turned", [{}, {"transA": 1}, {"transB": 1, "alpha": 0.25}])
def test_products(turned: dict[str, Any]) -> None:
    a, b = ((2, 5, 4) if "transA" in turned else (2, 4, 5)), ((2, 3, 5) if "transB" in turned else (2, 5, 3))
    same("FusedMatMul", [f32(*a), f32(*b)], feeds=2, **turned)


@pytest.mark.parametrize("op", ["Gelu", "BiasGelu", "FastGelu", "QuickGelu"])
def test_functions(op: str) -> None:
    same(op, [3 * f32(4, 6), *([f32(6)] if op in ("BiasGelu", "FastGelu") else [])])
    if op == "FastGelu":
        same(op, [f32(4, 6)])


@pytest.mark.parametrize("count", [3, 4, 5])
def test_layer_normalization_of_a_sum(count: int) -> None:
    args = [f32(2, 3, 8), f32(2, 3, 8), f32(8), f32(8), f32(8)][:count]
    same("SkipLayerNormalization", args, ("y", "", "", "sum"), 2, epsilon=1e-5)


@pytest.mark.parametrize("count", [3, 4])
def test_root_mean_square_of_a_sum(count: int) -> None:
    same(
        "SkipSimplifiedLayerNormalization",
        [f32(2, 3, 8), f32(2, 3, 8), f32(8), f32(8)][:count],
        ("y", "", "", "sum"),
        2,
    )


@pytest.mark.parametrize("segments", [True, False])
def test_embeddings(segments: bool) -> None:
    ids, kinds = RNG.integers(0, 9, (2, 5)).astype(I32), RNG.integers(0, 2, (2, 5)).astype(I32)
    tables = [f32(9, 8), f32(7, 8), f32(2, 8) if segments else None]
    same(
        "EmbedLayerNormalization",
        [ids, kinds if segments else None, *tables, f32(8), f32(8)],
        ("y", "", "sum"),
        epsilon=1e-5,
    )


def test_how_many_words_a_mask_leaves() -> None:
    ids, mask = np.ones((2, 5), I32), np.asarray([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], I32)
    args = [ids, None, f32(9, 8), f32(7, 8), None, f32(8), f32(8), mask]
    graph = import_model(model("EmbedLayerNormalization", args, ("y", "n"))[0])
    assert interpret(graph, {"a0": ids})["n"].tolist() == [3, 5]


MASKS = {
    "none": None,
    "lengths": np.asarray([5, 3], I32),
    "keys": np.asarray([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], I32),
    "steps": np.tril(np.ones((2, 5, 5), I32)),
}


@pytest.mark.parametrize("mask", list(MASKS))
def test_attention(mask: str) -> None:
    same("Attention", [f32(2, 5, 12), f32(12, 24), f32(24), MASKS[mask]], num_heads=2, off=1e-5)


def test_attention_that_looks_back_and_is_biased() -> None:
    args = [f32(2, 5, 12), f32(12, 24), f32(24)]
    same("Attention", args, num_heads=2, unidirectional=1, off=1e-5)
    same("Attention", [*args, None, None, f32(2, 2, 5, 5)], num_heads=2, scale=0.3, off=1e-5)
    with pytest.raises(UnsupportedModel, match="turns positions"):
        import_model(model("Attention", args, num_heads=2, do_rotary=1)[0])


@pytest.mark.parametrize("biased", [True, False])
def test_attention_of_three_tensors(biased: bool) -> None:
    args = [f32(2, 5, 8), f32(2, 7, 8), f32(2, 7, 12), f32(28) if biased else None]
    keys = np.asarray([[1] * 7, [1, 1, 1, 0, 1, 0, 0]], I32)
    same("MultiHeadAttention", [*args, keys, f32(1, 2, 5, 7)], feeds=3, num_heads=2, off=1e-5)


ACTIVATIONS = {
    "Relu": [],
    "LeakyRelu": [0.1],
    "Clip": [-0.5, 0.8],
    "HardSigmoid": [0.2, 0.4],
    "Tanh": [],
    "Sigmoid": [],
}


@pytest.mark.parametrize("kind", list(ACTIVATIONS))
def test_convolutions(kind: str) -> None:
    params = {"activation_params": ACTIVATIONS[kind]} if ACTIVATIONS[kind] else {}
    args = [f32(1, 3, 8, 8), f32(4, 3, 3, 3), f32(4)]
    same("FusedConv", args, activation=kind, pads=[1, 1, 1, 1], strides=[2, 2], off=1e-5, **params)


def test_products_of_bytes() -> None:
    a, b = RNG.integers(0, 256, (4, 8)).astype("u1"), RNG.integers(-128, 128, (8, 6)).astype("i1")
    scales = [np.float32(0.02), RNG.random(6).astype("f4")]
    same("MatMulIntegerToFloat", [a, b, *scales, np.uint8(120), np.zeros(6, "i1"), f32(6)])
    same("MatMulIntegerToFloat", [a, b, *scales])
    same("DynamicQuantizeMatMul", [f32(4, 8), b, scales[1], np.zeros(6, "i1"), f32(6)])


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_recurrence_with_weights_of_bytes(per_channel: bool) -> None:
    """ONNX Runtime rounds inputs and states to bytes as well, which edgec does not."""
    size, inputs, ways = 6, 5, 2
    w, r = (RNG.integers(-128, 128, (ways, k, 4 * size)).astype("i1") for k in (inputs, size))
    of = (ways, 4 * size) if per_channel else (ways,)
    scales = [(0.004 + 0.002 * RNG.random(of)).astype("f4") for _ in range(2)]
    zeros = np.zeros(of, "i1")
    args = [f32(7, 2, inputs), w, r, f32(ways, 8 * size), None, f32(ways, 2, size), f32(ways, 2, size), None]
    args += [scales[0], zeros, scales[1], zeros]
    attrs = {"direction": "bidirectional", "hidden_size": size}
    same("DynamicQuantizeLSTM", args, ("y", "h", "c"), off=0.03, **attrs)
