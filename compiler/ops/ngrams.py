"""TfIdfVectorizer: how often known runs of tokens occur. Other operators weigh the counts."""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import Ints, Tensor, require


def tables(grams: Ints) -> list[tuple[int, int, int, int]]:
    """(length, number, first element in the pool, first place) of each table of n-grams that is not empty."""
    found, at, place = [], 0, 0
    for length, count in enumerate(grams, 1):
        if count:
            found.append((length, count, at, place))
        at, place = at + length * count, place + count
    return found


def _vectorized(x: Type, pool: Type, places: Type, grams: Ints, skips: int, size: int) -> tuple[Type, ...]:
    require(x, frozenset({"i32", "i64"}))
    require(pool, frozenset({"i64"}), "pool")
    require(places, frozenset({"i32"}), "places")
    if len(x.shape) not in (1, 2):
        raise IRError(f"{x} is neither a row of tokens nor rows of them")
    if pool.shape != (sum(n * k for k, n in enumerate(grams, 1)),) or places.shape != (sum(grams),) or skips < 0:
        raise IRError(f"pool {pool} and places {places} do not hold {list(grams)} n-grams of 1, 2 ... tokens")
    return (Type("f32", (*x.shape[:-1], size)),)


def counted(x: Tensor, pool: Tensor, places: Tensor, grams: Ints, skips: int, size: int) -> Tensor:
    """Tokens of an n-gram stand 1, 2 ... skips + 1 apart, all alike; single ones are counted once.

    `pool` holds n-grams in ascending order, `grams[0]` of one token first; `places` says where each is counted.
    """
    rows = x.reshape(prod(x.shape[:-1]), x.shape[-1]).astype(np.int64)
    y = np.zeros((len(rows), size), np.float32)
    for length, count, at, place in tables(grams):
        known = pool[at : at + length * count].reshape(count, length).tolist()
        found = {tuple(gram): int(places[place + k]) for k, gram in enumerate(known)}
        for apart in range(1, 2 if length == 1 else skips + 2):
            for row, counts in zip(rows.tolist(), y, strict=True):
                for start in range(len(row) - apart * (length - 1)):
                    to = found.get(tuple(row[start : start + apart * (length - 1) + 1 : apart]))
                    if to is not None:
                        counts[to] += 1
    return y.reshape(*x.shape[:-1], size)


op(
    "TfIdfVectorizer",
    3,
    _vectorized,
    counted,
    kind="other",
    attrs={"grams": REQUIRED, "skips": 0, "size": REQUIRED},
    alone=True,
)
