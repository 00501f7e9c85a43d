"""Non-maximum suppression on a GPU, under emulation: the boxes that the operator keeps, in its order."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler import interpret
from edgec.compiler import op as ops
from edgec.compiler.ir import Array, Graph, Value
from edgec.compiler.registry import Problem
from edgec.targets.cuda.emulation import Check
from tests.support.cuda_rows_run import offers, problem, results, value

ROW = "suppress_block__cuda"
RNG = np.random.default_rng(5)


def suppression(batches: int, classes: int, boxes: int, size: int, center: int, limits: int) -> Problem:
    inputs = [value("f32", batches, boxes, 4), value("f32", batches, classes, boxes), value("i64")]
    inputs += [value("f32") for _ in range(limits)]
    kept = ops.build("Edgec.NonMaxSuppression", *inputs, size=size, center=center)
    of = problem(kept, *inputs)
    return Problem(Graph("body", tuple(inputs), (Value(kept.node, 0), Value(kept.node, 1))), of.target)


def feed(of: Problem, most: int, overlap: float = 0.5, least: float = 0.3) -> list[Array]:
    """Boxes of which many overlap, scores of which many are equal."""
    boxes, scores, *_ = (v.shape for v in of.body.inputs)
    limits = [np.float32(x) for x in (overlap, least)][: len(of.body.inputs) - 3]
    places = RNG.uniform(0, 4, boxes).astype(np.float32)
    return [places, RNG.integers(-2, 20, scores).astype(np.float32) / 16, np.int64(most), *map(np.asarray, limits)]


def agrees(of: Problem, arrays: list[Array], check: Check = "none") -> list[Array]:
    arrays = [np.asarray(a) for a in arrays]
    (choice,) = offers(of, ROW)
    want = interpret.run(of.body, arrays)
    for got, expected in zip(results(of, choice, arrays, check), want, strict=True):
        np.testing.assert_array_equal(got, expected)
    return want


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize(("boxes", "size"), [(1, 1), (33, 33), (600, 40), (1500, 1500)])
def test_sizes(boxes: int, size: int, center: int) -> None:
    of = suppression(2, 3, boxes, size, center, 2)
    agrees(of, feed(of, size))


@pytest.mark.parametrize(("most", "overlap"), [(-1, 0.5), (0, 0.5), (3, 0.0), (99, 1.0), (2**40, -1.0)])
def test_limits(most: int, overlap: float) -> None:
    of = suppression(1, 1, 50, 20, 0, 1)
    agrees(of, feed(of, most, overlap))


def test_what_is_no_number() -> None:
    of = suppression(1, 2, 80, 80, 0, 2)
    arrays = feed(of, 80)
    for array in arrays[:2]:
        array.reshape(-1)[RNG.choice(array.size, array.size // 5, replace=False)] = np.nan
        array.reshape(-1)[RNG.choice(array.size, array.size // 9, replace=False)] = np.inf
    with np.errstate(invalid="ignore"):
        kept = agrees(of, arrays)
    assert kept[1].max() > 1


def test_threads_do_not_race() -> None:
    of = suppression(1, 2, 300, 30, 0, 2)
    agrees(of, feed(of, 30), "race")
