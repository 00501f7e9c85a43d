"""Generic kernels on ARM where vectors lie side by side, and rows and planes share sets of the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.op import build
from edgec.compiler.registry import choices
from tests.support.emulated import emulate
from tests.support.harness import chain

pytestmark = pytest.mark.arm

CASES = {
    "Transpose": ("f32[1, 1024, 40]", {"perm": (0, 2, 1)}),
    "Softmax": ("f32[1, 21, 32, 32]", {"axis": 1}),
    "ReduceMax": ("f32[1, 21, 33, 32]", {"axes": (1,), "keepdims": 1}),
    "ArgMax": ("f32[1, 21, 32, 32]", {"axis": 1, "keepdims": 1, "select_last_index": 0}),
    "CumSum": ("f32[9, 150]", {"axis": 1}),
}


@pytest.mark.parametrize("where", ["rpi5", "armv7"])
@pytest.mark.parametrize("op", CASES)
def test_vectors_side_by_side(op: str, where: str, tmp_path: Path) -> None:
    kind, attrs = CASES[op]
    problem = chain([kind], lambda x: build(op, x, **attrs), (), where)
    arrays = [np.random.default_rng(0).standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]
    got = emulate(problem, choices(problem)[0], arrays, tmp_path)
    np.testing.assert_allclose(got, run(problem.body, arrays)[0], rtol=1e-6, atol=1e-7)
