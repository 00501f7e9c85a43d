"""MaxRoiPool: regions of any size and place against ONNX Runtime, and its kernel in fenced memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import DTYPES
from edgec.compiler.errors import IRError
from edgec.compiler.interpret import run
from edgec.compiler.ir import Type
from edgec.compiler.op import infer
from tests.support.harness import TARGETS, check, execute, one
from tests.support.one_node import OneNode, close


def regions(rng: Any, count: int, images: int, scale: float) -> Any:
    """Corners at quarters, of which halves are rounded; some reach out of the image, some are turned round."""
    corner = rng.uniform(-4, 20, (count, 2))
    corners = np.concatenate([corner, corner + rng.uniform(-2, 16, (count, 2))], 1)
    return np.concatenate([rng.integers(0, images, (count, 1)), (corners * 4).round() / 4 / scale], 1)


@pytest.mark.parametrize("seed", range(40))
def test_regions_are_those_of_the_runtime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rng.integers(1, 4), rng.integers(1, 20), *rng.integers(1, 20, 2))).astype(np.float32)
    scale, size = float(rng.choice([1.0, 0.25, 2.0])), rng.integers(1, 8, 2).tolist()
    rois = regions(rng, int(rng.integers(1, 6)), len(x), scale).astype(np.float32)
    node = OneNode("MaxRoiPool", [x, rois], 12, pooled_shape=size, spatial_scale=scale)
    want = node.runtime()
    close(node.interpreted(), want, 0)
    if seed % 8 == 0:
        close(node.compiled(), want, 0)


WILD = [
    [-(2.0**62), -1e30, -5, 1e30, 5],
    [7, np.nan, 0, 3, 3],
    [np.nan, 0, 0, np.inf, np.inf],
    [np.inf, -np.inf, 0, np.inf, 4],
    [0.9, 3e38, 3e38, -3e38, -3e38],
    [-0.9, -40, -40, -30, -30],
    [1, 100, 2, 120, 3],
    [1, 5, 5, 5, 5],
    [1, 0, 0, 1e6, 1e6],
]


@pytest.mark.parametrize("where", TARGETS)
def test_the_kernel_stays_within_its_memory(where: str, tmp_path: Path) -> None:
    """Regions, numbers of images and elements may be anything."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 19, 13, 21)).astype(np.float32)
    x[:, 3, :, ::2], x[:, 4] = np.nan, -np.inf
    rois = np.concatenate([WILD, regions(rng, 6, 2, 1.0)]).astype(np.float32)
    for threads in (1, 8):
        types = "f32[2, 19, 13, 21]", f"f32[{len(rois)}, 5]"
        p = one("MaxRoiPool", *types, where=where, threads=threads, pooled_shape=(3, 5))
        (got,), (want,) = execute(p, "max_roi_pool", [x, rois], tmp_path), run(p.body, [x, rois])
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", ["f16", "bf16", "f64"])
def test_element_types(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((2, 3, 9, 11)), regions(rng, 4, 2, 1.0)]
    p = one("MaxRoiPool", f"{kind}[2, 3, 9, 11]", f"{kind}[4, 5]", pooled_shape=(2, 3))
    check(p, "max_roi_pool", tmp_path, [a.astype(DTYPES[kind].numpy) for a in arrays])


def test_no_regions() -> None:
    x, rois = np.zeros((1, 2, 4, 4), np.float32), np.zeros((0, 5), np.float32)
    node = OneNode("MaxRoiPool", [x, rois], 12, pooled_shape=[3, 3])
    node.typed([np.empty((0, 2, 3, 3), np.float32)])
    assert node.interpreted()[0].shape == (0, 2, 3, 3)


@pytest.mark.parametrize(
    ("x", "rois", "size", "message"),
    [
        ((1, 2, 4), (3, 5), (2, 2), "holds no images"),
        ((1, 2, 4, 4), (3, 4), (2, 2), r"expected \[n, 5\]"),
        ((1, 2, 4, 4), (3, 5), (2, 0), "makes no sense"),
        ((1, 2, 4, 4), (3, 5), (), "makes no sense"),
    ],
)
def test_arguments_that_do_not_fit(x: Any, rois: Any, size: Any, message: str) -> None:
    with pytest.raises(IRError, match=message):
        infer("MaxRoiPool", [Type("f32", x), Type("f32", rois)], {"pooled_shape": size})
