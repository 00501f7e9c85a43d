"""A transpose that a reader takes as a layout costs nothing: no kernel runs, the bytes stay."""

from __future__ import annotations

import numpy as np

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.layout import turned
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target


def image_model() -> Graph:
    rng = np.random.default_rng(3)
    image = Value(Node("Input", (), (Type("f32", (1, 9, 10, 3)),), {}, "image"))
    w = ops.const(rng.standard_normal((8, 3, 3, 3)).astype(np.float32), "w")
    planes = ops.build("Transpose", image, perm=(0, 3, 1, 2), label="planes")
    conv = ops.build("Conv", planes, w, ops.const(np.zeros(8, np.float32), "b"), strides=(2, 2), label="conv")
    return Graph("g", (image,), (conv,))


def test_pixels_with_their_channels_are_read_as_they_come() -> None:
    g = image_model()
    planned = run_pipeline(g, parse_pipeline("fuse, layout, plan"), Session(target=find_target("x86"), verify=3))
    (turn,) = [n for n in planned.nodes() if n.op == "Edgec.Turn"]
    assert turn.types[0].layout == "NHWC"
    assert turn.attrs["arena"] == turn.args[0].node.attrs["arena"]
    rows = [n.attrs["row"] for n in planned.nodes() if n.op == "Edgec.Kernel"]
    assert "generic_map" not in rows[:1]
    x = np.random.default_rng(1).standard_normal(g.inputs[0].shape).astype(np.float32)
    np.testing.assert_allclose(run(planned, [x])[0], run(g, [x])[0], rtol=1e-5)


def test_layouts_of_transposes() -> None:
    assert turned((0, 3, 1, 2)) == "NHWC"
    assert turned((0, 2, 1)) == "NWC"
    assert turned((1, 0)) == ""


def test_rows_of_pixels_lie_where_a_join_wants_them() -> None:
    rng = np.random.default_rng(3)
    image = Value(Node("Input", (), (Type("f32", (1, 3, 8, 8)),), {}, "image"))
    more = Value(Node("Input", (), (Type("f32", (1, 4, 8)),), {}, "more"))
    w = ops.const(rng.standard_normal((8, 3, 2, 2)).astype(np.float32), "w")
    conv = ops.build("Conv", image, w, ops.const(np.zeros(8, np.float32), "b"), strides=(2, 2), label="conv")
    rows = ops.build("Transpose", conv, perm=(0, 2, 3, 1), label="pixels")
    rows = ops.build("Reshape", rows, shape=(1, 16, 8), label="rows")
    g = Graph("g", (image, more), (ops.build("Concat", ops.build("Relu", more), rows, axis=1, label="all"),))
    planned = run_pipeline(g, parse_pipeline("fuse, layout, plan"), Session(target=find_target("cuda"), verify=3))
    at = {n.name: n.attrs["arena"] for n in planned.nodes() if "arena" in n.attrs}
    assert at["conv"] == at["pixels"] == at["rows"] and at["conv"][0] - at["all"][0] == 4 * 8 * 4
    feed = [rng.standard_normal(v.shape).astype(np.float32) for v in g.inputs]
    np.testing.assert_allclose(run(planned, feed)[0], run(g, feed)[0], rtol=1e-5)


def test_a_cast_writes_what_a_convolution_wants() -> None:
    rng = np.random.default_rng(3)
    image = Value(Node("Input", (), (Type("f32", (1, 3, 112, 112)),), {}, "image"))
    w = ops.const(rng.standard_normal((64, 3, 3, 3)).astype(np.float16), "w")
    half = ops.build("Cast", image, to="f16", label="half")
    conv = ops.build("Conv", half, w, ops.const(np.zeros(64, np.float16), "b"), label="conv")
    g = Graph("g", (image,), (ops.build("ReduceMean", conv, axes=(2, 3), label="mean"),))
    laid = run_pipeline(g, parse_pipeline("fuse, layout"), Session(target=find_target("cuda"), verify=2))
    assert [(n.name, n.types[0].layout) for n in laid.nodes() if n.op == "Edgec.Kernel"] == [
        ("half", "NHWC4c"), ("conv", "NHWC"), ("mean", ""),
    ]  # fmt: skip
