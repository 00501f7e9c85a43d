"""Transposed convolutions become convolutions over the phases of the stride, and keep their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import read_target, target_files


def transposed(x: tuple[int, ...], outputs: int, kernel: tuple[int, ...], **attrs: Any) -> Graph:
    rng = np.random.default_rng(3)
    image = Value(Node("Input", (), (Type("f32", x),), {}, "x"))
    group = attrs.get("group", 1)
    w = ops.const(rng.standard_normal((x[1], outputs // group, *kernel)).astype(np.float32), "w")
    b = ops.const(rng.standard_normal(outputs).astype(np.float32), "b")
    return Graph("g", (image,), (ops.build("ConvTranspose", image, w, b, **attrs),))


def split(g: Graph) -> Graph:
    return run_pipeline(g, parse_pipeline("phases"), Session(verify=2))


@pytest.mark.parametrize(
    "g",
    [
        transposed((1, 3, 4, 5), 2, (2, 2), strides=(2, 2)),
        transposed((2, 3, 4, 5), 2, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1)),
        transposed((1, 3, 4, 5), 8, (4, 4), strides=(2, 2), pads=(1, 1, 1, 1)),
        transposed((1, 3, 4, 5), 2, (3, 3)),
        transposed((1, 3, 4, 5), 2, (5, 3), strides=(3, 2), pads=(2, 0, 1, 1)),
        transposed((1, 4, 3, 3), 6, (4, 4), strides=(2, 2), pads=(1, 1, 1, 1), group=2),
        transposed((1, 4, 3, 3), 4, (4, 4), strides=(2, 2), pads=(0, 1, 2, 3), group=4),
        transposed((1, 2, 3, 3), 4, (2, 2), strides=(3, 3), output_padding=(1, 2)),
        transposed((1, 4, 7), 2, (8,), strides=(4,), pads=(2, 2)),
        transposed((1, 2, 3, 2, 4), 3, (2, 3, 2), strides=(2, 1, 2), pads=(0, 1, 0, 0, 1, 0)),
    ],
    ids=lambda g: str(g.outputs[0].node.attrs),
)
def test_phases_give_the_same_numbers(g: Graph) -> None:
    x = np.random.default_rng(4).standard_normal(g.inputs[0].shape).astype(np.float32)
    new = split(g)
    assert not any(node.op == "ConvTranspose" for node in new.nodes())
    np.testing.assert_allclose(run(new, [x])[0], run(g, [x])[0], rtol=1e-4, atol=1e-5)


def test_a_window_of_the_stride_costs_no_extra_tap_and_no_cut() -> None:
    new = split(transposed((1, 3, 4, 5), 2, (2, 2), strides=(2, 2)))
    assert [n.op for n in new.nodes() if n.args] == ["Conv", "DepthToSpace"]
    conv = next(n for n in new.nodes() if n.op == "Conv")
    assert conv.args[1].shape == (8, 3, 1, 1)


def test_what_cannot_be_split_stays() -> None:
    g = transposed((1, 3, 4, 5), 2, (3, 3), dilations=(2, 2))
    assert [n.op for n in split(g).nodes() if n.args] == ["ConvTranspose"]


def focus(order: list[tuple[int, int]], size: int = 2, stride: int = 1) -> Graph:
    rng = np.random.default_rng(3)
    image = Value(Node("Input", (), (Type("f32", (1, 3, 8, 12)),), {}, "x"))

    def piece(row: int, column: int) -> Value:
        y = ops.build("Slice", image, starts=(row,), ends=(8,), axes=(2,), steps=(size,))
        return ops.build("Slice", y, starts=(column,), ends=(12,), axes=(3,), steps=(size,))

    x = ops.build("Concat", *(piece(*at) for at in order), axis=1)
    w = ops.const(rng.standard_normal((5, x.shape[1], 3, 3)).astype(np.float32), "w")
    b = ops.const(rng.standard_normal(5).astype(np.float32), "b")
    conv = ops.build("Conv", x, w, b, pads=(1, 1, 1, 1), strides=(stride, stride))
    return Graph("g", (image,), (conv,))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_over_patches_reads_the_image(stride: int) -> None:
    g = focus([(0, 0), (1, 0), (0, 1), (1, 1)], stride=stride)
    x = np.random.default_rng(4).standard_normal(g.inputs[0].shape).astype(np.float32)
    new = split(g)
    assert [n.op for n in new.nodes() if n.args] == ["Conv"]
    np.testing.assert_allclose(run(new, [x])[0], run(g, [x])[0], rtol=1e-4, atol=1e-5)


def test_space_to_depth_is_such_patches() -> None:
    rng = np.random.default_rng(3)
    image = Value(Node("Input", (), (Type("f32", (2, 3, 8, 12)),), {}, "x"))
    w = ops.const(rng.standard_normal((5, 48, 1, 3)).astype(np.float32), "w")
    folded = ops.build("SpaceToDepth", image, blocksize=4)
    g = Graph("g", (image,), (ops.build("Conv", folded, w, ops.const(np.ones(5, np.float32), "b"), pads=(0, 1, 0, 1)),))
    x = rng.standard_normal(image.shape).astype(np.float32)
    new = split(g)
    assert [n.op for n in new.nodes() if n.args] == ["Conv"]
    np.testing.assert_allclose(run(new, [x])[0], run(g, [x])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [[(0, 0), (1, 0), (0, 1)], [(0, 0), (0, 0), (0, 1), (1, 1)]], ids=str)
def test_patches_with_gaps_stay(order: list[tuple[int, int]]) -> None:
    g = focus(order)
    assert "Concat" in [n.op for n in split(g).nodes()]


def convolution(x: tuple[int, ...], outputs: int, kernel: tuple[int, ...], **attrs: Any) -> Graph:
    rng = np.random.default_rng(3)
    source = Value(Node("Input", (), (Type("f32", x),), {}, "x"))
    w = ops.const(rng.standard_normal((outputs, x[1] // attrs.get("group", 1), *kernel)).astype(np.float32), "w")
    b = ops.const(rng.standard_normal(outputs).astype(np.float32), "b")
    return Graph("g", (source,), (ops.build("Conv", source, w, b, **attrs),))


def on_x86(g: Graph, name: str = "x86") -> Graph:
    target = read_target(target_files()[name].read_text(), name)
    return run_pipeline(g, parse_pipeline("phases"), Session(verify=2, target=target))


APART = [
    (transposed((1, 3, 4, 5), 16, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1)), [1, 2, 2, 4]),
    (transposed((2, 3, 4, 5), 8, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), [1, 2, 2, 4]),
    (transposed((1, 3, 4, 5), 8, (3, 3), strides=(2, 2)), [4, 2, 2, 1]),
    (transposed((1, 3, 4, 5), 8, (3, 2), strides=(2, 2), pads=(0, 0, 1, 0)), [2, 2, 1, 1]),
    (transposed((1, 3, 7), 8, (4,), strides=(3,), output_padding=(2,)), [2, 1, 1]),
    (transposed((1, 3, 4, 5), 8, (3, 2), strides=(2, 3)), [2, 2, 2, 1, 1, 1]),  # nothing reaches every third column
    (transposed((1, 3, 4, 5), 8, (4, 4), strides=(2, 2), pads=(1, 1, 1, 1)), [4 * 4]),  # all need as many
    (transposed((1, 3, 4, 5), 8, (5, 5), strides=(2, 2), pads=(2, 2, 2, 2)), [4 * 9]),  # Winograd's window
    (transposed((1, 3, 4, 5), 7, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), [4 * 4]),  # half-empty vectors
    (transposed((1, 3, 4, 9), 7, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), [1, 2, 2, 4]),  # vectors of pixels
]


@pytest.mark.parametrize(
    ("g", "taps"), APART, ids=lambda case: str(case.outputs[0].node.attrs) if isinstance(case, Graph) else ""
)
def test_phases_with_fewer_taps_than_others_become_convolutions_of_their_own(g: Graph, taps: list[int]) -> None:
    new = on_x86(g)
    outputs = g.outputs[0].shape[1]
    made = [n.args[1].shape for n in new.nodes() if n.op == "Conv"]
    assert [int(np.prod((w[0] // outputs, *w[2:]))) for w in made] == taps
    x = np.random.default_rng(4).standard_normal(g.inputs[0].shape).astype(np.float32)
    np.testing.assert_allclose(run(new, [x])[0], run(g, [x])[0], rtol=1e-4, atol=1e-5)


WIDE = [
    (convolution((1, 2, 300), 3, (64,), pads=(32, 31), strides=(4,)), ["Pad", "Conv"]),
    (convolution((1, 4, 90), 4, (33,), pads=(16, 16), group=4), ["Pad", "Conv"]),
    (convolution((1, 1, 200, 1), 3, (40, 1), pads=(20, 0, 19, 0)), ["Pad", "Conv"]),
    (convolution((2, 3, 20, 33), 4, (3, 17), pads=(1, 8, 1, 8)), ["Pad", "Conv"]),
    (convolution((1, 3, 20, 33), 3, (17, 1), pads=(8, 0, 8, 0), group=3), ["Conv"]),  # rows outside are left out
    (convolution((1, 2, 40), 3, (15,), pads=(7, 7)), ["Conv"]),
    (convolution((1, 2, 40), 3, (17,)), ["Conv"]),
]
FILTERS = [
    (convolution((1, 6, 9, 11), 12, (3, 3), pads=(1, 1, 1, 1), group=6), ["Edgec.Select", "Conv"]),
    (convolution((2, 3, 20), 9, (5,), strides=(2,), group=3), ["Edgec.Select", "Conv"]),
    (convolution((1, 6, 9, 11), 6, (3, 3), group=6), ["Conv"]),
    (convolution((1, 3, 9, 11), 24, (3, 3), group=3), ["Conv"]),  # a vector of AVX2 holds the 8 filters of a channel
    (convolution((1, 6, 9, 11), 12, (3, 3), group=3), ["Conv"]),
]


GROUPS = [
    (convolution((1, 6, 9, 20), 6, (3, 3), pads=(1, 1, 1, 1), group=2), ["Pad", "Conv"]),
    (convolution((1, 20, 9, 20), 10, (3, 3), pads=(1, 0, 0, 2), strides=(1, 2), group=2), ["Pad", "Conv"]),
    (convolution((1, 8, 9, 20), 8, (3, 3), pads=(1, 1, 1, 1), group=2), ["Conv"]),  # vectors of channels
    (convolution((1, 6, 9, 20), 6, (3, 3), group=2), ["Conv"]),
    (convolution((1, 6, 9, 7), 6, (3, 3), pads=(1, 1, 1, 1), group=2), ["Conv"]),  # rows are shorter than vectors
]


@pytest.mark.parametrize(("g", "operators"), WIDE + FILTERS + GROUPS, ids=lambda v: str(getattr(v, "inputs", "")))
def test_wide_windows_read_a_padded_copy_and_channels_of_several_filters_are_selected(
    g: Graph, operators: list[str]
) -> None:
    x = np.random.default_rng(4).standard_normal(g.inputs[0].shape).astype(np.float32)
    new = on_x86(g)
    assert [n.op for n in new.nodes() if n.args] == operators
    np.testing.assert_allclose(run(new, [x])[0], run(g, [x])[0], rtol=1e-4, atol=1e-4)


def test_targets_without_vectors_of_channels_keep_their_convolutions() -> None:
    assert [n.op for n in on_x86(FILTERS[0][0], "cuda").nodes() if n.args] == ["Conv"]
    assert [n.op for n in on_x86(WIDE[0][0], "cortex-m7").nodes() if n.args] == ["Conv"]


def grouped(group: int, inputs: int, outputs: int) -> Graph:
    """Bytes, of `inputs` and `outputs` channels in a group."""
    x = Value(Node("Input", (), (Type("u8", (2, group * inputs, 6, 7)),), {}, "x"))
    random = np.random.default_rng(group)
    w = ops.const(random.integers(-128, 128, (group * outputs, inputs, 3, 3)).astype(np.int8))
    b = ops.const(random.integers(-99, 99, group * outputs).astype(np.int32))
    y = ops.build("Edgec.ConvInteger", x, w, b, group=group, pads=(1, 0, 1, 1), strides=(2, 1), zero=131)
    return Graph("g", (x,), (y,))


@pytest.mark.parametrize(
    ("group", "inputs", "outputs", "left"),
    [(6, 8, 8, 3), (32, 4, 4, 8), (4, 12, 12, 1), (8, 1, 2, 1), (3, 5, 16, 1), (4, 1, 1, 1), (2, 16, 32, 2)]
    + [(20, 1, 1, 20), (40, 1, 3, 40), (6, 4, 16, 6)],
)
def test_groups_of_bytes_are_joined_until_they_fill_vectors(group: int, inputs: int, outputs: int, left: int) -> None:
    g = grouped(group, inputs, outputs)
    x = np.random.default_rng(1).integers(0, 256, g.inputs[0].shape).astype(np.uint8)
    new = on_x86(g)
    (conv,) = (n for n in new.nodes() if n.op == "Edgec.ConvInteger")
    assert conv.attrs["group"] == left
    np.testing.assert_array_equal(run(new, [x])[0], run(g, [x])[0])
    assert [n.attrs["group"] for n in on_x86(g, "rpi5").nodes() if n.op == conv.op] == [group]
