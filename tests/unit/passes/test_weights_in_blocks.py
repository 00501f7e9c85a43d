"""Weights with a scale per block stay packed from the file to the kernel, whichever way the file writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgec
from edgec.compiler.compare.bundle import verify
from edgec.compiler.exporter import export_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph
from edgec.compiler.op import build, const
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import read_target, target_files
from edgec.passes.few_bits import as_blocks, widened
from tests.support.harness import tensor as input_of

RNG = np.random.default_rng(5)
K, N, BLOCK = 96, 40, 32


def saved(nodes: list[Any], held: dict[str, Any], shape: list[int], path: Path) -> Path:
    """A model of x [rows, K] to y; `held` are its constants."""
    ends = [helper.make_tensor_value_info(name, 1, s) for name, s in (("x", shape), ("y", [*shape[:-1], N]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [tensor(a, n) for n, a in held.items()])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def tensor(array: Any, name: str) -> Any:
    if array.dtype in (ml_dtypes.int4, ml_dtypes.uint4):
        kind = onnx.TensorProto.INT4 if array.dtype == ml_dtypes.int4 else onnx.TensorProto.UINT4
        return helper.make_tensor(name, kind, array.shape, array.astype(np.int8).reshape(-1).tolist())
    return numpy_helper.from_array(array, name)


def blocks_of(path: Path) -> list[str]:
    """The types of constant weights behind all passes but the last."""
    session = Session(target=read_target(target_files()["x86-avx512"].read_text(), "x86-avx512"), verify=3)
    g = run_pipeline(import_model(path), "canonicalize, fold, integers, fuse", session)
    return sorted(n.types[0].dtype for n in g.nodes() if n.op == "Const" and n.types[0].size == K * N)


def exported(form: str, rows: int, path: Path) -> Path:
    """Signed or unsigned codes, along the rows of a matrix or of its transpose."""
    kind = ml_dtypes.int4 if form.startswith("signed") else ml_dtypes.uint4
    low = -8 if form.startswith("signed") else 0
    codes, scale = RNG.integers(low, low + 16, (K, N)), (RNG.random((K // BLOCK, N)) + 0.1).astype("f4")
    zero = RNG.integers(low, low + 16, scale.shape)
    turned = form.endswith(("turned", "gemm"))
    arrays = {"w": codes.astype(kind), "s": scale, "z": zero.astype(kind)}
    held = {n: np.ascontiguousarray(a.T) if turned else a for n, a in arrays.items()}
    if form == "signed":
        del held["z"]
    real = helper.make_node("DequantizeLinear", list(held), ["r"], "real", axis=int(turned), block_size=BLOCK)
    if form.endswith("gemm"):
        return saved([real, helper.make_node("Gemm", ["x", "r"], ["y"], "it", transB=1)], held, [rows, K], path)
    turn = [helper.make_node("Transpose", ["r"], ["t"], "turn", perm=[1, 0])] if turned else []
    product = helper.make_node("MatMul", ["x", "t" if turned else "r"], ["y"], "it")
    return saved([real, *turn, product], held, [1, rows, K] if rows == 3 else [rows, K], path)


@pytest.mark.parametrize("rows", [1, 3, 70])
@pytest.mark.parametrize("form", ["signed", "unsigned", "signed turned", "unsigned turned", "unsigned gemm"])
def test_what_onnx_itself_writes(form: str, rows: int, tmp_path: Path) -> None:
    path = exported(form, rows, tmp_path / "m.onnx")
    assert blocks_of(path) == ["u4"]
    bundle = edgec.compile(path, out=tmp_path / "out")
    assert bundle.weights_bytes <= 64 * K // 2 + 64 * 3 * 5 + 64  # columns fill vectors
    assert any(step["kernel"].startswith("matmul_few_bits") for step in bundle.manifest["steps"])
    assert verify(path, bundle.folder).ok


@pytest.mark.parametrize("kind", ["f4", "f2"])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_onnx_runtime_writes(bits: int, kind: str, tmp_path: Path) -> None:
    codes = RNG.integers(0, 256, (N, K // BLOCK, BLOCK * bits // 8)).astype("u1")
    scales = (RNG.random((N, K // BLOCK)) + 0.1).astype(kind)
    attrs = {"K": K, "N": N, "bits": bits, "block_size": BLOCK, "domain": "com.microsoft"}
    x = "x" if kind == "f4" else "h"
    nodes = [helper.make_node("MatMulNBits", [x, "w", "s"], ["y" if kind == "f4" else "p"], "it", **attrs)]
    if kind == "f2":
        nodes.insert(0, helper.make_node("Cast", ["x"], ["h"], to=10))
        nodes.append(helper.make_node("Cast", ["p"], ["y"], to=1))
    path = saved(nodes, {"w": codes, "s": scales}, [2, K], tmp_path / "m.onnx")
    assert blocks_of(path) == [f"u{bits}"]
    bundle = edgec.compile(path, out=tmp_path / "out")
    assert bundle.weights_bytes <= 64 * K * bits // 8 + 64 * 3 * 4 + 64
    assert verify(path, bundle.folder).ok


def test_weights_that_no_kernel_widens_become_real(tmp_path: Path) -> None:
    """Of a microcontroller; and where something else than one product reads them."""
    path = exported("unsigned", 3, tmp_path / "m.onnx")
    for target, kinds in (("cortex-m7", ["f32"]), ("x86", ["u4"])):
        session = Session(target=read_target(target_files()[target].read_text(), target))
        g = run_pipeline(import_model(path), "canonicalize, fold, integers", session)
        assert [n.types[0].dtype for n in g.nodes() if n.op == "Const" and n.types[0].size == K * N] == kinds
    twice = onnx.load(path)
    twice.graph.node.append(helper.make_node("Relu", ["r"], ["other"]))
    twice.graph.output.append(helper.make_tensor_value_info("other", 1, [K, N]))
    g = run_pipeline(import_model(twice), "canonicalize, fold, integers", Session())
    assert not [n for n in g.nodes() if n.op == "DequantizeLinear"]


def test_a_matrix_of_two_products_stays_so(tmp_path: Path) -> None:
    model = onnx.load(exported("unsigned", 3, tmp_path / "m.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("x2", 1, [1, K]))
    model.graph.node.append(helper.make_node("MatMul", ["x2", "r"], ["y2"], "other"))
    model.graph.output.append(helper.make_tensor_value_info("y2", 1, [1, N]))
    onnx.save(model, tmp_path / "m.onnx")
    bundle = edgec.compile(tmp_path / "m.onnx", out=tmp_path / "out", target="x86")
    kernels = [step["kernel"] for step in bundle.manifest["steps"]]
    assert [k.startswith("matmul_few_bits") for k in kernels] == [True, True]
    assert blocks_of(tmp_path / "m.onnx") == ["u4"] and verify(tmp_path / "m.onnx", bundle.folder).ok


def test_codes_of_a_matrix() -> None:
    w = RNG.standard_normal((70, 9)).astype("f4")
    w[:32, 0], w[:, 1] = 0, 1e-9
    codes, scales = as_blocks(w)
    assert codes.shape == w.shape and scales.shape == (3, 9) and scales.dtype == np.float16
    off = np.abs(widened(codes, scales) - w)
    assert not widened(codes, scales)[:32, 0].any()
    assert np.linalg.norm(off) / np.linalg.norm(w) < 0.1
    exact = (RNG.integers(-8, 8, (64, 9)) * 0.25).astype("f4")
    exact[0], exact[32] = -2, 2
    exact[32:] = np.where(exact[32:] == -2, 0, exact[32:])
    np.testing.assert_array_equal(widened(*as_blocks(exact)), exact)


def layer(rows: int, size: int = 768) -> Graph:
    x = input_of(f"f32[{rows}, {size}]")
    w = const(RNG.standard_normal((size, size)).astype("f4") / 28, "w")
    return Graph("g", (x,), (build("MatMul", x, w, label="it"),))


def test_int4_is_for_products_that_wait_for_their_weights() -> None:
    target = read_target(target_files()["x86-avx512"].read_text(), "x86-avx512")
    session = Session(target=target)
    g = run_pipeline(layer(1), "weights{store=int4}", session)
    assert [n.op for n in g.nodes() if n.op not in ("Const", "Input")] == ["DequantizeLinear", "MatMul"]
    stored, off = session.notes
    assert stored == "weights: 1 layer of weights stored as int4: 2,027,519 bytes less"
    assert off.startswith("weights: they are off by 8.2% on average, most of all in it: 8.2%")
    session = Session(target=target)
    run_pipeline(layer(512), "weights{store=int4}", session)
    assert session.notes == [
        "weights: 1 layer of weights left as they are: the time to read them is not what limits these"
    ]
    session = Session(target=read_target(target_files()["cortex-m7"].read_text(), "cortex-m7"))
    run_pipeline(layer(1), "weights{store=int4}", session)
    assert session.notes == ["weights: 1 layer of weights left as they are: the target has no kernels of int4"]


def test_a_bundle_in_int4(tmp_path: Path) -> None:
    w = RNG.standard_normal((1024, 1024)).astype("f4")
    node, ends = helper.make_node("MatMul", ["x", "w"], ["y"], "it"), [
        helper.make_tensor_value_info(n, 1, [1, 1024]) for n in "xy"
    ]  # fmt: skip
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(w, "w")])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    bundle = edgec.compile(path, out=tmp_path / "out", weights="int4")
    assert bundle.weights_bytes <= 1024 * 1024 * 9 // 16 + 64
    found = verify(path, bundle.folder)
    assert found.ok and 1e-2 < found.differences[0].error < 0.15
    x = RNG.standard_normal((1, 1024)).astype("f4")
    want = interpret(run_pipeline(import_model(path), "weights{store=int4, everywhere=true}", Session()), {"x": x})["y"]
    np.testing.assert_allclose(edgec.load(tmp_path / "out").run({"x": x})["y"], want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["f4", "f2"])
def test_what_is_written_as_onnx_again(kind: str, tmp_path: Path) -> None:
    """With f32 scales, and a zero point for each."""
    ort = pytest.importorskip("onnxruntime")
    x = input_of(f"f32[2, {K}]")
    codes = const(RNG.integers(0, 16, (K, N)).astype(ml_dtypes.uint4))
    scales = const((RNG.random((K // BLOCK, N)) + 0.1).astype(kind))
    zero = const(np.asarray(8, ml_dtypes.uint4))
    w = build("DequantizeLinear", codes, scales, zero, axis=0, block=BLOCK, to="f32")
    graph = Graph("g", (x,), (build("MatMul", x, w, label="y"),), ("y",))
    given = RNG.standard_normal((2, K)).astype("f4")
    options = ort.SessionOptions()  # optimized it would round activations to 8 bits
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = export_model(graph).SerializeToString()
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    (want,) = interpret(graph, {x.name: given}).values()
    np.testing.assert_allclose(session.run(None, {x.name: given})[0], want, rtol=1e-4, atol=1e-4)
