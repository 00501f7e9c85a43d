"""A tiny model and its bundle, to do wrong things with; and how kernels of the fast templates run here.

They run in fenced memory: reads and writes past the end of a buffer end the process. Where
this CPU lacks a target's instructions, its kernels are built for AVX2: LLVM splits their vectors.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
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
        from amx_here import possible

        from edgec.targets import codegen_llvm

        original = codegen_llvm.tvm_target
        monkeypatch.setattr(codegen_llvm, "tvm_target", lambda target: original(possible(target)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, its bundle `good/`, and `bad/`, which answers wrongly."""
    import onnx

    from edgec.compiler.bundle import write_bundle
    from tests.unit.handmade import onnx_model, program, target

    folder = tmp_path_factory.mktemp("made")
    onnx.save(onnx_model(), folder / "tiny.onnx")
    write_bundle(program(folder), target(), folder / "good")
    write_bundle(program(folder, offset=0.01), target(), folder / "bad")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a copy of `made`."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"
