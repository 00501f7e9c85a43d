"""Elimination finds the least sum of tables, as looking at every setting does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgec.passes import elimination
from edgec.passes.elimination import Table, least


def random_tables(seed: int) -> tuple[list[int], list[Table]]:
    """Six variables in a ring with chords, some alone."""
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 4, 7)]
    scopes = [(k,) for k in range(7)] + [(0, 1), (1, 2), (4, 2), (3, 4), (5, 0), (2, 5, 3)]
    return sizes, [Table(s, rng.random([sizes[v] for v in s])) for s in scopes]


def total(tables: list[Table], setting: tuple[int, ...] | list[int]) -> float:
    return float(sum(t.cost[tuple(setting[v] for v in t.variables)] for t in tables))


@pytest.mark.parametrize("seed", range(20))
def test_the_least_of_all_settings(seed: int) -> None:
    sizes, tables = random_tables(seed)
    best = min(total(tables, s) for s in itertools.product(*map(range, sizes)))
    assert total(tables, least(sizes, tables)) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_tables_that_grow_too_large_are_cut(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, tables = random_tables(seed)
    monkeypatch.setattr(elimination, "LARGEST", 3)
    found = least(sizes, tables)
    worst = max(total(tables, s) for s in itertools.product(*map(range, sizes)))
    assert all(0 <= value < size for value, size in zip(found, sizes, strict=True))
    assert total(tables, found) < worst


def test_the_first_of_equal_settings() -> None:
    assert least([3, 2], [Table((0, 1), np.zeros((3, 2)))]) == [0, 0]
