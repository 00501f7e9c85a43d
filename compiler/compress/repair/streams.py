"""Sums of branches: what a layer's result is added to, whose error the layer can make up for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ...ir import Node, Value
from ...layers import constant


def sum_behind(users: Mapping[Value, Sequence[Node]], outputs: Collection[Value], value: Value) -> Node | None:
    """The sum of two computed values of one type that is all that reads a value, a constant bias passed."""
    for _ in range(2):
        reading = users.get(value, [])
        if value in outputs or len(reading) != 1 or reading[0].op != "Add" or reading[0].types[0] != value.type:
            return None
        others = [a for a in reading[0].args if a != value]
        if len(others) != 1:
            return None
        if constant(others[0]) is None:
            return reading[0] if others[0].type == value.type else None
        value = Value(reading[0])
    return None
