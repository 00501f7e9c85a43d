"""Grain: how many tasks of a step are worth handing to another worker, from the step's modelled time.

A handover costs about a microsecond: two cache lines between cores, and what the step reads lies in the other core's
cache. A step of less than two grains runs in the calling thread alone, and its data stay there.
"""

from __future__ import annotations

from math import ceil

WORTH_US = 0.5


def grain(tasks: int, cost_us: float) -> int:
    """Tasks that take WORTH_US, `cost_us` being the time of all on one core; from 1 to `tasks`."""
    if cost_us <= WORTH_US:
        return max(tasks, 1)
    return max(1, ceil(tasks * WORTH_US / cost_us))
