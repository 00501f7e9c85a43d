"""The table of rules by which channels pass an operator, and what rules share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...ir import Node
from ...ops.common import Tensor
from .groups import Channels, Coupling, label

Outcome = Channels | str | None  # channels of the only result; why those of the arguments are pinned; no channels
Rule = Callable[[Coupling, Node], Outcome]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, rule))
        return rule

    return add


def unknown(known: Coupling, node: Node) -> Outcome:
    return f"{node.op} {label(node)!r} needs them all" if any(a in known.of for a in node.args) else None


def param(known: Coupling, node: Node, place: int, axis: int, numbers: Tensor) -> None:
    known.params.setdefault(node, {}).setdefault(place, []).append((axis, numbers))


def joined(known: Coupling, table: Tensor, axis: int) -> Tensor:
    """The numbers along one axis of a table of them; those along all other axes are joined."""
    lines = np.moveaxis(table, axis, -1).reshape(-1, table.shape[axis])
    for line in lines[1:]:
        known.join(lines[0], line)
    return np.asarray(lines[0])
