"""QuantizeLinear and DequantizeLinear: every stored type, scales per tensor, slice and block, all forms of the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

import edgec
from edgec import EdgecError, UnsupportedModel
from edgec.compiler.dtypes import dtype
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph, Type
from edgec.compiler.op import build, const, evaluate
from edgec.compiler.ops.quantize import STORED
from tests.support.harness import chain, check, codes, one, sample

REAL = np.concatenate([np.arange(-40, 40) * 0.25, [300, -1e9, 1e9, np.inf, -np.inf, np.nan, -0.0, 1e-9]])


def element(name: str, *values: float) -> Any:
    return np.asarray(values).astype(dtype(name).numpy)


# ---- Compiled code and the interpreter


@pytest.mark.parametrize("to", sorted(STORED))
def test_into_every_stored_type(to: str, tmp_path: Path) -> None:
    """One kernel for scales of all types, with and without saturation."""
    scales = ("f32", "f16", "bf16", "f64")

    def make(zero: Any, *pairs: Any) -> Any:
        each = [(pairs[k], pairs[k + 1], n) for k in range(0, len(pairs), 2) for n in (0, 1)]
        return tuple(build("QuantizeLinear", x, scale, zero, saturate=n) for x, scale, n in each)

    kinds = [text for name in scales for text in (f"{name}[{REAL.size}]", f"{name}[]")]
    p = chain([f"{to}[]", *kinds], make)
    for zero in (0, 1):
        with np.errstate(over="ignore"):
            arrays = [a for n in scales for a in (REAL.astype(dtype(n).numpy), element(n, 0.5).reshape(()))]
        check(p, "generic_map", tmp_path, [element(to, zero).reshape(()), *arrays])


@pytest.mark.parametrize("source", sorted(STORED | {"i32"}))
def test_out_of_every_stored_type(source: str, tmp_path: Path) -> None:
    """One kernel for results of all types."""
    results = ("", "f32", "f16", "bf16", "f64")

    def make(x: Any, zero: Any, *scales: Any) -> Any:
        return tuple(build("DequantizeLinear", x, scale, zero, to=to) for scale in scales for to in results)

    p = chain([f"{source}[400]", f"{source}[]", "f32[]", "f16[]"], make)
    x = sample(np.random.default_rng(0), Type(source, (400,)))
    scales = [element(name, 0.375).reshape(()) for name in ("f32", "f16")]
    check(p, "generic_map", tmp_path, [x, element(source, 1).reshape(()), *scales], 0.0)
    assert [v.type.dtype for v in p.body.outputs] == ["f32", *results[1:], "f16", *results[1:]]


BLOCKS = [
    ((6, 8), 0, 3, (2, 8)),
    ((6, 8), 0, 4, (2, 8)),
    ((6, 8), 1, 3, (6, 3)),
    ((6, 8), -1, 1, (6, 8)),
    ((2, 9, 5), 1, 4, (2, 3, 5)),
    ((2, 9, 5), -2, 9, (2, 1, 5)),
    ((7,), 0, 2, (4,)),
    ((3, 40), 1, 16, (3, 3)),
]


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
@pytest.mark.parametrize("shape, axis, block, scales", BLOCKS)
def test_blocks(shape: Any, axis: int, block: int, scales: Any, where: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dims, per = ", ".join(map(str, shape)), ", ".join(map(str, scales))
    attrs = {"axis": axis, "block": block}

    def make(real: Any, x: Any, zero: Any, scale: Any) -> Any:
        return build("QuantizeLinear", real, scale, zero, **attrs), build("DequantizeLinear", x, scale, zero, **attrs)

    for name in ("u8", "i4"):
        p = chain([f"f32[{dims}]", f"{name}[{dims}]", f"{name}[{per}]", f"f32[{per}]"], make, where=where)
        real = (rng.standard_normal(shape) * 9).astype(np.float32)
        zero, scale = rng.integers(0, 3, scales).astype(dtype(name).numpy), rng.uniform(0.1, 3, scales)
        check(p, "generic_map", tmp_path, [real, sample(rng, Type(name, shape)), zero, scale.astype(np.float32)], 0.0)


@pytest.mark.parametrize("name", ["f8e4m3fn", "f8e5m2fnuz", "f4e2m1", "i4", "u2", "i8"])
def test_parameters_in_the_kernel(name: str, tmp_path: Path) -> None:
    """Constants of one element are literals there, zero among them."""

    def known(value: float, kind: str) -> Any:
        return const(element(kind, value).reshape(()))

    def make(real: Any, x: Any) -> Any:
        each = [(known(0.5, scale), known(zero, name)) for scale in ("f32", "bf16") for zero in (0, 1)]
        stored = [build("QuantizeLinear", real, *pair) for pair in each]
        zeros = [build("Cast", known(0, kind), to=to) for kind in (name, "bf16", "i64") for to in ("f32", name, "bf16")]
        wide = [build("Expand", v, shape=(REAL.size,)) for v in zeros]
        return (*stored, *(build("DequantizeLinear", x, *pair) for pair in each), *wide)

    p = chain([f"f32[{REAL.size}]", f"{name}[{REAL.size}]"], make)
    with np.errstate(over="ignore"):
        real = REAL.astype(np.float32)
    check(p, "generic_map", tmp_path, [real, sample(np.random.default_rng(0), p.body.inputs[1].type)], 0.0)


# ---- What the specification says


def test_a_block_has_the_scale_of_its_position() -> None:
    """y[i, j] = x[i, j] / scale[i // 3, j] + zero[i // 3, j], position by position."""
    rng = np.random.default_rng(1)
    p = one("QuantizeLinear", "f32[7, 4]", "f32[3, 4]", "i8[3, 4]", axis=0, block=3)
    x, scale = rng.uniform(-40, 40, (7, 4)).astype(np.float32), rng.uniform(0.2, 2, (3, 4)).astype(np.float32)
    zero = rng.integers(-9, 9, (3, 4), np.int8)
    (y,) = evaluate(p.anchor, [x, scale, zero])
    for i in range(7):
        for j in range(4):
            assert y[i, j] == np.clip(np.rint(x[i, j] / scale[i // 3, j]) + zero[i // 3, j], -128, 127)


def test_the_quotient_has_the_type_of_the_scale() -> None:
    """In f16 a quotient just above 2.5 is 2.5, which goes to 2."""
    x, scale = np.asarray([1283], np.float16), np.asarray(513, np.float16)
    assert 2.5 < 1283 / 513 < 2.501
    (y,) = evaluate(one("QuantizeLinear", "f16[1]", "f16[]", "u8[]").anchor, [x, scale, np.uint8(0).reshape(())])
    assert list(y) == [2]


def test_a_zero_point_of_zero_keeps_the_sign_of_zero() -> None:
    p = one("QuantizeLinear", "f32[3]", "f32[]", "f8e4m3fn[]")
    x, scale = np.asarray([-0.0, 0.0, -1e-9], np.float32), np.float32(1).reshape(())
    (y,) = evaluate(p.anchor, [x, scale, element("f8e4m3fn", 0).reshape(())])
    assert list(codes(y)) == [0x80, 0, 0x80]
    (y,) = evaluate(p.anchor, [x, scale, element("f8e4m3fn", 1).reshape(())])
    assert list(y.astype(np.float32)) == [1, 1, 1]


# ---- From ONNX


def imported(
    op: str, inputs: dict[str, tuple[int, tuple[int, ...]]], constants: dict[str, Any], opset: int = 25, **attrs: Any
) -> Graph:
    kinds = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    node = helper.make_node(op, [*inputs, *constants], ["y"], **attrs)
    held = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph([node], "one", kinds, [onnx.ValueInfoProto(name="y")], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)
    model = onnx.shape_inference.infer_shapes(model)
    if not model.graph.output[0].type.WhichOneof("value"):  # types that contradict each other
        model.graph.output[0].type.tensor_type.elem_type = T.UINT8
    return import_model(model)


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes() if n.op not in ("Const", "Input")]


X = {"x": (T.FLOAT, (4,))}
ONE = np.asarray(1.5, np.float32)


def test_the_type_of_the_result() -> None:
    assert imported("QuantizeLinear", X, {"s": ONE}).outputs[0].type.dtype == "u8"
    assert imported("QuantizeLinear", X, {"s": ONE}, output_dtype=T.INT4).outputs[0].type.dtype == "i4"
    zero = element("f8e5m2", 0).reshape(())
    assert imported("QuantizeLinear", X, {"s": ONE, "z": zero}).outputs[0].type.dtype == "f8e5m2"
    x = {"x": (T.INT4, (4,))}
    assert imported("DequantizeLinear", x, {"s": ONE}).outputs[0].type.dtype == "f32"
    assert imported("DequantizeLinear", x, {"s": ONE}, output_dtype=T.FLOAT16).outputs[0].type.dtype == "f16"
    with pytest.raises(UnsupportedModel, match="its output_dtype is i4 and its zero point f8e5m2; they must be equal"):
        imported("QuantizeLinear", X, {"s": ONE, "z": zero}, output_dtype=T.INT4)


def test_the_type_of_the_division() -> None:
    half = np.asarray(1.5, np.float16)
    assert ops(imported("QuantizeLinear", X, {"s": half})) == ["Cast", "QuantizeLinear"]  # x in the type of the scale
    assert ops(imported("QuantizeLinear", X, {"s": half}, precision=T.FLOAT)) == ["QuantizeLinear"]
    graph = imported("QuantizeLinear", {"x": (T.INT32, (4,))}, {"s": np.asarray(3, np.int32)})
    x = np.asarray([4, 5, -7, 2**31 - 1], np.int32)
    assert ops(graph) == ["Cast", "QuantizeLinear"] and list(interpret(graph, {"x": x})["y"]) == [1, 2, 0, 255]


def test_scales_that_are_powers_of_two() -> None:
    scale = element("f8e8m0", 0.25).reshape(())
    graph = imported("QuantizeLinear", X, {"s": scale}, opset=28, output_dtype=T.INT8)
    x = np.asarray([1, 0.3, -0.4, 100], np.float32)
    assert list(interpret(graph, {"x": x})["y"]) == [4, 1, -2, 127]
    q = {"x": (T.INT8, (4,))}
    graph = imported("DequantizeLinear", q, {"s": scale}, opset=28, output_dtype=T.BFLOAT16)
    y = interpret(graph, {"x": np.asarray([4, 1, -2, 127], np.int8)})["y"]
    assert y.dtype == ml_dtypes.bfloat16 and list(y.astype(np.float32)) == [1, 0.25, -0.5, 31.75]


def test_blocks_have_a_size() -> None:
    x = {"x": (T.FLOAT, (4, 6))}
    attrs = {"axis": -1, "block_size": 4}
    graph = imported("QuantizeLinear", x, {"s": np.ones((4, 2), np.float32)}, **attrs)
    assert graph.outputs[0].node.attrs == {"axis": 1, "block": 4}
    whole = imported("QuantizeLinear", x, {"s": np.ones((1,), np.float32), "z": np.uint8(3)}, **attrs)
    assert whole.outputs[0].node.attrs == {"axis": 0}
    with pytest.raises(UnsupportedModel, match=r"its scale f32\[4, 2\] is per block, of no size; attribute block_size"):
        imported("QuantizeLinear", x, {"s": np.ones((4, 2), np.float32)})
    with pytest.raises(EdgecError, match=r"scale f32\[4, 3\] does not fit axis 1 of f32\[4, 6\], in blocks of 4"):
        imported("QuantizeLinear", x, {"s": np.ones((4, 3), np.float32)}, **attrs)


def test_weights_of_four_bits_in_blocks(tmp_path: Path) -> None:
    """A product with int4 weights whose scales are per block of 16, from file to answer."""
    ort = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(2)
    weights = rng.integers(-8, 8, (64, 24)).astype(ml_dtypes.int4)
    held = {
        "w": weights,
        "s": rng.uniform(0.01, 0.1, (4, 24)).astype(np.float32),
        "z": rng.integers(-3, 3, (4, 24)).astype(ml_dtypes.int4),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0, block_size=16),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    io = [helper.make_tensor_value_info(n, T.FLOAT, [5, k]) for n, k in (("x", 64), ("y", 24))]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], [onnx.numpy_helper.from_array(v, k) for k, v in held.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = rng.standard_normal((5, 64)).astype(np.float32)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # else it multiplies in 8 bits
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"x": x})
    edgec.compile(model, target="host", out=tmp_path / "b")
    with edgec.load(tmp_path / "b") as compiled:
        np.testing.assert_allclose(compiled.run({"x": x})["y"], want, rtol=1e-5, atol=1e-5)
