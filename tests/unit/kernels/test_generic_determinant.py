"""Determinants: sizes around those of vectors, every float type, exchanged rows, matrices of lower rank, NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import IRError
from tests.support.harness import check, execute, one

RNG = np.random.default_rng(9)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 15, 16, 17, 40])
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_sizes(n: int, kind: str, tmp_path: Path) -> None:
    x = RNG.standard_normal((3, 2, n, n)).astype(dtype(kind).numpy)
    check(one("Det", f"{kind}[3, 2, {n}, {n}]"), "det", tmp_path, [x], 1e-4)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("where", ["x86", "x86-avx512"])
def test_halves(kind: str, where: str, tmp_path: Path) -> None:
    check(one("Det", f"{kind}[5, 5]", where=where), "det", tmp_path)


def test_rows_are_exchanged(tmp_path: Path) -> None:
    for order in RNG.permuted(np.tile(np.arange(20), (4, 1)), axis=1):
        (y,) = execute(one("Det", "f32[20, 20]"), "det", [np.eye(20, dtype=np.float32)[order]], tmp_path)
        assert y == np.linalg.det(np.eye(20)[order])


def test_matrices_of_lower_rank_and_special_values(tmp_path: Path) -> None:
    x = RNG.standard_normal((5, 18, 18)).astype(np.float32)
    x[0], x[1, :, 7], x[2, 4] = 0, 0, np.nan
    x[3, 0, 0] = np.inf
    (y,) = execute(one("Det", "f32[5, 18, 18]"), "det", [x], tmp_path)
    assert y[0] == y[1] == 0
    assert np.isnan(y[2]) and not np.isfinite(y[3])
    np.testing.assert_allclose(y[4], np.linalg.det(x[4]), rtol=1e-4)


def test_matrices_are_square() -> None:
    with pytest.raises(IRError, match=r"f32\[3, 4\] holds no square matrices"):
        one("Det", "f32[3, 4]")
