"""Kernels of the fast templates run in fenced memory: reads and writes past the end of a buffer end the process.

Where this CPU lacks a target's instructions, its kernels are built for AVX2: LLVM splits their vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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


@pytest.fixture(autouse=True)
def narrower(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the tests that run kernels in their own process."""
    if request.module.__name__.rpartition(".")[2].startswith(("test_kernels_", "test_generic_", "test_scalar")):
        from edgec.targets import codegen_llvm
        from edgec.targets.host import features

        original = codegen_llvm.tvm_target

        def possible(target: Any) -> Any:
            lacks = not target.cpu.isa <= features() and target.triple.startswith("x86_64")
            return original(replace(target, cpu=replace(target.cpu, mcpu="haswell")) if lacks else target)

        monkeypatch.setattr(codegen_llvm, "tvm_target", possible)
