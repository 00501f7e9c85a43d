"""Gives ranges room for inputs unlike the calibration data, where that costs nothing: values whose 8 bits hardly show
in the outputs may have a wider step.

Deep layers of a classifier show it most: few elements, far from one another in every sample, so that further samples
leave the range that was seen, while the rounding of what is inside is a hundredth of the noise that other values make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

import numpy as np

from ..calibration.request import Progress
from ..ir import Value
from ..macs import macs
from ..op import full_attrs
from ..ops.common import Tensor
from .fallback import changes, value_trials
from .placement import Group, Placement, given
from .ranges import Scale, scale_of

WIDEST = 1.5  # times the range
QUIET = 0.02  # of the outputs' noise, up to which a value hardly shows in them
MORE = 0.15  # of the outputs' noise on calibration data is the price
MORE_MANY = 0.05  # and that of values with many elements, of which a few outside of the range are no harm
MANY = 1 << 14  # elements of a sample
PROBES = 4  # samples that the noise is measured on
WORK = 2e11  # multiplications that this may cost: fewer samples where one takes more


def probes(plan: Placement) -> int:
    """How many samples the noise of each value is measured on."""
    return int(np.clip(WORK / max(macs(plan.graph) * len(plan.groups), 1), 1, PROBES))


def widened(
    plan: Placement, scales: Mapping[Value, Scale], feeds: Sequence[Mapping[str, Tensor]], tell: Progress, threads: int
) -> dict[Value, Scale]:
    """The scales with room; `feeds` are the samples that each value's noise is measured on."""
    with value_trials(plan, scales, threads) as trial:
        noise = changes(trial, feeds, len(plan.groups), tell)
    most = np.asarray([_room(group, scales[group.values[0]]) for group in plan.groups])
    few = np.asarray([sum(v.type.size for v in group.seen) <= MANY for group in plan.groups])
    made = dict(scales)
    for group, factor in zip(plan.groups, factors(noise, most, few), strict=True):
        if factor > 1:
            made.update(dict.fromkeys(group.values, _wider(scales[group.values[0]], factor, limits(group))))
    return made


def factors(noise: Tensor, most: Tensor, few: Tensor) -> Tensor:
    """By how much ranges grow, each by no more than `most`; `few`: values of few elements, which may cost more."""
    every = _leveled(noise, most, MORE_MANY)
    return np.where(few, _leveled(noise, np.where(few, most, every), MORE), every)


def _leveled(noise: Tensor, most: Tensor, price: float) -> Tensor:
    """Noise, which grows with the square, rises to one level for all, and what is above it stays."""
    total, base = float(noise.sum()), np.maximum(noise, 1e-30)

    def grown(level: float) -> Tensor:
        return np.asarray(np.clip(np.sqrt(level / base), 1.0, most))

    low, high = 0.0, QUIET * total
    for _ in range(50):
        level = (low + high) / 2
        spent = float((noise * (np.square(grown(level)) - 1)).sum())
        low, high = (level, high) if spent <= price * total else (low, level)
    return grown(high)


def limits(group: Group) -> tuple[float, float] | None:
    """Between what the elements of a group lie whatever the input is; None for inputs, whose data is taken at its
    word."""
    if any(given(v) is not None for v in group.values):
        return None
    ends = [(full_attrs(v.node)["min"], full_attrs(v.node)["max"]) for v in group.seen if v.node.op == "Clip"]
    if len(ends) < len(group.seen):
        return -inf, inf
    return min(float(str(low)) for low, _ in ends), max(float(str(high)) for _, high in ends)


def _room(group: Group, scale: Scale) -> float:
    """The factor that a range may grow by: 1 where no element can be outside."""
    within = limits(group)
    if within is None:
        return 1.0
    ends = [end / was for end, was in zip(within, (scale.low, scale.high), strict=True) if was]
    return float(np.clip(max(ends, default=1.0), 1.0, WIDEST))


def _wider(scale: Scale, factor: float, within: tuple[float, float] | None) -> Scale:
    low, high = within or (0.0, 0.0)
    return scale_of(
        max(scale.low * factor, min(low, scale.low)), min(scale.high * factor, max(high, scale.high)), scale.method
    )
