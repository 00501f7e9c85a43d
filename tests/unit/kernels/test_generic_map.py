"""generic_map: chains of maps and elementwise operators in any layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS
from tests.support.harness import chain, check, one, scalar, tensor

N, B = "f32[1, 24, 5, 7]", "f32[1, 24, 5, 7]@NCHW16c"

MAPS: list[Any] = [
    ("Reshape", [N], {"shape": (24, 35)}),
    ("Reshape", [N], {"shape": (1, 24, 5, 1, 7)}),
    ("Reshape", ["f32[6, 4, 5]"], {"shape": (8, 15)}),
    ("Reshape", [B], {"shape": (1, 840)}),
    ("Transpose", [N], {"perm": (0, 2, 3, 1)}),
    ("Transpose", [B], {"perm": (3, 1, 0, 2)}),
    ("Transpose", ["f32[33, 70]"], {"perm": (1, 0)}),
    ("Concat", [N, "f32[1, 8, 5, 7]", N], {"axis": 1}),
    ("Concat", ["f32[1, 16, 5, 7]@NCHW16c", B], {"axis": 1}),
    ("Concat", [B, "f32[1, 16, 5, 7]@NCHW16c"], {"axis": 1}),
    ("Split", [N], {"axis": 1, "split": (8, 16)}),
    ("Split", ["f32[1, 32, 5, 7]@NCHW16c"], {"axis": 1, "split": (16, 16)}),
    ("Slice", [N], {"starts": (1, 6), "ends": (20, -1), "axes": (1, 3), "steps": (2, -2)}),
    ("Pad", [N], {"pads": (0, 0, 1, 2, 0, 0, 2, 1), "mode": "constant", "value": 2.5}),
    ("Pad", [N], {"pads": (0, 0, 3, 2, 0, 0, 2, 9), "mode": "reflect"}),
    ("Pad", [N], {"pads": (0, 1, 3, 2, 0, 0, 2, 9), "mode": "edge"}),
    ("Pad", [N], {"pads": (0, 0, 3, 2, 0, 2, 2, 9), "mode": "wrap"}),
    ("Pad", [N], {"pads": (0, -2, 1, -1, 0, 0, -2, 3), "mode": "constant"}),
    ("Pad", [B], {"pads": (0, 4, 1, 2, 0, 4, 2, 1), "mode": "constant", "value": 2.5}),
    ("Expand", ["f32[24, 1, 7]"], {"shape": (2, 24, 5, 7)}),
    ("Tile", [N], {"repeats": (2, 1, 3, 2)}),
    ("Tile", ["f32[3, 1, 20]"], {"repeats": (1, 40, 2)}),
    ("DepthToSpace", [N], {"blocksize": 2, "mode": "DCR"}),
    ("DepthToSpace", [B], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", ["f32[1, 3, 4, 6]"], {"blocksize": 2}),
    ("Trilu", ["f32[2, 5, 7]"], {"upper": 1, "k": 1}),
    ("Trilu", ["i64[5, 7]"], {"upper": 0, "k": -1}),
    ("Edgec.Layout", [N], {"to": ""}),
]


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("op, kinds, attrs", MAPS, ids=lambda x: x if isinstance(x, str) else None)
def test_maps_move_elements_as_numpy_does(op: str, kinds: list[str], attrs: Any, blocked: bool, tmp_path: Path) -> None:
    p = one(op, *kinds, **attrs)
    outputs = p.body.outputs
    if blocked:
        if any(len(v.shape) != 4 or v.type.dtype != "f32" for v in outputs):
            pytest.skip("blocks are for rank 4")
        p = one(op, *kinds, layouts=("NCHW16c",) * len(outputs), **attrs)
    check(p, "generic_map", tmp_path)


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
@pytest.mark.parametrize("kind", ["f32", "i64", "u8"])
@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_elements_apart_are_picked_from_neighbours(step: int, kind: str, where: str, tmp_path: Path) -> None:
    """Whole vectors and what is left of rows; the last element read is the array's last one."""
    for size in (4, 7, 16, 39):
        across = step * (size - 1) + 1
        attrs: dict[str, Any] = {"starts": (0,), "ends": (across,), "axes": (1,), "steps": (step,)}
        check(one("Slice", f"{kind}[3, {across}]", where=where, **attrs), "generic_map", tmp_path)


