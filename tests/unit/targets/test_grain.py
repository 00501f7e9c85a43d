"""What is worth handing to another worker."""

from __future__ import annotations

import pytest

from edgec.compiler.grain import WORTH_US, grain


@pytest.mark.parametrize("tasks", [1, 2, 7, 1000])
@pytest.mark.parametrize("cost_us", [0.0, 0.5, WORTH_US, 3.9, 4.0, 17.0, 1e6])
def test_a_grain_is_worth_a_handover(tasks: int, cost_us: float) -> None:
    size = grain(tasks, cost_us)
    assert 1 <= size <= tasks
    assert size == tasks or size * cost_us / tasks >= WORTH_US, "enough work"
    assert size == 1 or (size - 1) * cost_us / tasks < WORTH_US, "and no more than that"


def test_small_steps_stay_in_one_thread() -> None:
    assert 8 // grain(8, 1.9 * WORTH_US) == 1  # workers: as many as there are whole grains
    assert 8 // grain(8, 8 * WORTH_US) == 8
