"""Positions in windows, columns into images, reversed sequences, running products: compiled as interpreted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret, run
from edgec.compiler.registry import ROWS, Problem, choices
from edgec.targets import built_for
from tests.support.harness import check, execute, one, sample

RNG = np.random.default_rng(3)
PLACE, COLUMNS = "generic_window_place", "col2im"
WINDOWS: list[tuple[str, dict[str, Any]]] = [
    ("[2, 3, 9, 20]", {"kernel_shape": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1)}),
    ("[1, 2, 9, 20]", {"kernel_shape": (2, 3), "dilations": (2, 3), "strides": (1, 2)}),
    ("[1, 2, 8, 9]", {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1}),
    ("[2, 3, 17]", {"kernel_shape": (4,), "strides": (3,), "pads": (3, 2)}),
    ("[1, 2, 4, 5, 6]", {"kernel_shape": (2, 2, 3), "strides": (2, 1, 1)}),
]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
def test_positions(shape: str, attrs: dict[str, Any], order: int, tmp_path: Path) -> None:
    for kind in ("f32", "u8"):
        check(one("Edgec.MaxPoolPlace", kind + shape, storage_order=order, **attrs), PLACE, tmp_path)


@pytest.mark.parametrize("kind", ["f32", "f64", "f16", "bf16", "i8"])
def test_positions_of_ties_and_special_values(kind: str, tmp_path: Path) -> None:
    """The first of equal ones; NaN and infinities as MaxPool itself has them."""
    p = one("Edgec.MaxPoolPlace", f"{kind}[2, 4, 9, 11]", kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
    x = RNG.integers(-1, 2, (2, 4, 9, 11)).astype(dtype(kind).numpy)
    if dtype(kind).is_float:
        x[RNG.random(x.shape) < 0.3] = -np.inf
        x[1][RNG.random(x[1].shape) < 0.2] = np.nan
        x[0, 0] = -np.inf
    check(p, PLACE, tmp_path, [x])
    (place,) = execute(p, PLACE, [x], tmp_path)
    (best,) = run(one("MaxPool", f"{kind}[2, 4, 9, 11]", kernel_shape=(3, 3), pads=(1,) * 4, strides=(2, 2)).body, [x])
    np.testing.assert_array_equal(x.reshape(-1)[place].astype(np.float64), best.astype(np.float64))


def test_a_window_of_padding_points_at_its_plane(tmp_path: Path) -> None:
    p = one("Edgec.MaxPoolPlace", "f32[2, 2, 4, 4]", kernel_shape=(2, 2), pads=(3, 0, 0, 0), strides=(2, 2))
    (place,) = execute(p, PLACE, [sample(RNG, p.body.inputs[0].type)], tmp_path)
    assert place[:, :, 0, 0].tolist() == [[0, 16], [32, 48]]
    check(p, PLACE, tmp_path)


SHIFTED = {"dilations": (2, 3), "strides": (2, 1), "pads": (0, 1, 0, 1)}
IMAGES: list[tuple[str, dict[str, Any]]] = [
    ("[2, 27, 130]", {"image_shape": (12, 15), "block_shape": (3, 3)}),
    ("[2, 12, 20]", {"image_shape": (8, 10), "block_shape": (2, 2), "strides": (2, 2)}),
    ("[1, 18, 12]", {"image_shape": (6, 8), "block_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 0, 1)}),
    ("[1, 12, 70]", {"image_shape": (13, 9), "block_shape": (2, 3), "dilations": (3, 2), "pads": (0, 1, 0, 1)}),
    ("[1, 6, 20]", {"image_shape": (10, 9), "block_shape": (2, 3), **SHIFTED}),
    ("[1, 4, 12]", {"image_shape": (20, 20), "block_shape": (2, 2), "dilations": (4, 6), "strides": (6, 4)}),
    ("[2, 8, 24]", {"image_shape": (5, 3, 4), "block_shape": (2, 2, 2)}),
    ("[2, 6, 8]", {"image_shape": (10,), "block_shape": (3,)}),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "attrs"), IMAGES)
def test_columns_into_images(shape: str, attrs: dict[str, Any], tmp_path: Path) -> None:
    check(one("Col2Im", "f32" + shape, **attrs), COLUMNS, tmp_path)


@pytest.mark.parametrize("kind", ["f64", "f16", "bf16", "i8", "u8", "i32", "i64", "u64"])
def test_columns_of_other_types(kind: str, tmp_path: Path) -> None:
    p = one("Col2Im", f"{kind}[2, 9, 130]", image_shape=(12, 15), block_shape=(3, 3))
    check(p, COLUMNS, tmp_path)


def test_only_taps_that_cover_a_pixel_are_read() -> None:
    from edgec.targets.kernels.conv.columns_rows import shape_of

    p = one("Col2Im", "f32[1, 256, 4]", image_shape=(32, 32), block_shape=(16, 16), strides=(16, 16))
    assert shape_of(p.anchor, p.target.cpu).covering(0) == 1
    p = one("Col2Im", "f32[1, 9, 196]", image_shape=(16, 16), block_shape=(3, 3))
    assert shape_of(p.anchor, p.target.cpu).covering(0) == 3


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0), (-1, 0)])
@pytest.mark.parametrize("kind", ["f32", "bf16", "i64", "bool"])
def test_reversed_sequences(time: int, batch: int, kind: str, tmp_path: Path) -> None:
    """Lengths that no sequence has are cut."""
    rank = 3 if time >= 0 else 2
    p = one("ReverseSequence", f"{kind}{[5, 6, 7][:rank]}", f"i64[{[5, 6][batch]}]", time_axis=time, batch_axis=batch)
    x = sample(RNG, p.body.inputs[0].type)
    far = np.iinfo(np.int64)
    for lengths in ([0, 1, 4, 2, 5, 3], [99, -1, far.max, far.min, 1 << 32, 2]):
        check(p, "generic_map", tmp_path, [x, np.asarray(lengths)[: p.body.inputs[1].shape[0]]])


@pytest.mark.parametrize(("axis", "kind"), [(0, "f32"), (1, "f32"), (-1, "f32"), (0, "f16"), (1, "i32"), (-1, "u64")])
@pytest.mark.parametrize("attrs", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}])
def test_running_products(axis: int, kind: str, attrs: dict[str, int], tmp_path: Path) -> None:
    check(one("CumProd", f"{kind}[3, 4, 21]", axis=axis, **attrs), "generic_other", tmp_path)


@pytest.mark.parametrize("columns", [150, 64, 5])
@pytest.mark.parametrize("attrs", [{}, {"exclusive": 1}, {"reverse": 1}])
def test_running_totals_of_neighbouring_columns_are_made_together(
    columns: int, attrs: dict[str, int], tmp_path: Path
) -> None:
    """Four vectors of them: alone each reads a line of every row, and rows may lie in one set of the cache."""
    p = one("CumSum", f"f32[2, 9, {columns}]", axis=1, **attrs)
    check(p, "generic_other", tmp_path)
    assert set(totals(p)) == {4 * p.target.cpu.lanes(32)}


@pytest.mark.parametrize("rows", [1, 4, 9])
@pytest.mark.parametrize("attrs", [{}, {"exclusive": 1}, {"reverse": 1}])
def test_running_totals_of_rows_are_added_one_element_of_each_in_turns(
    rows: int, attrs: dict[str, int], tmp_path: Path
) -> None:
    """Vectors would gather from as many rows as they have lanes, and scatter to them."""
    p = one("CumSum", f"f32[{rows}, 150]", axis=1, **attrs)
    check(p, "generic_other", tmp_path)
    assert set(totals(p)) == {4}
    assert 4 not in totals(one("CumSum", f"f32[{rows}, 150]", axis=1, where="cortex-m7", **attrs))


def totals(p: Problem) -> list[int]:
    """Sizes of the kernel's local arrays."""
    emit = ROWS["generic_other"].emit
    assert emit is not None
    with built_for.core(p.target.cpu):
        code = str(emit(p, choices(p)[0], "kern").function)
    return [int(size) for size in re.findall(r"alloc_local\(\((\d+),\)", code)]


