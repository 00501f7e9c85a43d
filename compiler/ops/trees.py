"""Edgec.Trees: what the leaves of decision trees, one in each tree for each row of features, add up to.

Inner node i asks whether feature `features[i]` is at most `splits[i]`, and goes to `children[2 i]` if so, to the next
one if not. A feature written as ~f sends NaN the first way, others the second (`missing`: there may be such). Leaves
are written as ~number: leaf j votes `weights` for `targets` from place `starts[j]` to the next leaf's. Trees begin at
`roots`.
"""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import Tensor, equal_types, require

_REAL = frozenset({"f32", "f64"})
_WHOLE = frozenset({"i32"})
FOLDS = {"SUM": np.add, "MIN": np.minimum, "MAX": np.maximum}


def _voted(
    x: Type,
    features: Type,
    splits: Type,
    children: Type,
    roots: Type,
    starts: Type,
    targets: Type,
    weights: Type,
    count: int,
    fold: str,
    missing: int,
) -> tuple[Type, ...]:
    for t, what in ((features, "features"), (children, "children"), (roots, "roots"), (starts, "starts")):
        require(t, _WHOLE, what)
    require(x, _REAL)
    equal_types(x, splits, weights)
    if len(x.shape) != 2 or fold not in FOLDS or count < 1:
        raise IRError(f"{x} is not rows of features, or no fold {fold!r} for {count} targets")
    nodes = features.shape[0]
    if splits.shape != (nodes,) or children.shape != (2 * nodes,) or targets.shape != weights.shape:
        raise IRError(f"{nodes} nodes with splits {splits}, children {children}, votes {targets} and {weights}")
    return (Type(x.dtype, (x.shape[0], count)),)


def votes(
    x: Tensor,
    features: Tensor,
    splits: Tensor,
    children: Tensor,
    roots: Tensor,
    starts: Tensor,
    targets: Tensor,
    weights: Tensor,
    count: int,
    fold: str,
    missing: int,
) -> Tensor:
    """A target without votes is zero."""
    start = {"SUM": 0.0, "MIN": np.inf, "MAX": -np.inf}[fold]
    y = np.full((len(x), count), start, x.dtype)
    voted = np.zeros(y.shape, np.bool_)
    rows = np.arange(len(x))
    for root in roots:
        at = np.full(len(x), root)
        while (inner := at >= 0).any():
            node = at[inner]
            feature = features[node]
            value = x[rows[inner], np.where(feature < 0, ~feature, feature)]
            first = (value <= splits[node]) | (np.isnan(value) & (feature < 0))
            at[inner] = children[2 * node + np.where(first, 0, 1)]
        for row, leaf in enumerate(~at):
            for k in range(starts[leaf], starts[leaf + 1]):
                y[row, targets[k]] = FOLDS[fold](y[row, targets[k]], weights[k])
                voted[row, targets[k]] = True
    return np.where(voted, y, 0).astype(x.dtype)


op("Edgec.Trees", 8, _voted, votes, kind="other", attrs={"count": REQUIRED, "fold": "SUM", "missing": 1}, alone=True)
