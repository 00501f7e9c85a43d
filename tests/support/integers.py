"""Arrays of every byte that there is, for problems on integers, whose kernels give the interpreter's bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Type
from edgec.compiler.registry import Problem
from tests.support.harness import check

FULL = {"to": "u8", "zero": 3, "low": 0, "high": 255}


def numbers(kinds: Sequence[Type], seed: int = 0) -> list[Any]:
    """Every byte that there is; multipliers around 1/300."""
    rng = np.random.default_rng(seed)

    def of(t: Type) -> Any:
        if t.dtype in ("f32", "bf16"):
            return (rng.random(t.shape) / 300 + 1e-3).astype(dtype(t.dtype).numpy)
        info: Any = np.iinfo(dtype(t.dtype).numpy.type)  # type: ignore[type-var]
        limit = 1 << 17
        return rng.integers(max(info.min, -limit), min(info.max, limit), t.shape, endpoint=True).astype(info.dtype)

    return [of(t) for t in kinds]


def same_bits(p: Problem, row: str, folder: Path) -> None:
    """The kernel gives the bits of the interpreter."""
    check(p, row, folder, numbers([v.type for v in p.body.inputs]))