def test_elements_apart_at_places_that_data_give(tmp_path: Path) -> None:
    """Which row is known from memory only: its elements are loaded one by one."""
    p = one("Gather", "f32[5, 64]", "i64[3]", axis=0)
    index = Value(Node("Input", (), (Type("i64", (3,)),), {}, "i"))
    x = Value(Node("Input", (), (Type("f32", (5, 64)),), {}, "x"))
    rows = build("Gather", x, index, axis=0)
    picked = build("Slice", rows, starts=(1,), ends=(64,), axes=(1,), steps=(2,))
    p = replace(p, body=Graph("g", (x, index), (picked,)))
    check(p, "generic_map", tmp_path, [np.arange(320, dtype=np.float32).reshape(5, 64), np.asarray([4, -2, 0])])


def test_gathers_read_at_computed_positions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6, 5)).astype(np.float32)
    at = np.asarray([[0, -1, 3], [5, 2, -6]], np.int64)
    check(one("Gather", "f32[4, 6, 5]", "i64[2, 3]", axis=1), "generic_map", tmp_path, [x, at])
    elements = rng.integers(-4, 4, (3, 6, 2))
    check(one("GatherElements", "f32[4, 6, 5]", "i64[3, 6, 2]", axis=0), "generic_map", tmp_path, [x, elements])
    check(
        one("GatherND", "f32[4, 6, 5]", "i32[2, 3, 2]"),
        "generic_map",
        tmp_path,
        [x, rng.integers(-4, 4, (2, 3, 2)).astype(np.int32)],
    )
    check(
        one("GatherND", "f32[4, 6, 5]", "i64[4, 2, 1]", batch_dims=1),
        "generic_map",
        tmp_path,
        [x, rng.integers(-6, 6, (4, 2, 1))],
    )


LARGE: list[Any] = [
    ("Pad", ["f32[3, 8, 40, 50]"], {"pads": (0, 0, 3, 2, 0, 0, 2, 9), "mode": "reflect"}),
    ("Pad", ["f32[2, 40, 40, 40]"], {"pads": (0, 1, 1, 0, 0, 2, 0, 0), "mode": "constant", "value": 2.5}),
    ("Tile", ["f32[2, 6, 20, 30]"], {"repeats": (1, 1, 2, 3)}),
    ("Tile", ["f32[40, 7]"], {"repeats": (3, 30)}),
    ("Concat", ["f32[4, 5, 30, 18]", "f32[4, 5, 40, 18]"], {"axis": 2}),
    ("Concat", ["f32[1, 300, 60]", "f32[1, 300, 3]"], {"axis": 2}),
]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("op, kinds, attrs", LARGE, ids=lambda x: x if isinstance(x, str) else None)
def test_boxes_of_large_results_are_written_in_turns(
    op: str, kinds: list[str], attrs: Any, threads: int, tmp_path: Path
) -> None:
    check(one(op, *kinds, threads=threads, **attrs), "generic_map", tmp_path)
    if op == "Pad":
        blocked = one(op, *kinds, layouts=("NCHW16c",), threads=threads, **attrs)
        check(blocked, "generic_map", tmp_path)


RESIZES = [
    ("nearest", "asymmetric", "floor", (1, 24, 10, 14)),
    ("nearest", "half_pixel", "round_prefer_floor", (1, 24, 3, 11)),
    ("nearest", "align_corners", "round_prefer_ceil", (1, 24, 9, 4)),
    ("nearest", "tf_half_pixel_for_nn", "ceil", (1, 24, 9, 4)),
    ("linear", "half_pixel", "floor", (1, 24, 10, 14)),
    ("linear", "align_corners", "floor", (1, 24, 8, 4)),
    ("linear", "pytorch_half_pixel", "floor", (1, 24, 1, 9)),
    ("cubic", "half_pixel", "floor", (1, 24, 7, 10)),
    ("cubic", "half_pixel_symmetric", "floor", (1, 24, 3, 10)),
]


