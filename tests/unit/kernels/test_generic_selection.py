"""plain_nonzero, plain_compress, plain_unique, plain_suppress, plain_listed: what is there, zeros, the count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import DTYPES
from edgec.compiler.op import build
from edgec.compiler.ops.common import ORDERED
from edgec.compiler.ops.suppression import corners
from edgec.compiler.target import find_target
from edgec.targets.kernels.selection.rows import by_digits
from tests.support.harness import chain, check, execute, one, sample

RNG = np.random.default_rng(5)


def few_values(x: Any) -> Any:
    """Numbers of which many are equal or zero, with both zeros and, where numpy can compare them, NaN."""
    if x.dtype.kind == "b":
        return x
    if x.dtype.kind in "iu":
        return (x % 3).astype(x.dtype)
    y = np.round(2 * x.astype(np.float64)).clip(-1, 1).astype(x.dtype)
    y[RNG.random(x.shape) < 0.1] = -0.0
    if x.dtype.kind == "f":
        y[RNG.random(x.shape) < 0.1] = np.nan
    return y


@pytest.mark.parametrize("kind", DTYPES)
def test_positions_of_what_is_not_zero(kind: str, tmp_path: Path) -> None:
    for shape, threads in (("37", 1), ("3,16411", 4), *([("1", 1), ("2,3,4,5", 4)] if kind == "f32" else [])):
        p = one("Edgec.NonZero", f"{kind}[{shape}]", threads=threads)
        check(p, "plain_nonzero", tmp_path, [few_values(sample(RNG, p.body.inputs[0].type))])


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
def test_nothing_and_everything_is_found(where: str, tmp_path: Path) -> None:
    for threads in (1, 3):
        p = one("Edgec.NonZero", "f32[5,9000]", where=where, threads=threads)
        for value in (0, 1):
            check(p, "plain_nonzero", tmp_path, [np.full((5, 9000), value, np.float32)])


COMPRESSED = [
    ("7", 0, 7, 1),
    ("7", 0, 3, 1),
    ("3,5", -2, 3, 1),
    ("3,5", 1, 4, 4),
    ("2,300,4", 1, 300, 4),
    ("4,5,1", 1, 5, 1),
    ("20000,3", 0, 20000, 4),
    ("40000", 0, 39999, 3),
]


@pytest.mark.parametrize("kind", ["f32", "bf16", "bool"])
def test_slices_whose_condition_is_true(kind: str, tmp_path: Path) -> None:
    for shape, axis, count, threads in COMPRESSED:
        p = one("Edgec.Compress", f"{kind}[{shape}]", f"bool[{count}]", axis=axis, threads=threads)
        x = sample(RNG, p.body.inputs[0].type)
        for share in (0.0, 0.4, 1.0):
            check(p, "plain_compress", tmp_path, [x, RNG.random(count) < share])


@pytest.mark.parametrize("in_order", [0, 1])
@pytest.mark.parametrize("kind", [k for k in DTYPES if k in ORDERED])
def test_slices_that_differ(kind: str, in_order: int, tmp_path: Path) -> None:
    shapes = [("63", 0), ("2,30,2", 1)]
    if kind == "f32":
        shapes += [("1", 0), ("2", 0), ("4,3", 0), ("3,4", -1), ("1,9", 1), ("9,1", 0), ("1000", 0)]
    for shape, axis in shapes:
        p = one("Edgec.Unique", f"{kind}[{shape}]", axis=axis, sorted=in_order)
        check(p, "plain_unique", tmp_path, [few_values(sample(RNG, p.body.inputs[0].type))])


@pytest.mark.parametrize(
    ("kind", "shape", "where", "digits"),
    [
        ("i64", "2000", "x86-avx512", True),
        ("f32", "100", "rpi4", True),
        ("i64", "20", "x86-avx512", False),  # counts of digits would cost more than they save
        ("i64", "2000,2", "x86-avx512", False),
        ("i64", "2000", "cortex-m55", False),  # entries would take twice the memory
    ],
)
def test_how_slices_are_sorted(kind: str, shape: str, where: str, digits: bool) -> None:
    node = one("Edgec.Unique", f"{kind}[{shape}]", axis=0, sorted=1).anchor
    assert by_digits(node, find_target(where).cpu) == digits


def boxes(batches: int, count: int, kind: Any) -> Any:
    """Boxes that overlap; some coordinates are equal, a few no numbers."""
    x = np.round(RNG.random((batches, count, 4)) * 12, 1)
    x[..., 2:] = np.where(RNG.random((batches, count, 1)) < 0.5, x[..., :2] + 2, x[..., 2:])
    x[RNG.random(x.shape) < 0.01] = np.nan
    x[RNG.random(x.shape) < 0.01] = np.inf
    return x.astype(kind)


LIMITS = [(100, 0.5, 0.3), (2, 1 / 3, 0.9), (0, 0.5, 0.5), (-4, 0.5, 0.5), (1 << 40, 0.0, -1.0)]


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 1, 6, 3), (2, 3, 50, 50), (1, 2, 333, 40)])
@pytest.mark.parametrize("center", [0, 1])
def test_boxes_that_each_class_keeps(sizes: Any, center: int, where: str, tmp_path: Path) -> None:
    batches, classes, count, most = sizes
    for kind, name in ((np.float32, "f32"), *([(np.float64, "f64")] if where == "x86" else [])):
        scores = np.round(RNG.random((batches, classes, count)), 2).astype(kind)
        scores[RNG.random(scores.shape) < 0.05] = np.nan
        for scored in (0, 1):
            limits = [f"{name}[]"] * (1 + scored)
            kinds = [f"{name}[{batches},{count},4]", f"{name}[{batches},{classes},{count}]", "i64[]", *limits]
            p = one("Edgec.NonMaxSuppression", *kinds, size=most, center=center, where=where)
            for limit, overlap, score in LIMITS[: 5 if name == "f32" else 1]:
                rest = [kind(overlap), kind(score)][: 1 + scored]
                check(p, "plain_suppress", tmp_path, [boxes(batches, count, kind), scores, np.int64(limit), *rest])


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
def test_an_overlap_at_the_limit_is_kept(where: str, tmp_path: Path) -> None:
    """The quotient is the one that numpy rounds to: the next number below the limit already suppresses."""
    p = one("Edgec.NonMaxSuppression", "f32[1,2,4]", "f32[1,1,2]", "i64[]", "f32[]", size=2, where=where)
    for _ in range(20):
        pair = np.sort(RNG.random((1, 2, 2, 2)).astype(np.float32), 2).reshape(1, 2, 4)
        left, top, right, bottom, area = corners(pair[0], 0)
        common = max(min(right) - max(left), np.float32(0)) * max(min(bottom) - max(top), np.float32(0))
        overlap = np.float32(common / (area[0] + area[1] - common))
        if overlap <= 0:
            continue
        scores = np.float32([[[0.5, 0.4]]])
        check(p, "plain_suppress", tmp_path, [pair, scores, np.int64(2), overlap])
        check(p, "plain_suppress", tmp_path, [pair, scores, np.int64(2), np.nextafter(overlap, np.float32(0))])


@pytest.mark.parametrize("shape", ["7", "3,5", "2,3,40"])
def test_what_each_row_begins_with_becomes_a_list(shape: str, tmp_path: Path) -> None:
    rows, last = ",".join(shape.split(",")[:-1]), int(shape.split(",")[-1])
    p = one("Edgec.Listed", f"i32[{shape}]", f"i32[{rows}]")
    for low, high in ((0, last), (0, 0), (last, last)):
        counts = RNG.integers(low, high, p.body.inputs[1].shape, endpoint=True).astype(np.int32)
        check(p, "plain_listed", tmp_path, [RNG.integers(0, 99, p.body.inputs[0].shape).astype(np.int32), counts])
    wrong = [np.zeros(p.body.inputs[0].shape, np.int32), np.full(p.body.inputs[1].shape, 1 << 30, np.int32)]
    execute(p, "plain_listed", wrong, tmp_path)  # stays inside


def test_a_mask_in_a_chain_with_loops_that_could_merge(tmp_path: Path) -> None:
    def body(x: Any, count: Any) -> Any:
        along = build("Reshape", build("Edgec.Below", count, size=6), shape=(6, 1))
        return build("Where", along, x, build("Neg", x)), build("Where", build("Edgec.Below", count, size=20), x, x)

    for count in (0, 3, 6):
        p = chain(["f32[2,6,20]", "i64[]"], body)
        check(p, "generic_map", tmp_path, [sample(RNG, p.body.inputs[0].type), np.int64(count)])


@pytest.mark.parametrize("count", [-1, 0, 1, 20, 33, 1 << 40])
def test_positions_below_a_count(count: int, tmp_path: Path) -> None:
    check(one("Edgec.Below", "i64[]", size=33), "generic_map", tmp_path, [np.int64(count)])
