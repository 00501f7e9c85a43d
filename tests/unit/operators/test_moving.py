"""Operators that move, select, scatter and sample elements compute what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.meaning import RNG, check, f32, i64, ints
from tests.support.one_node import K


def test_moving_elements() -> None:
    check("Reshape", f32(2, 3, 4), K(i64(0, -1)))
    check("Flatten", f32(2, 3, 4), axis=2)
    check("Transpose", f32(2, 3, 4), perm=[2, 0, 1])
    check("Transpose", f32(2, 3))
    check("Squeeze", f32(1, 3, 1), K(i64(-1)))
    check("Unsqueeze", f32(3), K(i64(0, -1)))
    check("Expand", f32(3, 1), K(i64(2, 1, 4)))
    check("Tile", f32(2, 3), K(i64(2, 3)))
    for mode in ("DCR", "CRD"):
        check("DepthToSpace", f32(1, 8, 2, 3), blocksize=2, mode=mode)
    check("SpaceToDepth", f32(1, 2, 4, 6), blocksize=2)
    check("Trilu", f32(3, 4), upper=0)
    check("Trilu", f32(3, 4), K(np.int64(1)))


def test_cutting_and_joining() -> None:
    check("Concat", f32(2, 3), f32(2, 1), axis=-1)
    check("Split", f32(2, 5), results=2, axis=1, num_outputs=2)
    check("Split", f32(2, 5), K(i64(1, 4)), results=2, axis=1)
    check("Split", f32(4, 2), results=2, opset=7)


@pytest.mark.parametrize(
    ("start", "end", "step"), [(1, 4, 1), (-3, 99, 1), (0, 5, 2), (4, 0, -1), (-1, -99, -2), (3, -99, -1), (3, 2, 1)]
)
def test_slice(start: int, end: int, step: int) -> None:
    check("Slice", f32(2, 5, 3), K(i64(start)), K(i64(end)), K(i64(1)), K(i64(step)))


def test_slice_of_an_axis_without_elements() -> None:
    check("Slice", f32(0, 3), K(i64(-5)), K(i64(-9)), K(i64(0)), K(i64(-1)))


def test_slice_of_old_operator_sets() -> None:
    check("Slice", f32(2, 5), opset=9, starts=[1, 0], ends=[2, -1])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(mode: str) -> None:
    check("Pad", f32(2, 4), K(i64(0, 1, 1, 2)), mode=mode)


def test_pad_that_cuts() -> None:
    check("Pad", f32(2, 4), K(i64(0, -1, 1, 2)), K(np.float32(3)))
    check("Pad", f32(2, 4), K(i64(2, 1)), None, K(i64(1)))


def test_gather() -> None:
    check("Gather", f32(3, 4), K(i64([0, -1], [2, 1])), axis=0)
    check("Gather", f32(3, 4), ints(-4, 4, 2), axis=1)
    check("Gather", f32(3, 4), K(np.int64(1)), axis=-1)
    check("GatherElements", f32(3, 4), ints(-3, 3, 2, 4, to=np.int64), axis=0)
    check("GatherND", f32(2, 3, 4), i64([[0, 1]], [[1, -1]]))
    check("GatherND", f32(2, 3, 4), i64([[1]], [[2]]), batch_dims=1)
    check("GatherND", f32(2, 3, 4), K(i64([[0, 1, -4]], [[-1, -1, 2]])))
    check("GatherND", f32(2, 3, 4), K(i64([[-1]], [[2]])), batch_dims=1, opset=12)
    check("GatherElements", f32(3, 4), K(i64([0, -1], [-3, 2])), axis=-2, opset=11)


def test_one_hot() -> None:
    check("OneHot", i64(0, 2, -1), K(np.int64(3)), f32(2), axis=-1)
    check("OneHot", i64([0, 5], [-6, 2]), K(np.asarray([5])), ints(0, 9, 2, to=np.int64), axis=1, opset=9)
    check("OneHot", np.asarray([1.9, -1.2, 0], np.float32), K(np.float32(3)), f32(2), axis=0)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter(reduction: str) -> None:
    check("ScatterElements", f32(4, 5), ints(-5, 5, 4, 1, to=np.int64), f32(4, 1), axis=1, reduction=reduction)
    check("ScatterND", f32(4, 5, 6), i64([[0, 1]], [[-1, -2]]), f32(2, 1, 6), reduction=reduction)
    check("ScatterND", f32(4, 5), K(i64([3], [0])), f32(2, 5), reduction=reduction)


def test_scatter_of_other_operator_sets() -> None:
    check("Scatter", f32(4, 5), K(i64([0, 3, 1])), f32(1, 3), opset=9, axis=0)
    check("ScatterElements", f32(4, 5), i64([0, -1, 1]), f32(1, 3), opset=11, axis=1)
    check("ScatterND", f32(4, 5), i64([3], [0]), f32(2, 5), opset=11)
    check("TensorScatter", f32(2, 3, 6, 4), f32(2, 3, 2, 4), i64(1, 4), opset=24)
    check("TensorScatter", f32(2, 6, 4), f32(2, 3, 4), i64(4, 11), opset=24, axis=1, mode="circular")
    check("TensorScatter", f32(2, 6, 4), f32(2, 3, 4), opset=24, axis=1)


def test_selection_in_order() -> None:
    x = ints(-3, 4, 2, 5, 7).astype(np.float32)
    check("TopK", x, K(i64(3)), results=2, axis=1, largest=0)
    check("TopK", x, K(i64(4)), results=2, opset=10)
    check("TopK", x, results=2, opset=9, k=2, axis=0)


RESIZE = [
    ("nearest", {}),
    ("nearest", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ("nearest", {"nearest_mode": "round_prefer_ceil"}),
    ("linear", {}),
    ("linear", {"coordinate_transformation_mode": "align_corners"}),
    ("linear", {"coordinate_transformation_mode": "pytorch_half_pixel"}),
    ("cubic", {}),
    ("cubic", {"cubic_coeff_a": -0.5, "exclude_outside": 1}),
]


@pytest.mark.parametrize(("mode", "attrs"), RESIZE)
def test_resize(mode: str, attrs: dict[str, Any]) -> None:
    x = f32(1, 2, 4, 5)
    check("Resize", x, None, K(np.asarray([1, 1, 2, 3], np.float32)), opset=18, mode=mode, tolerance=1e-4, **attrs)
    check("Resize", x, None, None, K(i64(1, 2, 3, 8)), opset=18, mode=mode, tolerance=1e-4, **attrs)


@pytest.mark.parametrize("mode", ["asymmetric", "half_pixel_symmetric"])
def test_ties_of_nearest_positions_are_decided_to_the_precision_of_scales(mode: str) -> None:
    scales = K(np.asarray([1, 0.8], np.float32))
    attrs = {"coordinate_transformation_mode": mode, "nearest_mode": "round_prefer_ceil"}
    check("Resize", f32(1, 7), None, scales, opset=19, mode="nearest", **attrs)


def test_samples_and_regions() -> None:
    x, grid = f32(2, 3, 5, 4), (RNG.random((2, 3, 6, 2)) * 2.4 - 1.2).astype(np.float32)
    for mode in ("linear", "nearest", "cubic"):
        check("GridSample", x, grid, opset=20, mode=mode, padding_mode="reflection")
    rois = np.asarray([[0, 0, 3, 4], [1.5, -1, 9, 2]], np.float32)
    for mode in ("avg", "max"):
        check("RoiAlign", x, rois, i64(1, 0), opset=16, output_height=2, output_width=3, mode=mode)
    rois = np.asarray([[1, 0, 0, 3, 4], [0, 1.5, -1, 9, 2]], np.float32)
    check("MaxRoiPool", x, rois, opset=12, pooled_shape=[2, 3], spatial_scale=0.5)


def test_resize_of_old_operator_sets() -> None:
    scales = K(np.asarray([1, 1, 2, 2], np.float32))
    for mode in ("nearest", "linear"):
        check("Upsample", f32(1, 1, 2, 3), opset=7, scales=[1.0, 1.0, 2.0, 2.0], mode=mode)
        check("Upsample", f32(1, 1, 2, 3), scales, opset=9, mode=mode)
        check("Resize", f32(1, 1, 2, 3), scales, opset=10, mode=mode)


def test_reversed_sequences() -> None:
    check("ReverseSequence", f32(5, 3, 2), i64(5, 0, 3), opset=10)
    check("ReverseSequence", f32(3, 5), i64(1, 4, 5), opset=10, time_axis=1, batch_axis=0)
