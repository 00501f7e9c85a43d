"""Non-maximum suppression, class by class, and the list of what is left.

Greedy selection by score (Neubeck and Van Gool, "Efficient Non-Maximum Suppression", 2006): a box is dropped where its
intersection over union with a box of greater score that was kept is above a threshold.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import Tensor, equal_types, require
from .selection import COUNT, counted, filled

_WIDE = frozenset({"f32", "f64"})


def _suppressed(boxes: Type, scores: Type, most: Type, *limits: Type, size: int, center: int) -> tuple[Type, ...]:
    equal_types(boxes, scores, *limits)
    require(boxes, _WIDE, "boxes")
    require(most, frozenset({"i64"}), "number of boxes")
    if any(t.size != 1 for t in (most, *limits)):
        raise IRError("limits are not scalars")
    if len(boxes.shape) != 3 or len(scores.shape) != 3 or boxes.shape != (scores.shape[0], scores.shape[2], 4):
        raise IRError(f"boxes {boxes} and scores {scores} are not [batches, boxes, 4] and [batches, classes, boxes]")
    if not 1 <= size <= boxes.shape[1]:
        raise IRError(f"{size} boxes cannot be kept of {boxes.shape[1]}")
    if center not in (0, 1):
        raise IRError(f"center_point_box is {center}; expected 0 or 1")
    return Type("i32", (*scores.shape[:2], size)), Type("i32", scores.shape[:2])


def suppress(boxes: Tensor, scores: Tensor, most: Tensor, *limits: Tensor, size: int, center: int) -> tuple[Any, ...]:
    """The boxes that each class of each batch keeps, best first, zeros after them; and how many these are.

    The limits are those of overlap and, optionally, of scores. A box whose score is NaN is never kept.
    """
    kept, counts = np.zeros((*scores.shape[:2], size), np.int32), np.zeros(scores.shape[:2], np.int32)
    for batch, label in np.ndindex(*scores.shape[:2]):
        here = scores[batch, label]
        # ONNX: those below the limit are removed. Those at it are as well in onnx.reference and ONNX Runtime.
        allowed = here > limits[1].reshape(()) if len(limits) > 1 else here == here
        places = np.flatnonzero(allowed)
        order = places[np.argsort(-here[places], kind="stable")]
        found = _selected(corners(boxes[batch], center), order, min(int(most.reshape(())), size), limits[0].reshape(()))
        kept[batch, label, : len(found)], counts[batch, label] = found, len(found)
    return kept, counts


def corners(boxes: Tensor, center: int) -> tuple[Tensor, ...]:
    """Left, top, right and bottom of [boxes, 4], and areas."""
    if center:
        half = boxes[:, 2:] / boxes.dtype.type(2)
        low, high = boxes[:, :2] - half, boxes[:, :2] + half
    else:
        low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    size = high - low
    return low[:, 0], low[:, 1], high[:, 0], high[:, 1], size[:, 0] * size[:, 1]


def _selected(sides: tuple[Tensor, ...], order: Tensor, most: int, limit: Tensor) -> list[int]:
    found: list[int] = []
    for box in order:
        if len(found) >= most:
            break
        ours, theirs = [side[box] for side in sides], [side[found] for side in sides]
        width = np.minimum(ours[2], theirs[2]) - np.maximum(ours[0], theirs[0])
        height = np.minimum(ours[3], theirs[3]) - np.maximum(ours[1], theirs[1])
        common = width * height
        union = ours[4] + theirs[4] - common
        meet = (width > 0) & (height > 0) & (common > 0) & (ours[4] > 0) & (theirs[4] > 0) & (union > 0)
        if not np.any(meet & (common / union > limit)):
            found.append(int(box))
    return found


def _listed(x: Type, counts: Type) -> tuple[Type, ...]:
    require(x, frozenset({"i32"}))
    if not x.shape or (counts.dtype, counts.shape) != ("i32", x.shape[:-1]):
        raise IRError(f"{counts} does not count the entries of {x}")
    return Type("i64", (x.size, len(x.shape))), COUNT


def listed(x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """A row for each of the first entries of x[i, j], as many as are counted there: i, j, the entry."""
    places = [(*at, k) for at in np.ndindex(*counts.shape) for k in range(counts[at])]
    rows = [(*place[:-1], x[place]) for place in places]
    table = np.asarray(rows, np.int64).reshape(len(rows), x.ndim)
    return filled(table, 0, prod(x.shape)), counted(len(rows))


op(
    "Edgec.NonMaxSuppression",
    (4, 5),
    _suppressed,
    suppress,
    kind="other",
    alone=True,
    attrs={"size": REQUIRED, "center": 0},
)
op("Edgec.Listed", 2, _listed, listed, kind="other", alone=True)
