"""Kernels of the fast templates run in fenced memory: reads and writes past the end of a buffer end the process. Where
this CPU lacks a target's instructions, its kernels are built for AVX2: LLVM splits their vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgec.targets import codegen_llvm, measure
from tests.support.amx_here import possible
from tests.support.harness import Fenced


@pytest.fixture(autouse=True)
def fences(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept: list[Fenced] = []

    def fenced(array: Any, to: int = 64) -> Any:
        kept.append(Fenced(array, at_end=True))
        return kept[-1].view

    monkeypatch.setattr(measure, "_aligned", fenced)
    yield


@pytest.fixture(autouse=True)
def narrower(monkeypatch: pytest.MonkeyPatch) -> None:
    original = codegen_llvm.tvm_target
    monkeypatch.setattr(codegen_llvm, "tvm_target", lambda target: original(possible(target)))
