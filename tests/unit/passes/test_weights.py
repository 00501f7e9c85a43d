"""Weights stored as f16 or i8: kernels give the interpreter's numbers, and the pass says what it did and did not do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.compiler.cli import main
from edgec.compiler.compare.bundle import verify
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Value
from edgec.compiler.op import build, const
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.registry import ROWS, Problem, choices, laid_out
from edgec.compiler.session import Session
from edgec.passes.weights import as_bytes
from tests.support.harness import TARGETS, chain, check, target

KINDS = ["f16", "i8"]


def whole(p: Problem, seed: int = 0) -> list[Any]:
    """Whole numbers, all codes of i8 among them, and scales that are powers of two: every sum is exact in f32."""
    rng = np.random.default_rng(seed)

    def of(v: Value) -> Any:
        if v.type.dtype == "i8":
            return rng.integers(-128, 127, v.shape, endpoint=True).astype(np.int8)
        if v.type.dtype == "f16":
            return rng.integers(-2000, 2000, v.shape).astype(np.float16)
        return rng.integers(-8, 8, v.shape).astype(np.float32)

    return [of(v) for v in p.body.inputs]


def same(p: Problem, row: str, folder: Path) -> None:
    """Every tile that the row offers gives exactly the interpreter's numbers; p's inputs need no layouts."""
    assert ROWS[row].accepts(p) is True, ROWS[row].accepts(p)
    c = ROWS[row].choices(p)[0]
    layouts = [text or "" for text in c.layouts_in]
    laid = replace(p, body=laid_out(p.body, layouts, c.layouts_out))
    check(laid, row, folder, whole(p), tolerance=0.0)


def product(kind: str, m: int, k: int, n: int, where: str) -> Problem:
    def body(x: Value, w: Value, s: Value, b: Value) -> Value:
        return build("Add", build("Mul", build("MatMul", x, build("Cast", w, to="f32")), s), b)

    p = chain([f"f32[{m}, {k}]", f"{kind}[{k}, {n}]", f"f32[{n}]", f"f32[{n}]"], body, [], where)
    return replace(p, constants=frozenset({1, 2, 3}))


def convolution(kind: str, x: str, w: str, where: str, **attrs: Any) -> Problem:
    channels = int(w.split(",")[0].strip("["))

    def body(x: Value, w: Value, b: Value, s: Value) -> Value:
        return build("Relu", build("Mul", build("Conv", x, build("Cast", w, to="f32"), b, **attrs), s))

    p = chain([f"f32{x}", f"{kind}{w}", f"f32[{channels}]", f"f32[{channels}, 1, 1]"], body, [], where)
    return replace(p, constants=frozenset({1, 2, 3}))


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 70, 1001), (1, 640, 128), (40, 7, 1), (9, 37, 40), (60, 300, 96)])
def test_products(m: int, k: int, n: int, kind: str, where: str, tmp_path: Path) -> None:
    p = product(kind, m, k, n, where)
    same(p, "matmul_f32_packed", tmp_path)
    if m == 9:
        same(p, "generic_contract", tmp_path)
    assert ROWS["matmul_f32_dynamic"].accepts(p) == "reads an operand through a computation"


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_convolutions(kind: str, where: str, tmp_path: Path) -> None:
    same(convolution(kind, "[1, 24, 9, 13]", "[40, 24, 1, 1]", where), "conv_f32_pointwise", tmp_path)
    three = convolution(kind, "[2, 19, 9, 13]", "[40, 19, 3, 3]", where, pads=(1, 1, 1, 1))
    same(three, "conv_f32_tile", tmp_path)
    same(three, "generic_contract", tmp_path)
    assert ROWS["conv_f32_winograd"].accepts(three) == "reads an operand through a computation"
    grouped = convolution(kind, "[1, 32, 7, 9]", "[64, 16, 3, 3]", where, group=2, strides=(2, 1))
    same(grouped, "conv_f32_tile", tmp_path)
    depthwise = convolution(kind, "[1, 40, 9, 13]", "[40, 1, 3, 3]", where, group=40, pads=(1, 1, 1, 1))
    same(depthwise, "conv_f32_depthwise", tmp_path)


def test_slices_of_narrow_weights_are_fetched_ahead(tmp_path: Path) -> None:
    """A product in several passes, each of which asks for the next slice of weights."""
    p = product("i8", 300, 3000, 96, "x86")
    offers = ROWS["matmul_f32_packed"].choices(p)
    assert any(c.get("kp") > 1 for c in offers)
    same(p, "matmul_f32_packed", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_on_arm(kind: str) -> None:
    from edgec.targets.measure import Built

    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if not compiler or not emulator:
        pytest.skip("needs a cross compiler and an emulator for aarch64")
    p = product(kind, 5, 24, 37, "arm")
    offer = next(c for c in choices(p) if c.row == "matmul_f32_packed")
    arrays = whole(p)
    np.testing.assert_array_equal(Built(p, offer, arrays).emulate(compiler, emulator), run(p.body, arrays)[0])


def test_narrow_weights_are_less_traffic() -> None:
    """A row vector times weights from memory takes as long as reading them."""
    us = {}
    for kind in KINDS:
        p = replace(product(kind, 1, 1024, 4096, "x86-avx512"), cold=True)
        us[kind] = choices(p)[0].cost_us
    assert 1.6 < us["f16"] / us["i8"] < 2.1


def test_a_constant_is_widened_in_the_kernel_that_reads_it() -> None:
    g = run_pipeline(layers(1), "weights{store=f16}, fuse", Session(verify=3))
    (body,) = [n.attrs["body"] for n in g.nodes() if n.op == "Edgec.Kernel"]
    assert isinstance(body, Graph)
    assert [n.op for n in body.nodes() if n.op not in ("Input", "Const")] == ["Cast", "MatMul", "Relu"]


def layers(rows: int, count: int = 1, size: int = 768) -> Graph:
    """A chain of products with Relu."""
    rng = np.random.default_rng(1)
    p = chain([f"f32[{rows}, {size}]"], lambda x: x)
    value = p.body.inputs[0]
    for _ in range(count):
        w = const(rng.standard_normal((size, size)).astype(np.float32) / 28)
        value = build("Relu", build("MatMul", value, w))
    return Graph("g", p.body.inputs, (value,))


def stored(g: Graph) -> list[str]:
    return sorted(n.types[0].dtype for n in g.nodes() if n.op == "Const" and n.types[0].size > 1000)


def test_int8_is_for_layers_that_wait_for_their_weights() -> None:
    session = Session(target=target())
    assert stored(run_pipeline(layers(1), "weights{store=int8}", session)) == ["i8"]
    assert session.notes == ["weights: 1 layer of weights stored as int8: 1,766,400 bytes less"]
    near = replace(target(), cpu=replace(target().cpu, l2=4 * 768 * 768))
    for rows, where in ((512, target()), (1, near)):  # many products with each weight; weights that stay in the cache
        session = Session(target=where)
        assert stored(run_pipeline(layers(rows), "weights{store=int8}", session)) == ["f32"]
        (note,) = session.notes
        assert note == "weights: 1 layer of weights left as they are: the time to read them is not what limits these"
    assert stored(run_pipeline(layers(512), "weights{store=int8, everywhere=true}", Session(target=target()))) == ["i8"]


def test_shared_weights_stay_shared() -> None:
    w = const(np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32))
    x = chain(["f32[1, 64]"], lambda x: x).body.inputs[0]
    g = Graph("g", (x,), (build("MatMul", build("MatMul", x, w), w),))
    for store in ("f16", "int8"):
        assert len(stored(run_pipeline(g, f"weights{{store={store}}}", Session(verify=3)))) == 1


def test_recurrences_take_f16_only() -> None:
    rng = np.random.default_rng(0)
    x, h = chain(["f32[3, 2, 128]", "f32[1, 2, 32]"], lambda x, h: (x, h)).body.inputs
    r = const(rng.standard_normal((1, 32, 4, 32)).astype(np.float32))
    y = build(
        "Edgec.LSTM", x, r, h, h, reverse=(0,), activations=("Sigmoid", "Tanh", "Tanh"), alpha=(0.0,) * 3,
        beta=(0.0,) * 3, sequence=1,
    )  # fmt: skip
    g = Graph("g", (x, h), (y,))
    assert stored(run_pipeline(g, "weights{store=f16}", Session(verify=3))) == ["f16"]
    session = Session()
    assert stored(run_pipeline(g, "weights{store=int8}", session)) == ["f32"]
    assert session.notes == [
        "weights: 1 layer of weights left as they are: int8 is for convolutions and matrix products"
    ]


def test_codes_of_weights() -> None:
    w = np.array([[0.5, -1.0, 0.0], [3.0, 0.1, 0.2], [0.0, 0.0, 0.0]], np.float32)
    codes, scale = as_bytes(w, 0)
    assert codes.dtype == np.int8 and np.abs(codes).max() <= 127 and not codes[2].any()
    assert (np.abs(codes * scale - w) <= scale / 2 + 1e-9).all()
    tiny = np.full((2, 3), 1e-42, np.float32)
    codes, scale = as_bytes(tiny, 0)
    assert np.isfinite(codes * scale).all()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A row vector through one layer of 1024 x 1024 weights, more than an L2 cache of the targets here holds."""
    w = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1024])],
        [numpy_helper.from_array(w, "w")],
    )
    path = tmp_path_factory.mktemp("weights") / "layer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize(("store", "bytes_", "allowed"), [("f16", 2, 1e-2), ("int8", 1, 1e-1)])
