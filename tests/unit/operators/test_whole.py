"""Integers wrap around as numpy's do, alone and in chains that a compiler would like to simplify."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import dtype, integer_limits
from edgec.compiler.ir import Value
from edgec.compiler.op import build, const, evaluate
from tests.support.harness import chain, check, one

KINDS = ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64")


def number(kind: str, value: int) -> Value:
    return const(np.asarray(value).astype(dtype(kind).numpy))


def edges(kind: str) -> Any:
    """Numbers at the ends of a type and around zero, and every pair of them."""
    low, high = integer_limits(dtype(kind))
    pool = [low, low + 1, high, high - 1, 0, 1, 2, 3, 7, high // 2, high // 2 + 1, high // 3, high // 3 * 2]
    pool += [-1, -2, -7] if low else []
    pairs = np.asarray([(a, b) for a in pool for b in pool], object)
    return [pairs[:, k].astype(dtype(kind).numpy) for k in (0, 1)]


CHAINS: dict[str, Callable[[Any, Any, Callable[[int], Value]], Value]] = {
    "a square is not negative": lambda x, y, k: build("Less", build("Mul", x, x), k(0)),
    "a product divides by its factor": lambda x, y, k: build("Div", build("Mul", x, k(6)), k(3)),
    "a product has no remainder": lambda x, y, k: build("Mod", build("Mul", x, k(6)), k(3)),
    "more is greater": lambda x, y, k: build("Greater", build("Add", x, k(1)), x),
    "a sum is greater": lambda x, y, k: build("Greater", build("Add", x, y), x),
    "a difference tells order": lambda x, y, k: build("Less", build("Sub", x, y), k(1)),
    "a magnitude is not negative": lambda x, y, k: build("Less", build("Abs", x), k(1)),
    "equal doubles": lambda x, y, k: build("Equal", build("Mul", x, k(2)), build("Mul", y, k(2))),
    "a sum is the greater one": lambda x, y, k: build("Max", build("Add", x, k(5)), x),
    "a sum in a wider type": lambda x, y, k: build("Cast", build("Add", x, y), to="f64"),
    "a sum in a narrower type": lambda x, y, k: build("Less", build("Cast", build("Add", x, y), to="i8"), NOUGHT),
    "a masked product": lambda x, y, k: build("BitwiseAnd", build("Mul", x, y), k(7)),
    "a product of what is not negative": lambda x, y, k: build(
        "Mod", build("Mul", build("BitwiseAnd", x, k(127)), y), k(7)
    ),
    "nothing left by one": lambda x, y, k: build("Add", build("Mod", x, k(1)), y),
    "nothing left by a mask": lambda x, y, k: build("Sub", build("BitwiseAnd", x, k(0)), y),
    "nothing times something": lambda x, y, k: build("Mul", build("Mul", x, k(0)), y),
    "nothing in other bits": lambda x, y, k: build("BitCast", build("Mod", x, k(1)), to=OTHER[x.type.dtype]),
}
NOUGHT = number("i8", 0)
OTHER = {"i8": "u8", "u8": "i8", "i16": "bf16", "u16": "f16", "i32": "f32", "u32": "i32", "i64": "f64", "u64": "i64"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str, kind: str, tmp_path: Path) -> None:
    x, y = edges(kind)
    p = chain([f"{kind}[{x.size}]"] * 2, lambda a, b: CHAINS[name](a, b, lambda v: number(kind, v)))
    check(p, "generic_map", tmp_path, [x, y])


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_at_the_ends(kind: str, where: str, tmp_path: Path) -> None:
    x, y = edges(kind)

    def make(x: Any, y: Any) -> Any:
        both = ("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "PRelu")
        alone = ("Abs", "Sign") if kind[0] == "u" else ("Abs", "Sign", "Neg", "Relu")
        return (*(build(op, x, y) for op in both), *(build(op, x) for op in alone))

    check(chain([f"{kind}[{x.size}]"] * 2, make, where=where), "generic_map", tmp_path, [x, y])


@pytest.mark.parametrize("kind", KINDS)
def test_powers(kind: str, tmp_path: Path) -> None:
    """Exact as long as they fit, by exponents known and unknown."""
    row = dtype(kind)
    low, high = integer_limits(row)
    bases = [b for b in (0, 1, 2, 3, 10, -1, -2, -3, -10) if b >= low]
    pairs = [(b, n) for b in bases for n in range(66) if low <= b**n <= high]
    x, n = (np.asarray([pair[k] for pair in pairs]).astype(row.numpy) for k in (0, 1))
    p = one("Pow", f"{kind}[{x.size}]", f"{kind}[{x.size}]")
    check(p, "generic_map", tmp_path, [x, n])
    assert list(evaluate(p.anchor, [x, n])[0]) == [b**e for b, e in pairs]
    known = [0, 1, 2, 3, 5, 7, 62, 63, 64, 65, 100, *((-1, -2) if low else ())]
    p = chain([f"{kind}[{x.size}]"], lambda x: tuple(build("Pow", x, number(kind, e)) for e in known))
    check(p, "generic_map", tmp_path, [x])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceProd", "ReduceSumSquare", "ReduceL1"])
def test_folds(op: str, kind: str, tmp_path: Path) -> None:
    x = edges(kind)[0]
    x = np.random.default_rng(0).permutation(x)[: x.size // 6 * 6].reshape(6, -1)
    for axes in ((0,), (1,), (0, 1)):
        check(one(op, f"{kind}[{x.shape[0]}, {x.shape[1]}]", axes=axes), "generic_reduce", tmp_path, [x])


def test_a_mean_of_large_integers_is_exact() -> None:
    x = np.asarray([[2**62 + 1, 2**61 + 4, -5]], np.int64)
    (mean,) = evaluate(one("ReduceMean", "i64[1, 3]", axes=(1,)).anchor, [x])
    assert mean[0, 0] == (2**62 + 2**61) // 3
    (mean,) = evaluate(one("ReduceMean", "u64[1, 2]", axes=(1,)).anchor, [np.asarray([[2**63, 2**62]], np.uint64)])
    assert mean[0, 0] == 3 * 2**61
