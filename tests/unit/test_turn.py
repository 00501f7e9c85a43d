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
