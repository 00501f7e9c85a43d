"""Counts of n-grams: lengths, skips, tables of awkward sizes, weights; models that cannot be are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.support.harness import check, one

RNG = np.random.default_rng(13)


def pool(*counts: int, words: int = 12) -> tuple[Any, Any]:
    """Distinct n-grams in ascending order: `counts[0]` of one word, `counts[1]` of two ..."""
    grams: list[tuple[int, ...]] = []
    for length, count in enumerate(counts, 1):
        some: set[tuple[int, ...]] = set()
        while len(some) < count:
            some.add(tuple(int(w) - 4 for w in RNG.integers(0, words, length)))
        grams += sorted(some)
    return np.asarray([w for g in grams for w in g]), RNG.permutation(len(grams)).astype(np.int32)


@pytest.mark.parametrize("shape", ["[40]", "[3, 40]", "[2, 1]"])
@pytest.mark.parametrize("kind", ["i32", "i64"])
@pytest.mark.parametrize(("counts", "skips"), [((5,), 0), ((0, 9), 2), ((1, 1), 3), ((7, 13, 32), 1), ((0, 0, 64), 0)])
def test_counts(shape: str, kind: str, counts: tuple[int, ...], skips: int, tmp_path: Path) -> None:
    tokens, places = pool(*counts)
    size = len(places) + 3
    kinds = [kind + shape, f"i64[{len(tokens)}]", f"i32[{len(places)}]"]
    p = one("TfIdfVectorizer", *kinds, grams=counts, skips=skips, size=size)
    x = RNG.integers(-4, 9, p.body.inputs[0].shape).astype({"i32": np.int32, "i64": np.int64}[kind])
    check(p, "ngrams", tmp_path, [x, tokens, places])


def model(**attrs: Any) -> Any:
    given = {
        "mode": "TF",
        "ngram_counts": [0, 3],
        "ngram_indexes": [3, 1, 2, 0],
        "pool_int64s": [1, 2, 3, 1, 2],
        "min_gram_length": 1,
        "max_gram_length": 2,
        "max_skip_count": 0,
        **attrs,
    }
    node = helper.make_node("TfIdfVectorizer", ["x"], ["y"], **{k: v for k, v in given.items() if v is not None})
    infos = [helper.make_tensor_value_info("x", TensorProto.INT32, [6])]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])]
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(helper.make_graph([node], "g", infos, outs), opset_imports=opset, ir_version=8)


def counted(**attrs: Any) -> list[float]:
    x = np.asarray([1, 2, 3, 1, 2, 1], np.int32)
    return [float(v) for v in interpret(import_model(model(**attrs)), {"x": x})["y"]]


def test_weights_are_those_of_the_pool() -> None:
    weights = [10.0, 20.0, 30.0, 40.0]
    assert counted() == counted(weights=weights) == [2, 2, 1, 3]
    assert counted(mode="IDF", weights=weights) == [40, 20, 30, 10]
    assert counted(mode="TFIDF", weights=weights) == [80, 40, 30, 30]
    assert counted(mode="IDF") == [1, 1, 1, 1]


def test_lengths_outside_the_limits_do_not_count() -> None:
    assert counted(min_gram_length=2) == [2, 0, 0, 0]
    assert counted(max_gram_length=1) == [0, 2, 1, 3]
    assert counted(min_gram_length=3, max_gram_length=3) == [0, 0, 0, 0]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="its n-grams are strings"):
        import_model(model(pool_int64s=None, pool_strings=["a", "b", "c", "d", "e"]))
    with pytest.raises(UnsupportedModel, match="different weights are counted together at 0"):
        import_model(model(mode="TFIDF", ngram_indexes=[0, 0, 1, 2], weights=[1.0, 2.0, 3.0, 4.0]))
    for attrs, text in (
        ({"ngram_indexes": [0, 1]}, "2 ngram_indexes for 4 n-grams"),
        ({"ngram_indexes": [0, -1, 1, 2]}, "not negative"),
        ({"ngram_counts": [0, 2]}, "do not part a pool of 5"),
        ({"pool_int64s": [1, 2, 2, 1, 2]}, r"n-gram \[2\] stands twice"),
        ({"mode": "IDF", "weights": [1.0]}, "1 weights for 4 n-grams"),
        ({"mode": "MAX"}, "mode 'MAX' is unknown"),
    ):
        with pytest.raises(EdgecError, match=text):
            import_model(model(**attrs))