def unpool(x: Any, places: Any, shape: Any = None, **attrs: Any) -> Any:
    held = [] if shape is None else [numpy_helper.from_array(np.asarray(shape), "s")]
    node = helper.make_node("MaxUnpool", ["x", "i", "s"][: 2 + len(held)], ["y"], **attrs)
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
        helper.make_tensor_value_info("i", TensorProto.INT64, places.shape),
    ]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name="y")], held)
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * x.ndim))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=9)


def test_unpooling_is_a_scatter_over_zeros() -> None:
    x = RNG.standard_normal((2, 3, 2, 2)).astype(np.float32)
    places = RNG.permutation(2 * 3 * 16)[:24].reshape(2, 3, 2, 2)
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2]}
    for shape in (None, [2, 3, 4, 4], [2, 3, 5, 6]):
        proto = unpool(x, places, shape, **attrs)
        g = import_model(proto)
        assert all(v.type.size < 25 for n in g.nodes() if n.op == "Const" for v in n.results), "zeros are stored"
        want = onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x, "i": places})[0]
        np.testing.assert_array_equal(interpret(g, {"x": x, "i": places})["y"], want)


def test_unpooling_that_cannot_be_is_refused() -> None:
    x, places = np.zeros((1, 1, 2, 2), np.float32), np.zeros((1, 1, 2, 2), np.int64)
    with pytest.raises(UnsupportedModel, match="output_shape .* is smaller"):
        import_model(unpool(x, places, [1, 1, 3, 6], kernel_shape=[2, 2], strides=[2, 2]))
    with pytest.raises(EdgecError, match="do not fit"):
        import_model(unpool(x, places, kernel_shape=[2]))
    with pytest.raises(EdgecError, match="leave nothing"):
        import_model(unpool(x, places, kernel_shape=[1, 1], pads=[1, 1, 1, 1]))


def test_columns_that_do_not_fit_are_an_error() -> None:
    node = helper.make_node("Col2Im", ["x", "i", "b"], ["y"])
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5])]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)]
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in (("i", [3, 3]), ("b", [2, 2]))]
    graph = helper.make_graph([node], "g", infos, outs, held)
    with pytest.raises(EdgecError, match=r"columns are f32\[1, 4, 5\]; expected \[N, C \* 4, 4\]"):
        import_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
