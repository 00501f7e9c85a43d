"""TopK by each of its ways: every type, ties, NaN, infinities, zeros of both signs, awkward lengths."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ops.common import NUMBERS
from edgec.compiler.registry import ROWS
from edgec.targets.kernels.selection import sort_rows
from tests.support.harness import check, emitted, one, sample

RNG = np.random.default_rng(11)
WAYS = ("count", "heap", "radix")
KINDS = sorted(NUMBERS)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda name: monkeypatch.setattr(sort_rows, "way", lambda node, cpu: name)


def top(folder: Path, x: Any, kind: str, k: int, largest: int = 1) -> None:
    p = one("TopK", f"{kind}{list(x.shape)}", k=k, largest=largest)
    check(p, "top_k", folder, [x.astype(dtype(kind).numpy)])


def awkward(kind: str, n: int) -> Any:
    """Few values that differ, all that is special, and the ends of the type."""
    t = dtype(kind)
    x = RNG.integers(-4 if kind[0] != "u" else 0, 5, (3, n)).astype(t.numpy)
    if t.is_float:
        special = np.asarray([np.nan, np.inf, -np.inf, -0.0, 0.0, -np.nan, 1e-7, -1e-7]).astype(t.numpy)
    else:
        info = np.iinfo(t.numpy)  # type: ignore[type-var]
        special = np.asarray([info.min, info.max], t.numpy)
    chosen = RNG.random(x.shape) < 0.5
    x[chosen] = RNG.choice(special, int(chosen.sum()))
    return x


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("largest", [1, 0])
def test_ties_and_special_values_of_every_type(forced: Any, way: str, kind: str, largest: int, tmp_path: Path) -> None:
    forced(way)
    top(tmp_path, awkward(kind, 77), kind, 19, largest)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (16, 16), (17, 2), (64, 63), (300, 300), (1000, 3)])
def test_lengths(forced: Any, way: str, n: int, k: int, tmp_path: Path) -> None:
    forced(way)
    top(tmp_path, RNG.standard_normal((2, n)), "f32", k)


@pytest.mark.parametrize("order", ["up", "down", "equal", "nan"])
@pytest.mark.parametrize("way", ["heap", "radix"])
def test_rows_that_are_in_order_already(forced: Any, way: str, order: str, tmp_path: Path) -> None:
    forced(way)
    x = np.linspace(-1, 1, 500)
    rows = {"up": x, "down": x[::-1], "equal": x * 0 + 7, "nan": x * np.nan}
    top(tmp_path, rows[order].reshape(1, -1), "f32", 40)


WIDE = ["f32", "f64", "i32", "i64", "u32", "u64"]  # elements that are compared as they lie


@pytest.mark.parametrize("kind", WIDE)
@pytest.mark.parametrize("largest", [1, 0])
def test_a_bound_from_groups(forced: Any, kind: str, largest: int, tmp_path: Path) -> None:
    forced("groups")
    top(tmp_path, awkward(kind, 777), kind, 41, largest)


@pytest.mark.parametrize(("n", "k"), [(32, 1), (33, 2), (1000, 3), (1001, 100), (3000, 300)])
def test_lengths_of_rows_in_groups(forced: Any, n: int, k: int, tmp_path: Path) -> None:
    forced("groups")
    top(tmp_path, RNG.standard_normal((3, n)), "f32", k)


@pytest.mark.parametrize("order", ["up", "down", "equal", "nan", "infinite", "ties"])
@pytest.mark.parametrize("largest", [1, 0])
def test_groups_of_rows_in_order(forced: Any, order: str, largest: int, tmp_path: Path) -> None:
    forced("groups")
    x = np.linspace(-1, 1, 500)
    rows = {"up": x, "down": x[::-1], "equal": x * 0 + 7, "nan": x * np.nan, "infinite": np.copysign(np.inf, x)}
    rows["ties"] = np.maximum(x - 0.95, 0)  # fewer than k above many equal ones
    top(tmp_path, rows[order].reshape(1, -1), "f32", 40, largest)


@pytest.mark.parametrize("kind", ["i64", "u64", "f64"])
@pytest.mark.parametrize("largest", [1, 0])
def test_groups_of_64_bits_whatever_their_range(forced: Any, kind: str, largest: int, tmp_path: Path) -> None:
    forced("groups")
    x = RNG.integers(0, 1000, (6, 500)).astype(dtype(kind).numpy)
    x[1] = 7
    if kind == "f64":
        x[2], x[3, ::3], x[4, ::2] = x[2] * 1e-310, np.inf, -1e308
    else:
        limits = np.iinfo(x.dtype)
        x[2, ::2], x[3, ::3], x[4, ::50] = limits.max, limits.min, limits.min
    top(tmp_path, x, kind, 40, largest)


def test_small_numbers_of_64_bits_have_a_bound(tmp_path: Path) -> None:
    """All but few of them are not sorted."""
    n, k = 10000, 300
    p = one("TopK", f"i64[1, {n}]", k=k)
    (choice, *_) = ROWS["top_k"].choices(p)
    assert sort_rows.way(p.anchor, p.target.cpu) == "groups"
    kernel, tasks = emitted(p, "top_k", tmp_path)
    scratch = np.zeros(choice.scratch_bytes // 8, np.int64)
    arrays = [RNG.integers(1, 100000, n), np.zeros(k, np.int64), np.zeros(k, np.int64), scratch]
    kernel((ctypes.c_void_p * 4)(*(array.ctypes.data for array in arrays)), 0, tasks)
    assert k <= np.count_nonzero(scratch[:n]) < 4 * k  # what is within the bound comes first


@pytest.mark.parametrize(("n", "k", "way"), [(300000, 50, "heap"), (300000, 300, "heap"), (300000, 3000, "groups")])
def test_long_rows_take_much_memory_only_where_every_way_does(n: int, k: int, way: str) -> None:
    p = one("TopK", f"f32[1, {n}]", k=k)
    assert sort_rows.way(p.anchor, p.target.cpu) == way


@pytest.mark.parametrize(
    ("n", "k", "way"), [(16, 2, "count"), (50000, 5, "heap"), (20000, 300, "groups"), (5000, 2000, "radix")]
)
def test_the_way_follows_the_sizes(n: int, k: int, way: str, tmp_path: Path) -> None:
    p = one("TopK", f"f32[2, {n}]", k=k)
    assert sort_rows.way(p.anchor, p.target.cpu) == way
    check(p, "top_k", tmp_path, [sample(RNG, p.body.inputs[0].type)])


def model(x: Any, k: int, opset: int, **attrs: Any) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    inputs = ["x"] if opset < 10 else ["x", "k"]
    attrs |= {"k": k} if opset < 10 else {}
    outs = [onnx.ValueInfoProto(name=n) for n in ("v", "i")]
    shape = list(x.shape)
    shape[attrs.get("axis", -1)] = k
    outs = [
        helper.make_tensor_value_info("v", kind, shape),
        helper.make_tensor_value_info("i", onnx.TensorProto.INT64, shape),
    ]
    held = [] if opset < 10 else [onnx.numpy_helper.from_array(np.asarray([k]), "k")]
    node = helper.make_node("TopK", inputs, ["v", "i"], **attrs)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", kind, x.shape)], outs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


@pytest.mark.parametrize("opset", [7, 10, 11, 24])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_every_operator_set_and_axis(opset: int, axis: int) -> None:
    x = RNG.integers(-3, 4, (4, 5, 6)).astype(np.float32)
    largest = {} if opset < 11 else {"largest": 0, "sorted": 0}
    got = interpret(import_model(model(x, 3, opset, axis=axis, **largest)), {"x": x})
    order = np.argsort(x if largest else -x, axis, kind="stable").take(range(3), axis)
    np.testing.assert_array_equal(got["i"], order)
    np.testing.assert_array_equal(got["v"], np.take_along_axis(x, order, axis))


def test_like_onnx_runtime() -> None:
    ort = pytest.importorskip("onnxruntime")
    x = awkward("f32", 90)
    for largest in (1, 0):
        proto = model(x, 30, 18, largest=largest)
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        values, places = session.run(None, {"x": x})
        got = interpret(import_model(proto), {"x": x})
        np.testing.assert_array_equal(got["i"], places)
        np.testing.assert_array_equal(got["v"], values)


def test_more_than_there_are_is_an_error() -> None:
    for k in (7, -1):
        with pytest.raises(EdgecError, match=rf"k is {k}; axis 1 of f32\[2, 6\] has 6 elements"):
            import_model(model(np.zeros((2, 6), np.float32), k, 18))


def test_none_is_nothing() -> None:
    got = interpret(import_model(model(np.zeros((2, 6), np.float32), 0, 18)), {"x": np.zeros((2, 6), np.float32)})
    assert got["v"].shape == got["i"].shape == (2, 0)
