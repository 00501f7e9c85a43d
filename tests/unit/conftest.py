"""A tiny model and its bundle, to do wrong things with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, its bundle `good/`, and `bad/`, which answers wrongly."""
    import onnx

    from edgec.compiler.bundle import write_bundle
    from tests.support.handmade import onnx_model, program, target

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
