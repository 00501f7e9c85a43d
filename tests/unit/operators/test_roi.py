"""RoiAlign: regions of any size and place against ONNX Runtime, and kernels in fenced memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import DTYPES
from edgec.compiler.errors import IRError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run
from edgec.compiler.ir import Type
from edgec.compiler.op import infer
from tests.support.harness import TARGETS, check, execute, one
from tests.support.one_node import OneNode, close

ROWS = ("roi_align", "roi_align_f32_blocked")


def regions(rng: Any, count: int, scale: float) -> Any:
    """Some reach out of the image, some are turned round."""
    corner = rng.uniform(-4, 20, (count, 2)) / scale
    return np.concatenate([corner, corner + rng.uniform(-1, 16, (count, 2)) / scale], 1).astype(np.float32)


def drawn(seed: int) -> OneNode:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rng.integers(1, 4), rng.integers(1, 20), *rng.integers(1, 20, 2))).astype(np.float32)
    count, scale, opset = int(rng.integers(1, 6)), float(rng.choice([1.0, 0.25, 2.0])), int(rng.choice([10, 16]))
    attrs: dict[str, Any] = {"mode": str(rng.choice(["avg", "max"])), "spatial_scale": scale}
    attrs |= {"output_height": int(rng.integers(1, 8)), "output_width": int(rng.integers(1, 8))}
    attrs["sampling_ratio"] = int(rng.choice([0, 0, 1, 2, 3]))
    if opset == 16:
        attrs["coordinate_transformation_mode"] = str(rng.choice(["half_pixel", "output_half_pixel"]))
    return OneNode("RoiAlign", [x, regions(rng, count, scale), rng.integers(0, x.shape[0], count)], opset, **attrs)


@pytest.mark.parametrize("seed", range(60))
def test_regions_are_those_of_the_runtime(seed: int) -> None:
    node = drawn(seed)
    want = node.runtime()
    close(node.interpreted(), want, 2e-5)
    if seed % 10 == 0:
        close(node.compiled(), want, 2e-5)


WILD = [
    [-1e30, -5, 1e30, 5],
    [np.nan, 0, 3, 3],
    [0, 0, np.inf, np.inf],
    [-np.inf, 0, np.inf, 4],
    [3e38, 3e38, -3e38, -3e38],
    [-40, -40, -30, -30],
    [100, 2, 120, 3],
    [5, 5, 5, 5],
    [0, 0, 1e6, 1e6],
    [-1e5, -1e5, 1e5, 1e5],
]


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("row", ROWS)
def test_kernels_stay_within_their_memory(row: str, mode: str, ratio: int, where: str, tmp_path: Path) -> None:
    """Regions and numbers of images may be anything."""
    rng = np.random.default_rng(1)
    lanes = 16 if where == "x86-avx512" else 8
    layout = f"NCHW{lanes}c" if row.endswith("blocked") else ""
    rois = np.concatenate([np.asarray(WILD, np.float32), regions(rng, 6, 1.0)])
    images = rng.integers(0, 2, len(rois))
    images[:3] = [-(2**62), 7, 2**62]
    arrays = [rng.standard_normal((2, 19, 13, 21)).astype(np.float32), rois, images]
    for half_pixel, threads in ((0, 1), (1, 8)):
        p = one(
            "RoiAlign", f"f32[2, 19, 13, 21]@{layout}", f"f32[{len(rois)}, 4]", f"i64[{len(rois)}]", layouts=[layout],
            where=where, threads=threads, mode=mode, sampling_ratio=ratio, half_pixel=half_pixel, output_height=3,
            output_width=5,
        )  # fmt: skip
        (got,) = execute(p, row, arrays, tmp_path)
        (want,) = run(p.body, arrays)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got[6:], want[6:], rtol=1e-4, atol=1e-4)


def test_a_region_beyond_all_bounds_is_done_at_once() -> None:
    """Its samples are not walked through one by one."""
    x = np.ones((1, 1, 4, 4), np.float32)
    rois = np.asarray([[-1e7, -1e7, 1e7, 1e7], [0, 0, 4, 4]], np.float32)
    node = OneNode("RoiAlign", [x, rois, np.zeros(2, np.int64)], 16, output_height=2, output_width=2)
    node.typed([np.empty((2, 1, 2, 2), np.float32)])
    for (y,) in (node.interpreted(), node.compiled()):
        assert np.abs(y[0]).max() < 1e-6
        np.testing.assert_allclose(y[1], 1)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("kind", ["f16", "bf16", "f64"])
def test_element_types(kind: str, mode: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rois = (regions(rng, 4, 1.0) * 4).round() / 4
    arrays = [rng.standard_normal((2, 3, 9, 11)), rois, rng.integers(0, 2, 4)]
    arrays[:2] = [a.astype(DTYPES[kind].numpy) for a in arrays[:2]]
    for ratio in (0, 2):
        p = one(
            "RoiAlign", f"{kind}[2, 3, 9, 11]", f"{kind}[4, 4]", "i64[4]",
            mode=mode, sampling_ratio=ratio, output_height=2, output_width=3,
        )  # fmt: skip
        check(p, "roi_align", tmp_path, arrays)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 1, 40), (2, 1, 3, 2)])
def test_small_images(shape: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(shape).astype(np.float32), regions(rng, 8, 1.0), rng.integers(0, shape[0], 8)]
    for ratio in (0, 3):
        p = one(
            "RoiAlign",
            f"f32{list(shape)}",
            "f32[8, 4]",
            "i64[8]",
            sampling_ratio=ratio,
            output_height=4,
            output_width=4,
        )
        check(p, "roi_align", tmp_path, arrays, 2e-5)


def test_no_regions() -> None:
    x, rois = np.zeros((1, 2, 4, 4), np.float32), np.zeros((0, 4), np.float32)
    node = OneNode("RoiAlign", [x, rois, np.zeros(0, np.int64)], 16, output_height=3, output_width=3)
    node.typed([np.empty((0, 2, 3, 3), np.float32)])
    assert node.interpreted()[0].shape == (0, 2, 3, 3)


@pytest.mark.parametrize(
    ("x", "rois", "images", "attrs", "message"),
    [
        ((1, 2, 4), (3, 4), (3,), {}, "holds no images"),
        ((1, 2, 4, 4), (3, 5), (3,), {}, "do not fit"),
        ((1, 2, 4, 4), (3, 4), (2,), {}, "do not fit"),
        ((1, 2, 4, 4), (3, 4), (3,), {"output_height": 0}, "makes no sense"),
        ((1, 2, 4, 4), (3, 4), (3,), {"sampling_ratio": -1}, "makes no sense"),
        ((1, 2, 4, 4), (3, 4), (3,), {"mode": "sum"}, "expected avg or max"),
    ],
)
def test_arguments_that_do_not_fit(x: Any, rois: Any, images: Any, attrs: Any, message: str) -> None:
    types = [Type("f32", x), Type("f32", rois), Type("i64", images)]
    with pytest.raises(IRError, match=message):
        infer("RoiAlign", types, {"output_height": 2, "output_width": 2, **attrs})


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"coordinate_transformation_mode": "corner"}, "expected half_pixel or output_half_pixel"),
        ({"sampling_ratio": 1 << 30}, "expected at most 1024"),
    ],
)
def test_what_nobody_means_is_refused(attrs: dict[str, Any], message: str) -> None:
    args = [np.zeros((1, 2, 4, 4), "f4"), np.zeros((1, 4), "f4"), np.zeros(1, np.int64)]
    node = OneNode("RoiAlign", args, 16, **attrs)
    node.typed([np.zeros((1, 2, 1, 1), "f4")])
    with pytest.raises(UnsupportedModel, match=message):
        import_model(node.model)
