"""Runs the float graph on calibration data and chooses the scale of every value that is kept in 8 bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..calibration.data import Calibration
from ..calibration.runner import running
from ..errors import EdgecError
from ..ir import Value
from .observe import Observer
from .placement import Group, Placement
from .ranges import Method, Scale, Shape, choose

Progress = Callable[[str, int, int], None]


def observed(plan: Placement, data: Calibration, tell: Progress, threads: int = 1) -> dict[Value, Observer]:
    """A histogram of each value that is seen."""
    values = [v for group in plan.groups for v in group.seen]
    observers = {v: Observer() for v in values}
    inner = [v for v in values if v.node.op != "Input"]
    tell("calibrate", 0, data.count)
    with running(plan.graph, inner, threads=threads) as run:
        for number, feed in enumerate(data.feeds()):
            arrays = run(feed)
            for value, array in zip(inner, arrays, strict=True):
                if not np.isfinite(array).all():
                    raise EdgecError(
                        f"quantize: {value.name or value.node.op} is NaN or infinite in the float model, on "
                        f"calibration sample {number}: it cannot be kept in 8 bits"
                    )
                observers[value].see(array)
            for value in values:
                if value.node.op == "Input":
                    observers[value].see(feed[value.name])
            tell("calibrate", number + 1, data.count)
    return observers


def scales(plan: Placement, observers: dict[Value, Observer], method: Method) -> dict[Value, Scale]:
    """A scale for every value in 8 bits."""
    found: dict[Value, Scale] = {}
    for group in plan.groups:
        joint = observers[group.seen[0]]
        for other in group.seen[1:]:
            joint = joint.joined(observers[other])
        found.update(dict.fromkeys(group.values, choose(joint, method, _shapes(plan, group))))
    return found


def _shapes(plan: Placement, group: Group) -> list[Shape]:
    """The functions through which alone a value is read."""
    if len(group.values) != 1:
        return []
    (value,) = group.values
    ends = plan.ends(value)
    direct = any(plan.sources[r] != value for n in plan.users.get(value, []) for r in n.results)
    return [] if direct or value in plan.graph.outputs else [plan.function(end) for end in ends]
