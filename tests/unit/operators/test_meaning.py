"""Every row of the operator table was compared with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from edgec.compiler.op import OPS
from tests.support.meaning import SEEN
from tests.support.whole_file import alone, run_alone

FILES = [Path(__file__).with_name(f"test_{part}.py") for part in ("elementwise", "folding", "moving", "windows")]


def test_every_row_was_met() -> None:
    """Ours have no counterpart there."""
    if not alone():
        run_alone(*FILES, __file__)
    else:
        assert {name for name in OPS if not name.startswith("Edgec.")} <= SEEN
