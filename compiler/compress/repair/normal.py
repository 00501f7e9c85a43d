"""Least squares from normal equations: sums over positions, from which weights and their error follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ops.common import Tensor

SYSTEMS = 8  # patterns of zeros for each of which a system is solved by itself
TURNS, EXACT = 100, 1e-8  # of conjugate gradients; of the squared residual, what is left of it


@dataclass
class Normal:
    """Sums over positions, per group, of inputs x, aims y and their products, in f64."""

    xx: Tensor
    xy: Tensor
    yy: Tensor
    x: Tensor
    y: Tensor
    count: int = 0

    @staticmethod
    def empty(groups: int, inputs: int, outputs: int) -> Normal:
        return Normal(
            np.zeros((groups, inputs, inputs)),
            np.zeros((groups, inputs, outputs)),
            np.zeros((groups, outputs)),
            np.zeros((groups, inputs)),
            np.zeros((groups, outputs)),
        )

    def add(self, x: Tensor, y: Tensor) -> None:
        """Columns [groups, inputs, positions] and aims [groups, outputs, positions]."""
        with np.errstate(over="ignore", invalid="ignore"):
            self.xx += np.matmul(x, x.transpose(0, 2, 1))
            self.xy += np.matmul(x, y.transpose(0, 2, 1))
            self.yy += np.square(y, dtype=np.float64).sum(2)
            self.x += x.sum(2, dtype=np.float64)
            self.y += y.sum(2, dtype=np.float64)
        self.count += x.shape[2]

    def joined(self, other: Normal) -> Normal:
        """Of the positions of both."""
        return Normal(
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
            self.x + other.x,
            self.y + other.y,
            self.count + other.count,
        )

    @property
    def usable(self) -> bool:
        """Whether there is something in it, and nothing beyond the numbers."""
        return bool(self.count) and all(np.isfinite(a).all() for a in (self.xx, self.xy, self.yy))

    def error(self, rows: Tensor, bias: Tensor) -> float:
        """Sum of squares of rows x + bias - y, for rows [groups, outputs, inputs]."""
        quadratic = np.einsum("goi,goi->", np.matmul(rows, self.xx), rows)
        linear = np.einsum("goi,gio->", rows, self.xy)
        shift = 2 * (bias * (np.einsum("goi,gi->go", rows, self.x) - self.y)).sum()
        found = float(quadratic - 2 * linear + self.yy.sum() + shift + self.count * np.square(bias).sum())
        return max(found, 0.0)

    def spread(self) -> float:
        """Sum of squares of the aims around their means."""
        return max(float(self.yy.sum() - np.square(self.y).sum() / max(self.count, 1)), 0.0)


def solved(
    sums: Normal, rows: Tensor, bias: Tensor, damping: float, mask: Tensor | None = None, shifted: bool = True
) -> tuple[Tensor, Tensor]:
    """Rows and bias with the least error, the change of the rows damped by a share of their inputs' mean square.

    `mask`: where rows may be nonzero. `shifted`: the bias may change; else it stays.
    """
    n = max(sums.count, 1)
    xx, aim = sums.xx / n, sums.xy / n
    if shifted:
        mx, my = sums.x / n, sums.y / n
        xx = xx - mx[:, :, None] * mx[:, None, :]
        aim = aim - mx[:, :, None] * my[:, None, :]
    else:
        aim = aim - (sums.x / n)[:, :, None] * bias[:, None, :]
    if mask is not None:
        rows = np.where(mask, rows, 0.0)
    left = aim - np.matmul(xx, rows.transpose(0, 2, 1))
    weight = damping * np.einsum("gii->gi", xx).mean(1) + 1e-12
    system = xx + weight[:, None, None] * np.eye(xx.shape[-1])
    made = rows + (np.linalg.solve(system, left).transpose(0, 2, 1) if mask is None else _masked(system, left, mask))
    if not shifted:
        return made, bias
    return made, sums.y / n - np.einsum("goi,gi->go", made, sums.x / n)


def lowered(sums: Normal, rows: Tensor, bias: Tensor, rank: int, shifted: bool) -> tuple[Tensor, Tensor]:
    """The nearest rows of a rank, by their results; the bias makes up for their mean."""
    n = max(sums.count, 1)
    xx, mx = sums.xx / n, sums.x / n
    if shifted:
        xx = xx - mx[:, :, None] * mx[:, None, :]
    vectors = np.linalg.eigh(np.matmul(np.matmul(rows, xx), rows.transpose(0, 2, 1)))[1][:, :, -rank:]
    made = np.matmul(vectors, np.matmul(vectors.transpose(0, 2, 1), rows))
    return made, bias + np.einsum("goi,gi->go", rows - made, mx) if shifted else bias


def _masked(system: Tensor, left: Tensor, mask: Tensor) -> Tensor:
    """Changes [groups, outputs, inputs] that are zero outside the mask: a system per row."""
    patterns = [np.unique(m, axis=0, return_inverse=True) for m in mask]
    if max((len(p) for p, _ in patterns), default=0) > SYSTEMS:
        return _descended(system, left, mask)
    change = np.zeros(mask.shape)
    for g, (found, which) in enumerate(patterns):
        for number, pattern in enumerate(found):
            at, outputs = np.flatnonzero(pattern), np.flatnonzero(which.reshape(-1) == number)
            if len(at):
                made = np.linalg.solve(system[g][np.ix_(at, at)], left[g][np.ix_(at, outputs)])
                change[g][np.ix_(outputs, at)] = made.T
    return change


def _descended(system: Tensor, left: Tensor, mask: Tensor) -> Tensor:
    """The same for many patterns: conjugate gradients, all rows at once, scaled by the diagonal."""
    scale = np.where(mask, 1 / np.einsum("gii->gi", system)[:, None, :], 0.0)
    change = np.zeros(mask.shape)
    rest = left.transpose(0, 2, 1) * mask
    step = rest * scale
    size = (rest * step).sum(2, keepdims=True)
    enough = EXACT * size
    for _ in range(TURNS):
        if (size <= enough).all():
            break
        curved = np.matmul(step, system) * mask
        along = (step * curved).sum(2, keepdims=True)
        far = np.divide(size, along, out=np.zeros_like(size), where=along > 0)
        change += far * step
        rest -= far * curved
        turned = rest * scale
        before, size = size, (rest * turned).sum(2, keepdims=True)
        step = turned + np.divide(size, before, out=np.zeros_like(size), where=before > 0) * step
    return change
