"""Col2Im: columns of windows back into an image, sums where they overlap."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import NUMBERS, Ints, Tensor, fill, require, widened


def blocks(image: Ints, block: Ints, strides: Ints, pads: Ints, dilations: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Strides, pads and dilations with an entry per axis (pads: two), and how many windows there are along each."""
    rank = len(image)
    s, p, d = fill(strides, rank, 1, "strides"), fill(pads, 2 * rank, 0, "pads"), fill(dilations, rank, 1, "dilations")
    if not rank or len(block) != rank or min((*block, *s, *d)) < 1 or min((*p, *image)) < 0:
        raise IRError("block_shape, strides and dilations are at least 1, pads at least 0; each has the image's axes")
    counts = tuple((n + p[k] + p[k + rank] - d[k] * (block[k] - 1) - 1) // s[k] + 1 for k, n in enumerate(image))
    if min(counts) < 1:
        raise IRError(f"blocks {list(block)} are larger than the padded image {list(image)}")
    return s, p, d, counts


def _imaged(
    x: Type, image_shape: Ints, block_shape: Ints, strides: Ints, pads: Ints, dilations: Ints
) -> tuple[Type, ...]:
    require(x, NUMBERS)
    counts = blocks(image_shape, block_shape, strides, pads, dilations)[-1]
    taps = prod(block_shape)
    if len(x.shape) != 3 or x.shape[1] % taps or x.shape[2] != prod(counts):
        raise IRError(f"columns are {x}; expected [N, C * {taps}, {prod(counts)}]")
    return (Type(x.dtype, (x.shape[0], x.shape[1] // taps, *image_shape)),)


def columns_to_image(
    x: Tensor, image_shape: Ints, block_shape: Ints, strides: Ints, pads: Ints, dilations: Ints
) -> Tensor:
    """Every element of a column is added to the pixel that it came from; those of the padding are dropped."""
    rank = len(image_shape)
    s, p, d, counts = blocks(image_shape, block_shape, strides, pads, dilations)
    columns = widened(x).reshape(x.shape[0], x.shape[1] // prod(block_shape), *block_shape, *counts)
    reach = [max(n + p[k] + p[k + rank], 1) for k, n in enumerate(image_shape)]
    y = np.zeros((*columns.shape[:2], *reach), columns.dtype)
    for tap in product(*(range(n) for n in block_shape)):
        places: Any = tuple(slice(t * d[k], t * d[k] + (counts[k] - 1) * s[k] + 1, s[k]) for k, t in enumerate(tap))
        column: Any = (slice(None), slice(None), *tap)
        y[(slice(None), slice(None), *places)] += columns[column]
    kept: Any = tuple(slice(p[k], p[k] + n) for k, n in enumerate(image_shape))
    return np.asarray(y[(slice(None), slice(None), *kept)]).astype(x.dtype)


op(
    "Col2Im",
    1,
    _imaged,
    columns_to_image,
    kind="other",
    alone=True,
    attrs={"image_shape": REQUIRED, "block_shape": REQUIRED, "strides": (), "pads": (), "dilations": ()},
)
