"""The harness of kernel tests runs kernels as the runtime does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.harness import TARGETS, check, one


@pytest.mark.parametrize("where", TARGETS)
def test_a_kernel_runs_through_its_abi(tmp_path: Path, where: str) -> None:
    check(one("Relu", "f32[3, 5, 7]", where=where), "generic_map", tmp_path)
