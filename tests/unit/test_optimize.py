"""`optimize="size"`: less flash, the same answers; targets that have no small kernels say so."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgec
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.target import FOLDER, find_target
from tests.unit.emulated import needs_board

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"


@pytest.mark.firmware
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_small_kernels_take_less_flash_and_answer_alike(target: str, tmp_path: Path) -> None:
    needs_board()
    fast, small = (edgec.compile(str(DIGITS), target, tmp_path / aim, optimize=aim) for aim in ("speed", "size"))
    assert small.flash_bytes < fast.flash_bytes
    assert fast.code_bytes == edgec.compile(str(DIGITS), target, tmp_path / "usual").code_bytes
    assert main(["verify", str(DIGITS), "--bundle", str(tmp_path / "size")]) == 0


@pytest.mark.parametrize("target", ["x86", "cuda"])
def test_other_targets_have_none(target: str, tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match="optimize: .* has no kernels made for size; they are for Cortex-M"):
        edgec.compile(str(DIGITS), target, tmp_path / "out", optimize="size")


def test_descriptions_of_targets_too(tmp_path: Path) -> None:
    for name, suits in (("cortex-m4", True), ("x86", False)):
        path = tmp_path / f"{name}.toml"
        path.write_text("small = true\n" + (FOLDER / path.name).read_text())
        if suits:
            assert find_target(str(path)).small
        else:
            with pytest.raises(EdgecError, match=r"x86.toml: small: kernels made for size are for Cortex-M"):
                find_target(str(path))


def test_other_words_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(DIGITS), "--optimize", "sized", "-o", str(tmp_path / "out")]) == 1
    assert "optimize: 'sized' is unknown; did you mean 'size'?" in capsys.readouterr().err
