"""Strides go into channels where windows are whole strides long and few channels come of it; numbers stay the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph
from tests.unit.passes.test_phases import convolution, on_x86

FOLDED = [
    (convolution((1, 1, 160), 12, (10,), strides=(5,)), (5, 2)),
    (convolution((2, 3, 103), 20, (8,), strides=(4,)), (12, 2)),  # the last elements are read by no window
    (convolution((1, 2, 90), 6, (3,), strides=(3,)), (6, 1)),
    (convolution((2, 3, 16, 20), 50, (4, 4), strides=(4, 4)), (48, 1, 1)),
    (convolution((1, 3, 19, 23), 33, (2, 3), strides=(2, 3)), (18, 1, 1)),
]
LEFT = [
    convolution((1, 1, 160), 12, (10,), strides=(4,)),
    convolution((1, 1, 160), 12, (10,)),
    convolution((1, 1, 160), 12, (10,), strides=(5,), pads=(5, 0)),
    convolution((1, 1, 160), 4, (10,), strides=(5,)),  # more would be moved than is made
    convolution((1, 1, 960), 80, (128,), strides=(64,)),
    convolution((1, 4, 160), 20, (10,), strides=(5,), group=2),
    convolution((1, 3, 16, 20), 50, (4, 4), strides=(2, 2)),
    convolution((1, 3, 400, 600), 50, (4, 4), strides=(4, 4)),  # larger than L2
]


def operators(g: Graph) -> list[str]:
    return [n.op for n in g.nodes() if n.args]


@pytest.mark.parametrize(("g", "window"), FOLDED, ids=lambda v: str(getattr(v, "inputs", "")))
def test_strides_become_channels(g: Graph, window: tuple[int, ...]) -> None:
    x = np.random.default_rng(4).standard_normal(g.inputs[0].shape).astype(np.float32)
    new = on_x86(g, "x86-avx512")
    assert [op for op in operators(new) if op != "Slice"] == ["Reshape", "Transpose", "Reshape", "Conv"]
    conv = new.outputs[0].node
    assert conv.args[1].shape[1:] == window and set(conv.attrs.get("strides", (1,))) == {1}
    np.testing.assert_allclose(run(new, [x])[0], run(g, [x])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("g", LEFT, ids=lambda v: str(v.inputs))
def test_other_strides_stay(g: Graph) -> None:
    assert operators(on_x86(g, "x86-avx512")) == ["Conv"]


def test_targets_that_gain_nothing_keep_strides() -> None:
    assert operators(on_x86(FOLDED[3][0], "x86")) == ["Conv"]
    for name in ("arm", "cuda", "cortex-m7"):
        assert operators(on_x86(FOLDED[0][0], name)) == ["Conv"]
