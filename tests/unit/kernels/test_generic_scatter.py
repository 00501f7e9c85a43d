"""Scatters: reductions, types, rows and elements, several tasks, indices outside, data that lie in the result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.compiler.dtypes import DTYPES
from edgec.compiler.errors import EdgecError, IRError
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.support.harness import check, one, sample

RNG = np.random.default_rng(5)
REDUCTIONS = ("none", "add", "mul", "max", "min")
FAR = np.iinfo(np.int64)


def scatter(
    folder: Path, op: str, data: str, indices: tuple[int, ...], updates: str, bound: int, threads: int = 1, **attrs: Any
) -> None:
    """Compiled against interpreted; a tenth of the indices lies outside."""
    p = one(op, data, f"i64[{', '.join(map(str, indices))}]", updates, threads=threads, **attrs)
    index = RNG.integers(-bound, bound, indices)
    index[RNG.random(indices) < 0.1] = RNG.choice([bound, -bound - 1, FAR.max, FAR.min, 1 << 32])
    given = [sample(RNG, v.type) for v in p.body.inputs]
    check(p, "scatter", folder, [given[0], index, given[2]])


@pytest.mark.parametrize(
    ("kind", "reduction"),
    [
        *((kind, "none" if t.is_storage else "add") for kind, t in DTYPES.items()),
        *((k, r) for k in ("f32", "f16", "bool", "u8") for r in REDUCTIONS),
    ],
)
def test_every_type_and_reduction(kind: str, reduction: str, tmp_path: Path) -> None:
    scatter(
        tmp_path, "ScatterElements", f"{kind}[3, 9, 5]", (2, 7, 4), f"{kind}[2, 7, 4]", 9, axis=1, reduction=reduction
    )
    scatter(tmp_path, "ScatterND", f"{kind}[5, 37]", (4, 1), f"{kind}[4, 37]", 5, reduction=reduction)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [(4, 6, 5), (3, 6, 5), (2, 3, 2)])
def test_elements_along_every_axis(axis: int, threads: int, size: tuple[int, ...], tmp_path: Path) -> None:
    text = f"f32[{', '.join(map(str, size))}]"
    bound = (4, 6, 5)[axis]
    scatter(tmp_path, "ScatterElements", "f32[4, 6, 5]", size, text, bound, threads, axis=axis, reduction="add")


@pytest.mark.parametrize("threads", [1, 4])
def test_rows_of_one_index(threads: int, tmp_path: Path) -> None:
    for shape in ((2, 9, 1, 1), (1, 9, 1, 1)):
        scatter(
            tmp_path, "ScatterElements", "f32[2, 40, 3, 7]", shape, "f32[2, 9, 3, 7]", 40, threads,
            axis=1, reduction="add",
        )  # fmt: skip
    scatter(tmp_path, "ScatterElements", "f32[50]", (20,), "f32[20]", 50, threads)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 4])
def test_slices(depth: int, threads: int, tmp_path: Path) -> None:
    rest = ", ".join(str(n) for n in (3, *(8, 3, 50)[depth:]))
    scatter(tmp_path, "ScatterND", "f32[8, 3, 50]", (3, depth), f"f32[{rest}]", 3, threads)


def test_positions_of_many_axes_do_not_take_TVM_long(tmp_path: Path) -> None:
    started = time.process_time()
    scatter(tmp_path, "ScatterND", "f32[2, 3, 4, 3, 2]", (2, 3, 5), "f32[2, 3]", 2, reduction="add")
    assert time.process_time() - started < 5


def test_wide_slices_are_shared_by_tasks(tmp_path: Path) -> None:
    from edgec.targets.kernels.scatter_rows import rows_of

    p = one("ScatterND", "f32[64, 300]", "i64[20, 1]", "f32[20, 300]", threads=4, reduction="add")
    assert rows_of(p.anchor).parts(4, p.target.cpu, 4) > 4
    scatter(tmp_path, "ScatterND", "f32[64, 300]", (20, 1), "f32[20, 300]", 64, 4, reduction="add")


@pytest.mark.parametrize("kind", ["f32", "bool", "bf16"])
def test_one_element_fills(kind: str, tmp_path: Path) -> None:
    scatter(tmp_path, "ScatterND", f"{kind}[]", (4, 2), f"{kind}[4, 70]", 3, shape=(3, 5, 70), reduction="max")
    scatter(tmp_path, "ScatterElements", f"{kind}[1]", (4, 2), f"{kind}[4, 2]", 6, 3, shape=(6, 90), axis=0)


def test_the_last_of_equal_indices_counts(tmp_path: Path) -> None:
    p = one("ScatterND", "i32[4]", "i64[5, 1]", "i32[5]")
    x, index, new = np.zeros(4, np.int32), np.asarray([[1], [2], [1], [-3], [2]]), np.arange(1, 6, dtype=np.int32)
    from tests.support.harness import execute

    (y,) = execute(p, "scatter", [x, index, new], tmp_path)
    assert y.tolist() == [0, 4, 5, 0]


def test_not_a_number_wins(tmp_path: Path) -> None:
    p = one("ScatterElements", "f32[3]", "i64[3]", "f32[3]", reduction="max")
    check(p, "scatter", tmp_path, [np.float32([1, np.nan, 3]), np.asarray([0, 1, 2]), np.float32([np.nan, 5, -np.inf])])


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("kind", ["f32", "f16", "bool", "i64", "f8e5m2", "i4"])
def test_runs_into_a_cache(mode: str, axis: int, kind: str, tmp_path: Path) -> None:
    sizes = [5, 3, 7, 4]
    run = list(sizes)
    run[axis] = 3
    p = one("TensorScatter", f"{kind}{sizes}", f"{kind}{run}", "i64[5]", axis=axis, mode=mode)
    given = [sample(RNG, v.type) for v in p.body.inputs]
    for write in ([0, 1, 2, 3, 4], [-1, -2, -9, sizes[axis], sizes[axis] - 1], [FAR.max, FAR.min, 1 << 32, 6, 5]):
        check(p, "tensor_scatter", tmp_path, [*given[:2], np.asarray(write)])


def model(op: str, data: Any, indices: Any, updates: Any, fixed: str = "", opset: int = 18, **attrs: Any) -> Any:
    """One node; `fixed` names the arguments that are constants: d, i, u."""
    arrays = dict(zip("diu", (data, indices, updates), strict=True))
    infos = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for k, a in arrays.items()
        if k not in fixed
    ]
    out = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(data.dtype), data.shape)
    nodes = [helper.make_node(op, list("diu"), ["y"], **attrs)]
    held = [numpy_helper.from_array(arrays[k], k) for k in fixed]
    graph = helper.make_graph(nodes, "g", infos, [out], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return proto, {k: a for k, a in arrays.items() if k not in fixed}


def ops_of(proto: Any) -> set[str]:
    return {n.op for n in import_model(proto).nodes()} - {"Input", "Const"}


def same_as_reference(proto: Any, feeds: Any) -> None:
    want = onnx.reference.ReferenceEvaluator(proto).run(None, feeds)[0]
    np.testing.assert_allclose(interpret(import_model(proto), feeds)["y"], want, rtol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_constant_boxes_are_joined_in(reduction: str) -> None:
    data, new = (RNG.standard_normal(s).astype(np.float32) for s in ((4, 6, 3), (2, 3, 3)))
    rows, columns = np.meshgrid([-3, -2], [2, 3, 4], indexing="ij")
    index = np.stack([rows, columns], -1)
    proto, feeds = model("ScatterND", data, index, new, "i", reduction=reduction)
    assert "ScatterND" not in ops_of(proto) and "Concat" in ops_of(proto)
    same_as_reference(proto, feeds)
    run = np.broadcast_to(np.asarray([2, 3, 4]).reshape(1, 3, 1), (2, 3, 3)).astype(np.int64)
    proto, feeds = model("ScatterElements", data, run, new, "i", axis=1, reduction=reduction)
    assert "Concat" in ops_of(proto)
    same_as_reference(proto, feeds)


def test_small_boxes_and_other_constants_are_scattered() -> None:
    data, new = np.zeros((8, 8), np.float32), np.ones((2, 3), np.float32)
    data[0, 0] = 1
    for index in ([[[0, 0], [0, 1], [0, 2]], [[1, 0], [1, 1], [1, 2]]], [[[0, 0], [7, -1], [3, 3]]] * 2):
        proto, feeds = model("ScatterND", data, np.asarray(index), new, "i")
        assert "ScatterND" in ops_of(proto)
        same_as_reference(proto, feeds)


def test_zeros_are_not_stored() -> None:
    data, index, new = np.zeros((64, 8), np.float32), np.asarray([[3], [-1]]), np.ones((2, 8), np.float32)
    for proto, feeds in (
        model("ScatterND", data, index, new, "d"),
        model("ScatterElements", data, np.tile(index, (1, 8)), new, "d"),
    ):
        assert all(v.type.size < 64 for n in import_model(proto).nodes() if n.op == "Const" for v in n.results)
        same_as_reference(proto, feeds)


def test_expanded_indices_address_rows() -> None:
    nodes = [
        helper.make_node("Expand", ["i", "s"], ["e"]),
        helper.make_node("ScatterElements", ["d", "e", "u"], ["y"], axis=0, reduction="add"),
    ]
    infos = [
        helper.make_tensor_value_info("d", TensorProto.FLOAT, [5, 16]),
        helper.make_tensor_value_info("i", TensorProto.INT64, [7, 1]),
        helper.make_tensor_value_info("u", TensorProto.FLOAT, [7, 16]),
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 16])
    graph = helper.make_graph(nodes, "g", infos, [out], [numpy_helper.from_array(np.asarray([7, 16]), "s")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (node,) = [n for n in import_model(proto).nodes() if n.op == "ScatterElements"]
    assert node.args[1].shape == (7, 1)
    feeds = {
        "d": RNG.standard_normal((5, 16)).astype(np.float32),
        "i": RNG.integers(-5, 5, (7, 1)),
        "u": RNG.standard_normal((7, 16)).astype(np.float32),
    }
    same_as_reference(proto, feeds)


def test_constant_indices_outside_are_an_error() -> None:
    data, new = np.zeros((4, 3), np.float32), np.ones((1, 3), np.float32)
    for op, index in (("ScatterND", [[4]]), ("ScatterElements", [[0, -5, 1]])):
        proto, _ = model(op, data, np.asarray(index), new, "i")
        with pytest.raises(EdgecError, match="leave axis 0"):
            import_model(proto)


def test_an_unknown_reduction_is_an_error() -> None:
    proto, _ = model("ScatterND", np.zeros((4, 3)), np.asarray([[1]]), np.zeros((1, 3)), reduction="sub")
    with pytest.raises(EdgecError, match="reduction 'sub' is unknown"):
        import_model(proto)


def test_types_that_only_store_are_not_folded() -> None:
    with pytest.raises(IRError, match="what is folded by add is f8e5m2"):
        one("ScatterND", "f8e5m2[4]", "i64[1, 1]", "f8e5m2[1]", reduction="add")


def test_nothing_to_update() -> None:
    data = RNG.standard_normal((4, 3)).astype(np.float32)
    proto, feeds = model("ScatterND", data, np.zeros((0, 1), np.int64), np.zeros((0, 3), np.float32))
    same_as_reference(proto, feeds)


@pytest.mark.parametrize("kept", [False, True])
def test_updates_are_written_where_the_data_lie(kept: bool, tmp_path: Path) -> None:
    """A scatter over a value that nobody reads later needs no copy; over one that is read again it has one."""
    nodes = [
        helper.make_node("Mul", ["d", "d"], ["m"]),
        helper.make_node("ScatterND", ["m", "i", "u"], ["y"]),
        *([helper.make_node("Neg", ["m"], ["z"])] if kept else []),
    ]
    infos = [
        helper.make_tensor_value_info("d", TensorProto.FLOAT, [64, 32]),
        helper.make_tensor_value_info("i", TensorProto.INT64, [3, 1]),
        helper.make_tensor_value_info("u", TensorProto.FLOAT, [3, 32]),
    ]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [64, 32]) for n in ("y", "z")[: 1 + kept]]
    graph = helper.make_graph(nodes, "g", infos, outs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    bundle = edgec.compile(proto, target="host", out=tmp_path / "b", name="g")
    d = RNG.standard_normal((64, 32)).astype(np.float32)
    i, u = np.asarray([[5], [-1], [5]]), RNG.standard_normal((3, 32)).astype(np.float32)
    want = d * d
    want[[5, -1, 5]] = u
    with edgec.load(bundle.folder) as compiled:
        for _ in range(2):
            got = compiled.run({"d": d, "i": i, "u": u})
            np.testing.assert_allclose(got["y"], want, rtol=1e-6)
            if kept:
                np.testing.assert_allclose(got["z"], -d * d, rtol=1e-6)
    assert len(bundle.manifest["arena"]["map"]) == 3 + kept
