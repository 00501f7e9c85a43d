"""Kernels of the fast templates run in fenced memory: reads and writes past the end of a buffer end the process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def fences(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For tests/unit/test_kernels_*.py."""
    if request.module.__name__.rpartition(".")[2].startswith("test_kernels_"):
        from test_generic_harness import Fenced

        from edgec.targets import measure

        kept: list[Fenced] = []

        def fenced(array: Any, to: int = 64) -> Any:
            kept.append(Fenced(array, at_end=True))
            return kept[-1].view

        monkeypatch.setattr(measure, "_aligned", fenced)
    yield
