"""A table whose rows are taken, and that is also the last matrix, turned, lies once in a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgec
from edgec.compiler.compare.bundle import verify

RNG = np.random.default_rng(7)
WORDS, SIZE = 320, 40  # no multiple of a vector


def saved(folder: Path, words: int = WORDS, rows: int = 3, other: bool = False) -> Path:
    """Rows of a table, a matrix, and what each word is worth by the table; `other`: by another one."""
    table = RNG.standard_normal((words, SIZE)).astype("f4")
    last = np.flip(table, 0).copy() if other else table
    nodes = [
        helper.make_node("Gather", ["table", "words"], ["rows"]),
        helper.make_node("MatMul", ["rows", "matrix"], ["hidden"]),
        helper.make_node("Transpose", ["last"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["hidden", "turned"], ["y"]),
    ]
    held = {"table": table, "last": last, "matrix": RNG.standard_normal((SIZE, SIZE)).astype("f4") / 8}
    ends = [
        helper.make_tensor_value_info("words", onnx.TensorProto.INT64, (rows,)),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (rows, words)),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(a, n) for n, a in held.items()])
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("rows", [1, 70])
@pytest.mark.parametrize("weights", [None, "f16"])
def test_it_lies_once(weights: str | None, rows: int, tmp_path: Path) -> None:
    path, each = saved(tmp_path, rows=rows), 2 if weights else 4
    bundle = edgec.compile(path, out=tmp_path / "out", weights=weights)
    once = (WORDS * SIZE + SIZE * 64) * each  # columns of the small matrix fill vectors
    assert WORDS * SIZE * each < bundle.weights_bytes <= once + 256
    words = RNG.integers(0, WORDS, rows)
    words[0] = WORDS - 1
    assert verify(path, bundle.folder, inputs={"words": words}).ok


@pytest.mark.parametrize("target", ["cortex-m7", "arm"])
def test_it_does_on_other_machines(target: str, tmp_path: Path) -> None:
    bundle = edgec.compile(saved(tmp_path), target, tmp_path / "out")
    assert bundle.weights_bytes <= (WORDS * SIZE + SIZE * 64) * 4 + 256


def test_tables_that_differ_or_are_small_stay_stretches(tmp_path: Path) -> None:
    for words, other in ((WORDS, True), (64, False)):
        bundle = edgec.compile(saved(tmp_path, words, other=other), out=tmp_path / "out")
        assert bundle.weights_bytes >= 2 * words * SIZE * 4
