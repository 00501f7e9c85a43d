"""Resize in all its forms: tables of weights (antialiasing, regions of interest) and index arithmetic, of any type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgec.compiler.dtypes import DTYPES
from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.importer.filters import Filter, axis_table, cheapest, turns
from edgec.compiler.ops.resize import axis_taps
from edgec.targets.maps_resize import integer_form
from tests.support.harness import check, one
from tests.support.one_node import K, OneNode, close

PLACES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
CROP = "tf_crop_and_resize"


def numbers(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sizes(*values: int) -> K:
    return K(np.asarray(values, np.int64))


def factors(*values: float) -> K:
    return K(np.asarray(values, np.float32))


def antialiased(seed: int) -> OneNode:
    rng = np.random.default_rng(seed)
    x = numbers(seed, 1, 2, *rng.integers(1, 14, 2))
    attrs: dict[str, Any] = {"mode": str(rng.choice(["linear", "cubic"])), "antialias": 1}
    attrs["coordinate_transformation_mode"] = str(rng.choice(PLACES[:4]))
    attrs["exclude_outside"] = int(rng.integers(2))
    if attrs["mode"] == "cubic":
        attrs["cubic_coeff_a"] = float(rng.choice([-0.5, -0.75]))
    target = [max(1, int(n * s)) for n, s in zip(x.shape[2:], rng.uniform(0.2, 1.3, 2), strict=True)]
    if rng.random() < 0.5:
        return OneNode("Resize", [x, None, None, sizes(*target)], 19, axes=[2, 3], **attrs)
    ratios = [float(n / m) for n, m in zip(target, x.shape[2:], strict=True)]
    return OneNode("Resize", [x, None, factors(1, 1, *ratios)], 18, **attrs)


@pytest.mark.parametrize("seed", range(40))
def test_antialiasing_is_that_of_the_runtime(seed: int) -> None:
    node = antialiased(seed)
    want = node.runtime()
    close(node.interpreted(), want, 3e-5)  # its weights are f32
    if seed % 8 == 0:
        close(node.compiled(), want, 3e-5)


def cropped(seed: int) -> OneNode:
    rng = np.random.default_rng(seed)
    x = numbers(seed, 1, 2, *rng.integers(2, 9, 2))
    start, end = rng.uniform(-0.2, 0.5, 2), rng.uniform(0.5, 1.2, 2)
    roi = np.asarray([0, 0, *start, 1, 1, *end], np.float32)
    attrs: dict[str, Any] = {"mode": str(rng.choice(["linear", "cubic", "nearest"]))}
    attrs["extrapolation_value"] = float(rng.choice([0.0, 7.5]))
    # the runtime takes no notice of the region along an axis that keeps its size
    out = sizes(1, 2, *(n if n < m else n + 1 for n, m in zip(rng.integers(1, 12, 2), x.shape[2:], strict=True)))
    return OneNode("Resize", [x, K(roi), None, out], 19, coordinate_transformation_mode=CROP, **attrs)


@pytest.mark.parametrize("seed", range(30))
def test_regions_of_interest_are_those_of_the_runtime(seed: int) -> None:
    node = cropped(seed)
    want = node.runtime()
    close(node.interpreted(), want, 3e-5)
    if seed % 8 == 0:
        close(node.compiled(), want, 3e-5)


def test_the_size_of_a_region_is_scaled() -> None:
    x, roi = numbers(0, 1, 1, 8, 8), K(np.asarray([0, 0, 0.25, 0, 1, 1, 0.75, 1], np.float32))
    node = OneNode("Resize", [x, roi, factors(1, 1, 2, 0.5)], 13, coordinate_transformation_mode=CROP, mode="linear")
    (y,) = node.typed([np.empty((1, 1, 8, 4), np.float32)])
    assert node.interpreted()[0].shape == y.shape


def test_axes_in_another_order_take_their_own_region() -> None:
    x = numbers(1, 2, 3, 6, 5)
    roi = K(np.asarray([0.1, 0.3, 0.9, 1.1], np.float32))
    attrs: dict[str, Any] = {"coordinate_transformation_mode": CROP, "mode": "linear", "axes": [3, 2]}
    node = OneNode("Resize", [x, roi, None, sizes(4, 7)], 19, extrapolation_value=-3.0, **attrs)
    want = node.runtime()
    close(node.interpreted(), want, 3e-5)


KINDS = ("f16", "f64", "u8", "i8", "u16", "i16", "i32", "u32", "i64", "u64")


@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_element_types(mode: str, antialias: int) -> None:
    """Compiled code and meaning agree for every type; integers are saturated."""
    if mode == "nearest" and antialias:
        pytest.skip("nothing to smooth")
    rng = np.random.default_rng(3)
    for kind in KINDS:
        dtype = DTYPES[kind].numpy
        top = 100 if kind[0] == "f" else np.iinfo(dtype).max
        x = (rng.random((1, 2, 5, 6)) * float(top) * 0.999).astype(dtype)
        x[0, 0, 0, 0], x[0, 0, 0, 1] = top, 0
        node = OneNode("Resize", [x, None, None, sizes(1, 2, 3, 7)], 19, mode=mode, antialias=antialias)
        node.typed([np.empty((1, 2, 3, 7), dtype)])
        got, want = node.compiled(), node.interpreted()
        if kind in ("i32", "u32", "i64", "u64") and mode != "nearest":  # sums of f64, which compilers may contract
            np.testing.assert_allclose(got[0].astype(np.float64), want[0].astype(np.float64), rtol=1e-9, atol=1)
        else:
            close(got, want)


def test_brain_floats_and_truth_values() -> None:
    x = numbers(5, 1, 1, 6, 6).astype(ml_dtypes.bfloat16)
    node = OneNode("Resize", [x, None, None, sizes(1, 1, 3, 4)], 19, mode="linear", antialias=1)
    node.typed([np.empty((1, 1, 3, 4), ml_dtypes.bfloat16)])
    close(node.compiled(), node.interpreted())
    flags = numbers(6, 1, 1, 6, 6) > 0
    node = OneNode("Resize", [flags, None, None, sizes(1, 1, 3, 4)], 19, mode="nearest")
    node.typed([np.empty((1, 1, 3, 4), np.bool_)])
    close(node.compiled(), node.interpreted())


@pytest.mark.parametrize("layout", ["", "@NCHW16c", "@NHWC"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_a_blend_reads_within_its_axis_whatever_the_positions(axis: int, layout: str, tmp_path: Path) -> None:
    p = one("Edgec.Blend", f"f32[2, 20, 3, 5]{layout}", "i32[3, 4]", "f32[3, 4]", axis=axis)
    positions = np.asarray([[0, 1, -7, 2], [1, 0, 1, 99], [2**31 - 1, 0, 2, -(2**31)]], np.int32)
    check(p, "blend", tmp_path, [numbers(1, 2, 20, 3, 5), positions, numbers(2, 3, 4)])


@pytest.mark.parametrize("kind", ["u8", "i64", "f16", "bf16", "f64"])
def test_a_blend_of_any_type(kind: str, tmp_path: Path) -> None:
    wide = "f64" if kind in ("i64", "f64") else "f32"
    p = one("Edgec.Blend", f"{kind}[3, 7]", "i32[2, 9]", f"{wide}[2, 9]", axis=1)
    x = np.random.default_rng(4).integers(0, 100, (3, 7)).astype(DTYPES[kind].numpy)
    positions = np.random.default_rng(5).integers(0, 7, (2, 9)).astype(np.int32)
    check(p, "blend", tmp_path, [x, positions, numbers(6, 2, 9).astype(DTYPES[wide].numpy)])


def test_an_infinite_element_reaches_only_what_it_weighs_in() -> None:
    x = np.ones((1, 1, 1, 12), np.float32)
    x[..., 6] = np.inf
    node = OneNode("Resize", [x, None, None, sizes(1, 1, 1, 5)], 19, mode="linear", antialias=1)
    (want,) = node.typed([np.asarray([1, 1, np.inf, 1, 1], np.float32).reshape(1, 1, 1, 5)])
    filter = Filter("linear", -0.75, 12 / 5, False)
    reach = [any(p == 6 for p in filter.taps((i + 0.5) * 12 / 5 - 0.5, 12)) for i in range(5)]
    for (got,) in (node.interpreted(), node.compiled()):
        assert [bool(v) for v in np.isinf(got.reshape(-1))] == reach
        assert not np.isnan(got).any() and np.isfinite(got).sum() == np.isfinite(want).sum() - (sum(reach) - 1)


def test_no_elements() -> None:
    x = np.zeros((0, 2, 4, 4), np.float32)
    for extra in ({}, {"antialias": 1}):
        node = OneNode("Resize", [x, None, factors(1, 1, 0.5, 0.5)], 19, mode="linear", **extra)
        node.typed([np.empty((0, 2, 2, 2), np.float32)])
        assert node.interpreted()[0].shape == (0, 2, 2, 2)


@pytest.mark.parametrize(
    ("args", "attrs", "message"),
    [
        ([None, None, sizes(1, 1, 2, 2)], {"coordinate_transformation_mode": CROP}, "has no region of interest"),
        ([factors(0, 1), None, sizes(1, 1, 2, 2)], {"coordinate_transformation_mode": CROP}, "does not fit 4 axes"),
        ([None, None, sizes(1, 1, 0, 2)], {}, "cannot be resized"),
        ([None, None, sizes(2, 2)], {"axes": [2, -2]}, "name one axis twice"),
        ([None, factors(1, 1, -2, 2)], {}, "do not fit"),
        ([None, None], {}, "has neither scales nor sizes"),
    ],
)
def test_nodes_that_make_no_sense(args: list[Any], attrs: dict[str, Any], message: str) -> None:
    node = OneNode("Resize", [numbers(0, 1, 1, 4, 4), *args], 19, **attrs)
    node.typed([np.empty((1, 1, 2, 2), np.float32)])
    with pytest.raises(EdgecError, match=message):
        import_model(node.model)


def test_regions_that_are_computed_are_refused() -> None:
    roi = np.zeros(8, np.float32)
    node = OneNode(
        "Resize", [numbers(0, 1, 1, 4, 4), roi, None, sizes(1, 1, 2, 2)], 19, coordinate_transformation_mode=CROP
    )
    node.typed([np.empty((1, 1, 2, 2), np.float32)])
    with pytest.raises(UnsupportedModel, match="region of interest .* is computed while the model runs"):
        import_model(node.model)
    node = OneNode("Resize", [numbers(0, 1, 1, 4, 4), None, None, sizes(1, 1, 2, 2)], 19, mode="nearest", antialias=1)
    node.typed([np.empty((1, 1, 2, 2), np.float32)])
    with pytest.raises(UnsupportedModel, match="antialias is set with mode=nearest"):
        import_model(node.model)


def test_weights_add_up_and_every_entry_counts() -> None:
    filter = Filter("cubic", -0.5, 2.7, False)
    positions, weights = axis_table(lambda i: (i + 0.5) * 2.7 - 0.5, 27, 10, filter)
    np.testing.assert_allclose(weights.sum(0), 1)
    assert positions.min() == 0 and positions.max() == 26 and (weights != 0).all()


def test_axes_that_shrink_go_first_and_the_last_one_last() -> None:
    assert cheapest((1, 3, 224, 224), {2: (4, 112), 3: (4, 112)}) == (2, 3)
    assert cheapest((1, 3, 10, 1000), {2: (4, 100), 3: (40, 10)}) == (3, 2)


def test_rows_are_turned_where_there_are_many_taps() -> None:
    assert turns((3, 112, 224), 4, 112)
    assert not turns((3, 224, 640), 2, 224)
    assert not turns((1, 3, 1000), 8, 100)


def nearest_table(size: int, out: int, scale: float, place: str, rounding: str) -> list[int]:
    attrs = {"mode": "nearest", "coordinate_transformation_mode": place, "nearest_mode": rounding}
    found, _ = axis_taps(size, out, scale, cubic_coeff_a=-0.75, exclude_outside=0, **attrs)
    return [int(p) for p in found[:, 0]]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest_neighbours_as_divisions_of_whole_numbers(rounding: str, place: str) -> None:
    """Where a form is found it is exact."""
    for scale in (2.0, 0.5, 0.3, 1.7, 0.8, 3.0, 1 / 3):
        for size in range(4, 40):
            table = nearest_table(size, int(size * scale), scale, place, rounding)
            if form := integer_form(table, size, scale):
                a, b, c = form
                assert table == [(a * i + b) // c for i in range(len(table))] and b >= 0


@pytest.mark.parametrize(("size", "out"), [(56, 112), (480, 224), (100, 25), (7, 21), (64, 32), (640, 224), (5, 1)])
def test_usual_neighbours_need_no_coordinates(size: int, out: int) -> None:
    for place, rounding in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        scale = float(np.float32(out) / np.float32(size))
        assert integer_form(nearest_table(size, out, scale, place, rounding), size, scale)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_axes_that_nobody_means_are_refused(mode: str) -> None:
    node = OneNode("Resize", [numbers(0, 1, 16, 1), None, None, sizes(1, 16, 1 << 24)], 19, mode=mode)
    node.typed([np.empty((1, 1, 1), np.float32)])
    with pytest.raises(UnsupportedModel, match="resizes an axis of 1 elements to 16777216"):
        import_model(node.model)


@pytest.mark.parametrize("opset", [11, 13, 18, 19])
def test_operator_sets(opset: int) -> None:
    """Empty tensors and empty names stand for what is not given."""
    x, none = numbers(7, 1, 9, 4, 6), K(np.zeros(0, np.float32))
    args = [x, none, factors(1, 1, 1.5, 0.5)] if opset < 13 else [x, None, factors(1, 1, 1.5, 0.5)]
    for mode in ("nearest", "linear", "cubic"):
        node = OneNode("Resize", args, opset, mode=mode)
        want = node.runtime()
        close(node.interpreted(), want, 3e-5)
        given = [x, none, none, sizes(1, 9, 5, 5)] if opset < 13 else [x, None, None, sizes(1, 9, 5, 5)]
        node = OneNode("Resize", given, opset, mode=mode, coordinate_transformation_mode="pytorch_half_pixel")
        want = node.runtime()
        close(node.interpreted(), want, 3e-5)
