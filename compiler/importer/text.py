"""Converters of operators on text that has become numbers: TfIdfVectorizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import EdgecError
from ..ir import Value
from .context import Context
from .table import Refused, Result, converts

Gram = tuple[int, ...]


@converts("TfIdfVectorizer")
def tf_idf(c: Context) -> Result:
    """Counts of n-grams; in the other modes weighed afterwards, by the weight of the n-gram in the pool."""
    if c.attr("pool_strings"):
        raise Refused("its n-grams are strings", "expected pool_int64s")
    indexes = [int(i) for i in c.attr("ngram_indexes", ())]
    if not indexes or min(indexes) < 0:
        raise EdgecError(f"{c.where}: ngram_indexes are {indexes[:8]}; expected one or more, not negative")
    size = max(indexes) + 1
    grams = _grams(c, indexes)
    kept = [g for g in grams if int(c.attr("min_gram_length", 1)) <= len(g) <= int(c.attr("max_gram_length", 1))]
    kept.sort(key=lambda g: (len(g), g))
    counts = tuple(sum(len(g) == n for g in kept) for n in range(1, max(map(len, kept), default=1) + 1))
    if not kept:
        return c.emit("Expand", c.const(np.float32(0)), shape=(*c.shape[:-1], size))
    y = c.emit(
        "TfIdfVectorizer",
        c.arg(),
        c.const(np.asarray([token for g in kept for token in g], np.int64)),
        c.const(np.asarray([indexes[grams[g]] for g in kept], np.int32)),
        grams=counts,
        skips=int(c.attr("max_skip_count", 0)),
        size=size,
    )
    return _weighed(c, y, indexes)


def _grams(c: Context, indexes: list[int]) -> dict[Gram, int]:
    """The n-grams of the pool, numbered in order."""
    pool = [int(t) for t in c.attr("pool_int64s", ())]
    bounds = [int(n) for n in c.attr("ngram_counts", ())] + [len(pool)]
    found: dict[Gram, int] = {}
    for length, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False), 1):
        if not 0 <= start <= end <= len(pool) or (end - start) % length:
            raise EdgecError(f"{c.where}: ngram_counts {bounds[:-1]} do not part a pool of {len(pool)}")
        for at in range(start, end, length):
            gram = tuple(pool[at : at + length])
            if gram in found:
                raise EdgecError(f"{c.where}: n-gram {list(gram)} stands twice in the pool")
            found[gram] = len(found)
    if len(found) != len(indexes):
        raise EdgecError(f"{c.where}: {len(indexes)} ngram_indexes for {len(found)} n-grams")
    return found


def _weighed(c: Context, y: Value, indexes: list[int]) -> Value:
    """TFIDF: counts times weights; IDF: weights where a count is not zero.

    Weights are those of n-grams in the pool, as the text has it; onnx.reference takes those of the coordinates.
    """
    mode = str(c.attr("mode", "TF"))
    if mode not in ("TF", "IDF", "TFIDF"):
        raise EdgecError(f"{c.where}: mode {mode!r} is unknown; expected TF, IDF or TFIDF")
    if mode == "IDF":
        y = c.emit("Min", y, c.const(1, like=y))
    given: Any = c.attr("weights", ())
    if mode == "TF" or not len(given):
        return y
    if len(given) != len(indexes):
        raise EdgecError(f"{c.where}: {len(given)} weights for {len(indexes)} n-grams")
    at: dict[int, float] = {}
    for index, weight in zip(indexes, given, strict=True):
        if at.setdefault(index, weight) != weight:
            raise Refused(f"n-grams of different weights are counted together at {index}")
    return c.emit("Mul", y, c.const([at.get(k, 0.0) for k in range(y.shape[-1])], like=y))
