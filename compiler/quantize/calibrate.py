"""Runs the float graph on calibration data and chooses the scale of every value that is kept in 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from ..calibration.data import Calibration
from ..calibration.runner import running
from ..cores import shared_out
from ..errors import EdgecError
from ..ir import Value
from ..ops.common import Tensor
from .observe import Observer
from .placement import Group, Placement
from .ranges import Method, Scale, Shape, choose

Progress = Callable[[str, int, int], None]


def observed(
    plan: Placement, data: Calibration, tell: Progress, threads: int = 1, beside: Collection[Value] = ()
) -> dict[Value, Observer]:
    """A histogram of each value that is seen; values `beside` are computed as another run has them, see `running`."""
    values = [v for group in plan.groups for v in group.seen]
    observers = {v: Observer() for v in values}
    inner = [v for v in values if v.node.op != "Input"]
    tell("calibrate", 0, data.count)

    def see(seen: tuple[Value, Tensor]) -> Value | None:
        value, array = seen
        if value.node.op != "Input" and not np.isfinite(array).all():
            return value
        observers[value].see(array)
        return None

    with running(plan.graph, inner, beside=beside, threads=threads) as run, shared_out() as cores:
        for number, feed in enumerate(data.feeds()):
            given = [(v, feed[v.name]) for v in values if v.node.op == "Input"]
            for odd in cores.each(see, [*zip(inner, run(feed), strict=True), *given]):
                if odd is not None:
                    raise EdgecError(
                        f"quantize: {odd.name or odd.node.op} is NaN or infinite in the float model, on "
                        f"calibration sample {number}: it cannot be kept in 8 bits"
                    )
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