@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize("mode, coordinates, nearest, sizes", RESIZES)
def test_resize_samples_as_the_operator_table_does(
    mode: str, coordinates: str, nearest: str, sizes: Any, exclude: int, tmp_path: Path
) -> None:
    attrs = {
        "sizes": sizes,
        "scales": tuple(m / n for m, n in zip(sizes, (1, 24, 5, 7), strict=True)),
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": nearest,
        "exclude_outside": exclude,
    }
    check(one("Resize", N, **attrs), "generic_map", tmp_path)
    check(one("Resize", B, layouts=("NCHW16c",), **attrs), "generic_map", tmp_path)


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
@pytest.mark.parametrize("kind", ["f32", "u8", "f16", "i64"])
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_elements_that_are_repeated(factor: int, kind: str, where: str, tmp_path: Path) -> None:
    """Whole vectors, what is left of rows, and rows shorter than a vector."""
    for width in (1, 3, 8, 13, 20):
        attrs = {
            "sizes": (1, 2, 3 * factor, width * factor),
            "scales": (1.0, 1.0, float(factor), float(factor)),
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        check(one("Resize", f"{kind}[1, 2, 3, {width}]", where=where, **attrs), "generic_map", tmp_path)


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("block", [2, 3, 4])
def test_elements_that_are_woven_together(block: int, mode: str, where: str, tmp_path: Path) -> None:
    for width in (1, 5, 16, 21):
        x = f"f32[1, {2 * block * block}, 2, {width}]"
        check(one("DepthToSpace", x, where=where, blocksize=block, mode=mode), "generic_map", tmp_path)


def test_resizes_that_repeat_are_cheap_along_rows() -> None:
    def costs(width: int) -> list[float]:
        attrs = {"sizes": (1, 24, 10, width), "scales": (1.0, 1.0, 2.0, width / 7), "mode": "nearest"}
        attrs |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return [c.cost_us for c in ROWS["generic_map"].choices(one("Resize", N, **attrs))]

    assert min(costs(14)) < 0.5 * max(costs(14)) and len(costs(14)) == len(costs(17)) + 1


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["asymmetric", "align_corners", "half_pixel_symmetric"])
def test_resize_by_scales_that_cut_the_output(mode: str, coordinates: str, tmp_path: Path) -> None:
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": "round_prefer_ceil"}
    scales = (1.0, 1.0, float(np.float32(1.7)), float(np.float32(0.8)))
    check(one("Resize", N, sizes=(1, 24, 8, 5), scales=scales, **attrs), "generic_map", tmp_path)


def test_channel_shuffle(tmp_path: Path) -> None:
    def shuffle(x: Any) -> Any:
        y = build("Transpose", build("Reshape", x, shape=(1, 2, 12, 5, 7)), perm=(0, 2, 1, 3, 4))
        return build("Reshape", y, shape=(1, 24, 5, 7))

    check(chain([N], shuffle), "generic_map", tmp_path)
    check(chain([B], shuffle, ["NCHW16c"]), "generic_map", tmp_path)


def test_broadcasts_mixed_layouts_and_several_outputs(tmp_path: Path) -> None:
    def body(x: Any, y: Any, s: Any) -> Any:
        a = build("Add", build("Mul", x, s), y)
        return a, build("Relu", a), build("Add", build("Sigmoid", a), scalar(1.0))

    check(chain([B, N, "f32[1, 24, 1, 1]"], body, ["NCHW16c", "", "NCHW16c"]), "generic_map", tmp_path)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("shape", ["", "1", "15", "3, 40001", "5000, 3", "64, 17, 40"])
def test_shapes_split_into_tasks(shape: str, threads: int, tmp_path: Path) -> None:
    check(chain([f"f32[{shape}]"] * 2, lambda x, y: build("Add", x, y), threads=threads), "generic_map", tmp_path)
    assert tensor("f32[]").shape == ()
