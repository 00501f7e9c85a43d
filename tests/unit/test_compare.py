"""What `edgec verify` says of a value that differs from ONNX Runtime's: the model in float64 is the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler.compare import TOLERANCE, Difference, _Arbiter, relative_error

EXACT = np.asarray([1.0, -0.5, 0.25])


class Known:
    def run(self, feed: Any) -> dict[str, Any]:
        return {"y": EXACT}


@pytest.mark.parametrize(
    ("ours", "theirs", "ok", "error"),
    [
        (0.8e-4, -0.6e-4, True, 0.8e-4),  # either side of the true value
        (0.2e-4, 5e-3, True, 0.2e-4),  # the reference is off
        (1.2e-4, 0.0, False, 1.2e-4),
        (1.2e-4, -1e-2, False, 1.2e-4),  # both are off: the allowance stays what it is
        (0.9e-4, 0.0, True, 0.9e-4),  # ONNX Runtime agrees: float64 is not asked
    ],
)
def test_a_value_must_be_within_the_allowance_of_the_true_one(
    ours: float, theirs: float, ok: bool, error: float
) -> None:
    arbiter = _Arbiter("", [], {})
    arbiter.graph = Known()  # type: ignore[assignment]
    got, want = ((EXACT + e).astype(np.float32) for e in (ours, theirs))
    row = Difference("output", "y", relative_error(got, want), TOLERANCE)
    judged = arbiter.judge(row, got, want, {"x": EXACT})
    assert judged.ok == ok and judged.error == pytest.approx(error, abs=2e-7)
    assert ("against float64" in judged.note) == (not row.ok and ours < max(abs(theirs), TOLERANCE))
