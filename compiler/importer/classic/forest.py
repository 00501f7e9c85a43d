"""Decision trees in one form: inner nodes that ask `feature <= split`, numbered as they are met from the roots.

Every other question becomes such ones: x < t is x <= the number before t, x > t and x >= t are their opposites,
x == t is x <= t but not x <= the number before t, and membership is one question after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import EdgecError
from ...ir import Value
from ..context import Context

OPPOSITE = {"BRANCH_GT": "BRANCH_LEQ", "BRANCH_GTE": "BRANCH_LT", "BRANCH_NEQ": "BRANCH_EQ"}
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")


@dataclass
class Question:
    """An inner node as a model has it; leaves are children of -1, -2 ... `missing`: NaN goes to the true child."""

    mode: str
    feature: int
    splits: list[float]
    yes: int
    no: int
    missing: bool


@dataclass
class Forest:
    """Nodes in the form of `Edgec.Trees`, of element type `kind`."""

    kind: Any
    features: list[int] = field(default_factory=list)
    splits: list[Any] = field(default_factory=list)
    children: list[int] = field(default_factory=list)

    def ask(self, feature: int, split: Any, yes: int, no: int, missing: bool) -> int:
        """A new node; its number."""
        self.features.append(~feature if missing else feature)
        self.splits.append(split)
        self.children += [yes, no]
        return len(self.features) - 1

    def add(self, q: Question, yes: int, no: int) -> int:
        """The nodes of a question whose children are known; the number of the first."""
        mode, missing = q.mode, q.missing
        if mode in OPPOSITE:
            mode, yes, no, missing = OPPOSITE[mode], no, yes, not missing
        splits = [self.kind(s) for s in q.splits]
        if mode in ("BRANCH_LEQ", "BRANCH_LT"):
            return self.ask(q.feature, splits[0] if mode == "BRANCH_LEQ" else self.before(splits[0]), yes, no, missing)
        for k, split in reversed(list(enumerate(splits))):
            below = self.ask(q.feature, self.before(split), no, yes, False)
            no = self.ask(q.feature, split, below, no, missing and k == 0)  # NaN goes on to `yes` below
        return no

    def before(self, split: Any) -> Any:
        """The number before; none is at most what is before all numbers."""
        return self.kind(np.nan) if np.isneginf(split) else np.nextafter(split, self.kind(-np.inf))

    def plant(self, c: Context, questions: dict[int, Question], roots: list[int]) -> list[int]:
        """Add what can be reached from the roots, and say where they are. An `EdgecError` names a cycle."""
        made: dict[int, int] = {}
        open_: set[int] = set()
        for root in roots:
            stack = [root]
            while stack:
                at = stack[-1]
                if at < 0 or at in made:
                    stack.pop()
                    continue
                q = questions[at]
                missing = [child for child in (q.no, q.yes) if child >= 0 and child not in made]
                if not missing:
                    made[at] = self.add(q, *(child if child < 0 else made[child] for child in (q.yes, q.no)))
                    open_.discard(stack.pop())
                    continue
                if at in open_:
                    raise EdgecError(f"{c.where}: a tree is cyclic at node {at}")
                open_.add(at)
                stack += missing
        return [root if root < 0 else made[root] for root in roots]

    def ordered(self, roots: list[int]) -> tuple[Forest, list[int]]:
        """The same with each node before its children, the first of them next to it."""
        number: dict[int, int] = {}
        stack = list(reversed(roots))
        while stack:
            at = stack.pop()
            if at >= 0 and at not in number:
                number[at] = len(number)
                stack += [self.children[2 * at + 1], self.children[2 * at]]
        new = Forest(self.kind)
        for at in number:
            new.features.append(self.features[at])
            new.splits.append(self.splits[at])
            new.children += [number.get(child, child) for child in self.children[2 * at : 2 * at + 2]]
        return new, [number.get(root, root) for root in roots]


Vote = tuple[int, int, float]  # leaf, target, weight


def emit_trees(
    c: Context, x: Value, questions: dict[int, Question], roots: list[int], votes: list[Vote], count: int, fold: str
) -> Value:
    """The sums of votes for rows of features; `roots` and leaves below them are -1, -2 ... where they are leaves."""
    for q in questions.values():
        if not 0 <= q.feature < x.shape[-1]:
            raise EdgecError(f"{c.where}: a node asks for feature {q.feature} of {x.shape[-1]}")
        if q.mode not in MODES or not q.splits:
            raise EdgecError(f"{c.where}: node mode {q.mode!r} is unknown or has no split; known: {', '.join(MODES)}")
    if any(not 0 <= target < count for _, target, _ in votes):
        raise EdgecError(f"{c.where}: leaves vote for other targets than the {count} there are")
    kind = np.float64 if x.type.dtype == "f64" else np.float32
    planted = Forest(kind)
    forest, begins = planted.ordered(planted.plant(c, questions, roots))
    if not forest.features:  # a kernel has one node to read at least
        forest.ask(0, kind(0), -1, -1, False)
    leaves = max([-child for child in (*forest.children, *begins) if child < 0], default=1)
    by_leaf = sorted((vote for vote in votes if vote[0] < leaves), key=lambda vote: vote[0])
    starts = np.searchsorted([leaf for leaf, *_ in by_leaf], range(leaves + 1))
    if not by_leaf:
        return c.emit("Expand", c.const(0, like=x), shape=(x.shape[0], count))
    return c.emit(
        "Edgec.Trees",
        x,
        c.const(forest.features, "i32"),
        c.const(forest.splits, like=x),
        c.const(forest.children, "i32"),
        c.const(begins, "i32"),
        c.const(starts, "i32"),
        c.const([target for _, target, _ in by_leaf], "i32"),
        c.const([weight for *_, weight in by_leaf], like=x),
        count=count,
        fold=fold,
        missing=int(min(forest.features) < 0),
    )
