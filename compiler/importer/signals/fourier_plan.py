"""How a Fourier transform of some length is computed: one product with a matrix, two smaller ones, or a convolution.

Costs are counted in multiply-adds of a matrix product per transform, of which there are `rows` side by side. A table is
read once for all of them; a pass that only moves or weighs numbers costs as much as many multiply-adds per number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

PASS = 40.0  # per number
TABLE = 10.0  # per number of a table
KERNEL = 30_000.0  # to start one
SMALL = 1.5  # how much dearer products of small matrices are
MOST_TABLE = 1 << 22  # numbers of one matrix
LONGEST = 1 << 21  # transform: its roots of unity fill some 100 MB while the model is compiled
WIDEST = 64  # the first factor of a split

Method = Literal["direct", "split", "chirp"]


@dataclass(frozen=True)
class Plan:
    """`direct`: one matrix. `split`: `size` x (the rest, by `inner`). `chirp`: a cyclic convolution of `size` elements,
    through transforms by `inner`."""

    cost: float
    method: Method
    size: int = 0
    inner: Plan | None = None


def _direct(n: int, wide: int, tall: int, rows: int) -> Plan:
    table = n * wide * tall
    return Plan(table + TABLE * table / rows + KERNEL / rows, "direct") if table <= MOST_TABLE else Plan(1e30, "direct")


@lru_cache(maxsize=4096)
def complex_plan(n: int, rows: int) -> Plan:
    """Of complex numbers to complex ones."""
    best = _direct(n, 2, 2 * n, rows)
    for size in _factors(n):
        inner = complex_plan(n // size, rows * size)
        product = SMALL * 4 * n * size + TABLE * 4 * size * size / rows
        passes = 2 * n * (1 + 2 + 1) * PASS + TABLE * 4 * n / rows
        best = _cheaper(best, product + passes + 4 * KERNEL / rows + size * inner.cost, "split", size, inner)
    return _chirped(best, n, rows)


@lru_cache(maxsize=4096)
def real_plan(n: int, out: int, rows: int) -> Plan:
    """Of real numbers to the first `out` complex ones, or back. A split computes the first half of its columns."""
    best = _direct(n, 1, 2 * out, rows)
    for size in _factors(n):
        half = size // 2 + 1
        rest = n // size
        inner = complex_plan(rest, rows * half)
        product = SMALL * 2 * n * half + TABLE * 2 * size * half / rows
        passes = (n + 4 * half * rest + 2 * out) * PASS + TABLE * 4 * half * rest / rows
        best = _cheaper(best, product + passes + 4 * KERNEL / rows + half * inner.cost, "split", size, inner)
    return _chirped(best, n, rows)


def _chirped(best: Plan, n: int, rows: int) -> Plan:
    """Bluestein's way around lengths without factors, where a matrix would be larger than everything it needs."""
    if not _rough(n):
        return best
    size = 1 << (2 * n - 2).bit_length()
    inner = complex_plan(size, rows)
    return _cheaper(best, 2 * inner.cost + 2 * (n + 2 * size + n) * PASS + 4 * KERNEL / rows, "chirp", size, inner)


def _cheaper(best: Plan, cost: float, method: Method, size: int, inner: Plan) -> Plan:
    return Plan(cost, method, size, inner) if cost < best.cost else best


def _rough(n: int) -> bool:
    """Whether a prime is left that no split takes away."""
    for k in range(2, WIDEST + 1):
        while n % k == 0:
            n //= k
    return n > 1


def _factors(n: int) -> list[int]:
    """Divisors that a split may begin with."""
    return [k for k in range(2, min(WIDEST, n // 2) + 1) if n % k == 0]
