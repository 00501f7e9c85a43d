"""Converters of decision trees: TreeEnsemble, TreeEnsembleRegressor, TreeEnsembleClassifier of domain ai.onnx.ml."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import EdgecError
from ...ir import Value
from ..context import Context
from ..table import Refused, Result, converts
from .forest import MODES, Question, Vote, emit_trees
from .scores import after, both, first_of_most, labels_of, second_where

_AFTER_NUMBERS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_FOLDS = ("AVERAGE", "SUM", "MIN", "MAX")


@converts("ai.onnx.ml.TreeEnsemble")
def tree_ensemble(c: Context) -> Result:
    """Inner nodes and leaves are listed apart; a leaf votes once."""
    modes = [MODES[int(m)] if int(m) < len(MODES) else str(m) for m in np.reshape(c.attr("nodes_modes"), -1)]
    features = _numbers(c, "nodes_featureids", len(modes))
    splits = _numbers(c, "nodes_splits", len(modes))
    missing = _numbers(c, "nodes_missing_value_tracks_true", len(modes), 0)
    branches = [
        [-1 - int(n) if leaf else int(n) for n, leaf in zip(_numbers(c, ids, len(modes)), flags, strict=True)]
        for ids, flags in (
            ("nodes_truenodeids", _numbers(c, "nodes_trueleafs", len(modes))),
            ("nodes_falsenodeids", _numbers(c, "nodes_falseleafs", len(modes))),
        )
    ]
    members = _memberships(c, modes)
    weights = np.reshape(c.attr("leaf_weights"), -1)
    targets = _numbers(c, "leaf_targetids", len(weights))
    roots = [int(r) for r in c.attr("tree_roots", ())]
    questions = {}
    for i, mode in enumerate(modes):
        asked = members.pop(0) if mode == "BRANCH_MEMBER" else [splits[i]]
        questions[i] = Question(mode, int(features[i]), asked, branches[0][i], branches[1][i], bool(missing[i]))
    _check_references(c, questions, roots, len(weights))
    votes = [(j, int(targets[j]), float(w)) for j, w in enumerate(weights)]
    x = c.cast(c.arg(), "f64" if c.dtype == "f64" else "f32")
    fold = _FOLDS[int(c.attr("aggregate_function", 1))]
    y = _folded(c, x, questions, roots, votes, int(c.attr("n_targets", 1)), fold)
    return c.cast(after(c, y, _AFTER_NUMBERS[int(c.attr("post_transform", 0))]), c.dtype)


@converts("ai.onnx.ml.TreeEnsembleRegressor")
def regressor(c: Context) -> Result:
    x = c.cast(c.arg(), "f64" if c.dtype == "f64" else "f32")
    questions, roots, votes = _listed(c, "target")
    y = _folded(c, x, questions, roots, votes, int(c.attr("n_targets", 1)), str(c.attr("aggregate_function", "SUM")))
    return c.cast(after(c, _based(c, y), str(c.attr("post_transform", "NONE"))), "f32")


@converts("ai.onnx.ml.TreeEnsembleClassifier")
def classifier(c: Context) -> Result:
    """The first class with the greatest score; of two classes whose votes are all for the first, as `both` says."""
    known = labels_of(c, "classlabels_int64s")
    classes = known.shape[0]
    x = c.cast(c.arg(), "f64" if c.dtype == "f64" else "f32")
    questions, roots, votes = _listed(c, "class")
    voted = {target for _, target, _ in votes}
    transform = str(c.attr("post_transform", "NONE"))
    if classes == 2 and len(voted) == 1:
        if voted != {0}:
            raise Refused("all votes are for its second class", "expected votes for the first, or for both")
        score = _based(c, _folded(c, x, questions, roots, votes, 1, "SUM"))
        positive = all(w >= 0 for *_, w in votes)  # then scores are probabilities, and one half decides
        above = c.emit("Greater", score, c.const(0.5 if positive else 0, like=score))
        return second_where(c, known, above), c.cast(both(c, score, transform, not positive), "f32")
    sums = _based(c, _folded(c, x, questions, roots, votes, classes, "SUM"))
    return first_of_most(c, known, sums), c.cast(after(c, sums, transform), "f32")


def _folded(
    c: Context, x: Value, questions: dict[int, Question], roots: list[int], votes: list[Vote], count: int, fold: str
) -> Value:
    if len(x.shape) != 2 or count < 1:
        raise EdgecError(f"{c.where}: takes rows of features, got {x.type}, for {count} targets")
    if fold not in _FOLDS:
        raise EdgecError(f"{c.where}: aggregate_function {fold!r} is unknown; expected one of {', '.join(_FOLDS)}")
    if fold == "AVERAGE":
        y = emit_trees(c, x, questions, roots, votes, count, "SUM")
        return c.emit("Mul", y, c.const(1 / max(len(roots), 1), like=y))
    return emit_trees(c, x, questions, roots, votes, count, fold)


def _based(c: Context, y: Value) -> Value:
    """Base values are added after the fold."""
    base = _floats(c, "base_values")
    if not len(base):
        return y
    if len(base) != y.shape[1]:
        raise Refused(f"it has {len(base)} base_values for {y.shape[1]} sums")
    return c.emit("Add", y, c.const(base, like=y))


def _floats(c: Context, name: str) -> Any:
    """Floats, or doubles in the attribute that is a tensor."""
    tensor = c.attr(f"{name}_as_tensor")
    return np.reshape(c.attr(name, ()) if tensor is None else tensor, -1).tolist()


def _numbers(c: Context, name: str, count: int, default: float | None = None) -> list[Any]:
    given = np.reshape(c.attr(name, ()), -1).tolist()
    if not given and default is not None:
        return [default] * count
    if len(given) != count:
        raise EdgecError(f"{c.where}: {name} has {len(given)} entries; expected {count}")
    return given


def _memberships(c: Context, modes: list[str]) -> list[list[float]]:
    """The sets of values, which NaN ends."""
    sets: list[list[float]] = [[]]
    for value in np.reshape(c.attr("membership_values", ()), -1).tolist():
        if np.isnan(value):
            sets.append([])
        else:
            sets[-1].append(value)
    if len(sets) - 1 != modes.count("BRANCH_MEMBER"):
        raise EdgecError(
            f"{c.where}: {len(sets) - 1} sets of membership_values for {modes.count('BRANCH_MEMBER')} nodes"
        )
    return sets[:-1]


def _listed(c: Context, kind: str) -> tuple[dict[int, Question], list[int], list[Vote]]:
    """Nodes and leaves in one list, named by tree and node; votes of leaves in another."""
    modes = [m.decode() if isinstance(m, bytes) else str(m) for m in c.attr("nodes_modes", ())]
    count = len(modes)
    trees, names = _numbers(c, "nodes_treeids", count), _numbers(c, "nodes_nodeids", count)
    features, splits = _numbers(c, "nodes_featureids", count), _floats(c, "nodes_values")
    missing = _numbers(c, "nodes_missing_value_tracks_true", count, 0)
    yes, no = _numbers(c, "nodes_truenodeids", count), _numbers(c, "nodes_falsenodeids", count)
    place = {key: i for i, key in enumerate(zip(trees, names, strict=True))}
    if len(place) != count or len(splits) != count:
        raise EdgecError(f"{c.where}: {count} nodes have {len(splits)} nodes_values and {len(place)} different names")
    leaf = {i: j for j, i in enumerate(i for i, mode in enumerate(modes) if mode == "LEAF")}

    def reference(tree: Any, node: Any) -> int:
        if (tree, node) not in place:
            raise EdgecError(f"{c.where}: tree {tree} has no node {node}")
        at = place[tree, node]
        return -1 - leaf[at] if at in leaf else at

    questions = {
        i: Question(
            mode,
            int(features[i]),
            [splits[i]],
            reference(trees[i], yes[i]),
            reference(trees[i], no[i]),
            bool(missing[i]),
        )
        for i, mode in enumerate(modes)
        if mode != "LEAF"
    }
    roots = [
        -1 - leaf[i] if i in leaf else i
        for i in sorted({tree: i for i, tree in reversed([*enumerate(trees)])}.values())
    ]
    return questions, roots, _votes(c, kind, place, leaf)


def _votes(c: Context, kind: str, place: dict[Any, int], leaf: dict[int, int]) -> list[Vote]:
    weights = _floats(c, f"{kind}_weights")
    columns = [_numbers(c, f"{kind}_{name}", len(weights)) for name in ("treeids", "nodeids", "ids")]
    votes = []
    for tree, node, target, weight in zip(*columns, weights, strict=True):
        at = place.get((tree, node), -1)
        if at not in leaf:
            raise EdgecError(f"{c.where}: votes of node {node} of tree {tree}, which is no leaf")
        votes.append((leaf[at], int(target), float(weight)))
    return votes


def _check_references(c: Context, questions: dict[int, Question], roots: list[int], leaves: int) -> None:
    for at in (*roots, *(child for q in questions.values() for child in (q.yes, q.no))):
        if not -leaves <= at < len(questions):
            raise EdgecError(f"{c.where}: {len(questions)} nodes and {leaves} leaves; one refers to {at}")