def test_bundles(model: Path, store: str, bytes_: int, allowed: float, tmp_path: Path) -> None:
    bundle = edgec.compile(model, out=tmp_path / "out", weights=store)
    assert bundle.weights_bytes < 1024 * 1024 * bytes_ + 8192
    assert f"weights{{store={store}}}, fuse" in bundle.manifest["passes"]
    assert any("bytes less" in note for note in bundle.manifest["notes"])
    found = verify(model, bundle.folder)
    assert found.ok and {d.tolerance for d in found.differences} == {allowed}
    assert 1e-5 < found.differences[0].error < allowed / 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "f8"], "weights: 'f8' is no way to store them; f16, int8 or int4"),
        (["--weights", "f16", "--passes", "+weights@channels"], "the pipeline has a pass 'weights' of its own"),
        (["--passes", "+weights{store=bf16}@channels"], "option 'store' is 'f16' or 'int8' or 'int4'; got 'bf16'"),
        (["--passes", "+weights@canonicalize"], "pass 'weights' must come after 'fold' (weights must be constants)"),
    ],
)
def test_refusals(model: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(model), "-o", str(model.parent / "out"), *words]) == 1
    said = capsys.readouterr().err
    assert message in said and said.startswith("edgec: error: ") and said.count("\n") == 1
