"""Values whose size depends on data: every operator that may read them was compared with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from edgec.compiler.importer.sized import KEEPS
from edgec.compiler.importer.table import CONVERTERS
from tests.support.counts import SEEN
from tests.support.whole_file import alone, run_alone

FILES = [Path(__file__).with_name(f"test_counts_{part}.py") for part in ("rules", "operators")]


def test_every_rule_was_met() -> None:
    if not alone():
        run_alone(*FILES, __file__)
    else:  # those two are other spellings: Swish of opset 24, which ONNX Runtime lacks; Scatter of opset 9
        assert set(KEEPS) & set(CONVERTERS) <= SEEN | {"Swish", "Scatter"}
