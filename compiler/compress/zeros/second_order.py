"""What it costs to make weights zero, by second order, and the best weights beside them.

A layer's error is quadratic in its weights; its Hessian is the second moment of its inputs. Optimal Brain Surgeon
(Hassibi and Stork, 1993): weight w costs w^2 / [H^-1] once the others have made up for it. SparseGPT (Frantar and
Alistarh, 2023) decides and makes up for it column by column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ops.common import Tensor
from ...quantize.compensate import BLOCK, compensated
from ..channels.readers import Moments
from ..channels.saliency import DAMPING
from .masks import Pattern, best_of_groups, without_lowest


@dataclass(frozen=True)
class Curvature:
    """Second moment [inputs, inputs] of what a layer reads, which has an inverse, and the means of it."""

    own: Tensor
    mean: Tensor

    @staticmethod
    def of(moments: Moments, shifted: bool) -> Curvature:
        """`shifted`: a bias makes up for what the means do."""
        own = moments.covariance
        if not shifted:
            own = own + np.outer(moments.mean, moments.mean)
        damping = DAMPING * np.trace(own) / len(own) + 1e-12
        return Curvature(own + damping * np.eye(len(own)), moments.mean)

    @staticmethod
    def none(inputs: int) -> Curvature:
        """Nothing is known: every input counts alike, and by itself."""
        return Curvature(np.eye(inputs), np.zeros(inputs))


def losses(rows: Tensor, curvature: Curvature) -> Tensor:
    """What each weight of rows [outputs, inputs] costs, as a share of the energy of all results."""
    costs = np.square(rows) / np.diag(np.linalg.inv(curvature.own))
    return np.asarray(costs / max(energy(rows, curvature), 1e-30))


def energy(rows: Tensor, curvature: Curvature) -> float:
    """Mean square of the results of rows, summed over the outputs."""
    return float(np.einsum("oi,oi->", rows @ curvature.own, rows))


def pruned_rows(rows: Tensor, curvature: Curvature, pattern: Pattern, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows with zeros, and the mask of the weights that stay.

    `mask` says how many units go in each block of columns; which ones is decided when the block is reached, by the
    weights as they are then. None: the pattern says how many.
    """
    block = BLOCK // pattern.step * pattern.step or pattern.step
    keep = np.ones(rows.shape, bool)

    def settle(k: int, end: int, w: Tensor, upper: Tensor) -> Tensor:
        if mask is None and k % pattern.m == 0:
            stop = min(k + pattern.m, end)
            keep[:, k:stop] = best_of_groups(_scores(w, upper, k, stop), pattern)
        elif mask is not None and k % block == 0:
            gone = int((~mask[:: pattern.outputs, k : end : pattern.inputs]).sum())
            keep[:, k:end] = without_lowest(_scores(w, upper, k, end), gone, pattern)
        return np.asarray(np.where(keep[:, k], w[:, k], 0.0))

    return compensated(rows, curvature.own, settle, block), keep


def _scores(w: Tensor, upper: Tensor, start: int, end: int) -> Tensor:
    return np.asarray(np.square(w[:, start:end] / np.diag(upper)[start:end]))
