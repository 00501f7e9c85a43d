"""Sampling at computed positions: GridSample in every mode, grids of affine maps, bad grids and fenced memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgec.compiler.dtypes import DTYPES
from edgec.compiler.errors import EdgecError, IRError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run
from edgec.compiler.op import infer
from edgec.compiler.ops.sampling import MODES, PADDINGS
from tests.support.harness import TARGETS, check, execute, one
from tests.support.one_node import K, OneNode, close

ROWS = ("grid_sample", "grid_sample_f32_blocked")


def drawn(seed: int, ranks: tuple[int, ...] = (2, 3)) -> tuple[Any, Any, dict[str, Any]]:
    """Data, a grid that leaves them here and there, and attributes."""
    rng = np.random.default_rng(seed)
    rank = int(rng.choice(ranks))
    x = rng.standard_normal((rng.integers(1, 3), rng.integers(1, 20), *rng.integers(1, 7, rank))).astype(np.float32)
    grid = rng.uniform(-1.6, 1.6, (x.shape[0], *rng.integers(1, 8, rank), rank)).astype(np.float32)
    attrs: dict[str, Any] = {"mode": str(rng.choice(MODES)), "padding_mode": str(rng.choice(PADDINGS))}
    attrs["align_corners"] = int(rng.integers(2))
    return x, grid, attrs


@pytest.mark.parametrize("seed", range(60))
def test_samples_are_those_of_the_runtime(seed: int) -> None:
    x, grid, attrs = drawn(seed)
    single = attrs["align_corners"] and 1 in x.shape[2:] and attrs["padding_mode"] == "reflection"
    if single or (attrs["mode"] == "cubic" and x.ndim == 5):
        attrs["padding_mode"], attrs["mode"] = "zeros", "linear"  # it divides by zero there, or knows no such mode
    names = {"linear": "bilinear", "cubic": "bicubic"} if seed % 2 and x.ndim == 4 else {}
    opset = 16 if names else 20
    node = OneNode("GridSample", [x, grid], opset, **{**attrs, "mode": names.get(attrs["mode"], attrs["mode"])})
    want = node.runtime()
    close(node.interpreted(), want)
    if seed % 6 == 0:
        close(node.compiled(), want)


@pytest.mark.parametrize("seed", range(100, 112))
def test_all_ranks_are_those_of_the_reference(seed: int) -> None:
    x, grid, attrs = drawn(seed, (1, 2, 3))
    x, grid = x[:1, :1], grid[:1]
    if (attrs["align_corners"] and 1 in x.shape[2:]) or (attrs["mode"], attrs["padding_mode"]) == ("cubic", "border"):
        attrs["padding_mode"] = "zeros"  # it divides by zero, or clamps positions in place of elements
    node = OneNode("GridSample", [x, grid], 20, **attrs)
    want = node.reference()
    close(node.interpreted(), want)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", ROWS)
def test_kernels_stay_within_their_memory(row: str, mode: str, padding: str, where: str, tmp_path: Path) -> None:
    """Grids with anything in them: far away, infinite, not a number. Many threads share channels as well."""
    threads = 8 if padding == "border" else 1
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 19, 5, 7)).astype(np.float32)
    grid = rng.uniform(-1.3, 1.3, (2, 20, 17, 2)).astype(np.float32)
    grid.reshape(-1)[::7] *= 1e3
    grid.reshape(-1)[5:90:11] = [np.inf, -np.inf, np.nan, 1e30, -1e30, 3e38, 0, 1]
    lanes = "NCHW16c" if where == "x86-avx512" else "NCHW8c"
    layout = lanes if row.endswith("blocked") else ""
    p = one(
        "GridSample", f"f32[2, 19, 5, 7]@{layout}", "f32[2, 20, 17, 2]", where=where, layouts=[layout], threads=threads,
        mode=mode, padding_mode=padding, align_corners=int(padding == "border"),
    )  # fmt: skip
    (got,) = execute(p, row, [x, grid], tmp_path)
    (want,) = run(p.body, [x, grid])
    assert np.isfinite(got).all()
    near = (np.abs(grid) < 2).all(-1)[:, None] if padding == "reflection" else np.asarray(True)  # else ill-conditioned
    np.testing.assert_allclose(np.where(near, got, 0), np.where(near, want, 0), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 2, 3, 4, 2), (1, 40, 1, 1)])
@pytest.mark.parametrize("padding", PADDINGS)
def test_one_and_three_axes_and_single_elements(shape: Any, padding: str, tmp_path: Path) -> None:
    rank = len(shape) - 2
    grid = (1, *(3, 5, 2)[:rank], rank)
    at = np.random.default_rng(2).uniform(-2, 2, grid).astype(np.float32)
    for mode in ("linear", "cubic"):
        for corners in (0, 1):
            p = one(
                "GridSample", f"f32{list(shape)}", f"f32{list(grid)}",
                mode=mode, padding_mode=padding, align_corners=corners,
            )  # fmt: skip
            x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
            check(p, "grid_sample", tmp_path, [x, at], 2e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["f16", "bf16", "f64", "u8", "i8", "i16", "u32", "i64", "u64", "bool"])
def test_element_types(kind: str, mode: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    low = 0 if kind[0] in "ub" and kind != "bf16" else -100
    x = rng.integers(low, 100, (1, 3, 6, 5)).astype(DTYPES[kind].numpy)
    if kind in ("u8", "i8", "u64"):
        x.reshape(-1)[::3] = np.iinfo(x.dtype).max
    at = {"f16": "f16", "bf16": "bf16", "f64": "f64"}.get(kind, "f32")
    grid = (rng.integers(-12, 13, (1, 4, 9, 2)) / 8 + 1 / 64).astype(DTYPES[at].numpy)
    p = one("GridSample", f"{kind}[1, 3, 6, 5]", f"{at}[1, 4, 9, 2]", mode=mode)
    if kind in ("u8", "i8", "i16", "u32", "i64", "u64") and mode != "nearest":
        (got,) = execute(p, "grid_sample", [x, grid], tmp_path)
        from edgec.compiler.interpret import run

        (want,) = run(p.body, [x, grid])
        off = np.abs(got.astype(np.float64) - want.astype(np.float64))  # positions of f32, contracted or not
        assert (off <= 1 + 2e-6 * x.max()).all()
    else:
        check(p, "grid_sample", tmp_path, [x, grid])


def test_infinite_elements_stay_inside() -> None:
    """Zeros outside are not multiplied with the edge."""
    x = np.full((1, 1, 2, 2), np.inf, np.float32)
    grid = np.asarray([[[[-1.25, -0.5], [5, 5], [0, 0]]]], np.float32)
    node = OneNode("GridSample", [x, grid], 20)
    node.typed([np.empty((1, 1, 1, 3), np.float32)])
    for (y,) in (node.interpreted(), node.compiled()):
        np.testing.assert_array_equal(y.reshape(-1), [np.inf, 0, np.inf])


def test_no_points() -> None:
    node = OneNode("GridSample", [np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 0, 4, 2), np.float32)], 20)
    node.typed([np.empty((1, 2, 0, 4), np.float32)])
    assert node.interpreted()[0].shape == (1, 2, 0, 4)


@pytest.mark.parametrize(
    ("x", "grid", "message"),
    [
        ((1, 2, 3, 3), (2, 4, 4, 2), "does not fit"),
        ((1, 2, 3, 3), (1, 4, 4, 3), "does not fit"),
        ((1, 2, 0, 3), (1, 4, 4, 2), "has no elements to sample"),
    ],
)
def test_grids_that_do_not_fit(x: Any, grid: Any, message: str) -> None:
    from edgec.compiler.ir import Type

    with pytest.raises(IRError, match=message):
        infer("GridSample", [Type("f32", x), Type("f32", grid)], {})
    with pytest.raises(IRError, match="expected one of"):
        infer("GridSample", [Type("f32", (1, 1, 2, 2)), Type("f32", (1, 1, 1, 2))], {"mode": "area"})


def test_four_spatial_axes_are_refused() -> None:
    node = OneNode("GridSample", [np.zeros((1, 1, 2, 2, 2, 2), "f4"), np.zeros((1, 1, 1, 1, 1, 4), "f4")], 20)
    node.typed([np.zeros((1, 1, 1, 1, 1, 1), "f4")])
    with pytest.raises(UnsupportedModel, match="expected one, two or three spatial axes"):
        import_model(node.model)


# ---- grids of affine maps


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("size", [(2, 1, 4, 5), (1, 3, 7, 2), (3, 1, 2, 3, 4)])
def test_affine_grids(size: Any, corners: int) -> None:
    rank = len(size) - 2
    theta = np.random.default_rng(5).standard_normal((size[0], rank, rank + 1)).astype(np.float32)
    node = OneNode("AffineGrid", [theta, K(np.asarray(size, np.int64))], 20, align_corners=corners)
    want = node.runtime()
    close(node.interpreted(), want)
    close(node.compiled(), want)


def test_affine_grids_of_other_types_and_sizes() -> None:
    theta = np.asarray([[[1, 0.5, 0.25], [0, 2, -1]]])
    for kind in (np.float16, ml_dtypes.bfloat16, np.float64):
        node = OneNode("AffineGrid", [theta.astype(kind), K(np.asarray([1, 1, 3, 2], np.int64))], 20)
        node.typed([np.empty((1, 3, 2, 2), kind)])
        y, x = (np.indices((3, 2)) * 2 + 1) / np.asarray([3, 2]).reshape(2, 1, 1) - 1
        want = np.stack([x + y / 2 + 0.25, 2 * y - 1], -1)[None]
        close(node.compiled(), [want.astype(kind)])
    node = OneNode("AffineGrid", [theta.astype("f4"), K(np.asarray([1, 1, 1, 2], np.int64))], 20, align_corners=1)
    node.typed([np.empty((1, 1, 2, 2), "f4")])
    np.testing.assert_allclose(node.interpreted()[0].reshape(-1), [-1.25, -3, 0.75, -3])


def test_affine_grids_that_do_not_fit() -> None:
    theta = np.zeros((1, 2, 3), "f4")
    for size in ([2, 1, 3, 3], [1, 1, 3, 3, 3], [1, 1, 3]):
        node = OneNode("AffineGrid", [theta, K(np.asarray(size, np.int64))], 20)
        node.typed([np.zeros((1, 3, 3, 2), "f4")])
        with pytest.raises(EdgecError, match="do not fit"):
            import_model(node.model)
    node = OneNode("AffineGrid", [theta, np.asarray([1, 1, 3, 3], np.int64)], 20)
    node.typed([np.zeros((1, 3, 3, 2), "f4")])
    with pytest.raises(UnsupportedModel, match="size .* is computed while the model runs"):
        import_model(node.model)
