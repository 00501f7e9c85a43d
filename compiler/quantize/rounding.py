"""Rounds weights with regard to each other: the error of one is made up for by those that are rounded later.

GPTQ (compensate.py), which is Optimal Brain Quantization in one order for all rows; a few sweeps of coordinate descent
over the integers follow where there are few of them. Weights of layers that were made sparse stay zero.
"""

from __future__ import annotations

import numpy as np

from ..covariance import Covariance
from ..ops.common import Tensor
from .compensate import compensated
from .weights import MOST

DAMPING = 0.01
FLOOR = 1e-4
SPARSE = 0.25  # of a layer's weights are zero on purpose, where so many are
SMALL = 64  # inputs of an output up to which integers are tried one by one


def rounded_weights(rows: Tensor, step: Tensor, found: Covariance) -> Tensor:
    """Integers for [groups, outputs, inputs] of weights with a step per output; the nearest ones where products are
    beyond f32."""
    if not np.isfinite(found.products).all():
        return np.asarray(np.rint(rows / step[..., None]))
    own = damped(found)
    zeros = rows == 0
    zeros &= zeros.mean() >= SPARSE
    steps = _gptq(rows, step, own, zeros)
    return _descended(steps, rows, step, own, zeros) if own.shape[-1] <= SMALL else steps


def damped(found: Covariance) -> Tensor:
    """Their covariance, such that it has an inverse."""
    own = found.matrix()
    varies = np.einsum("gkk->gk", own).mean(1)
    whole = varies + np.square(found.mean()).mean(1)  # never too small
    damping = np.maximum(DAMPING * varies, FLOOR * whole) + 1e-12
    return np.asarray(own + damping[:, None, None] * np.eye(own.shape[-1]))


def _gptq(aim: Tensor, step: Tensor, own: Tensor, zeros: Tensor) -> Tensor:
    """Of each group columns of the largest second moment first."""
    order = np.argsort(-np.einsum("gkk->gk", own), kind="stable", axis=1)
    columns = order[:, None]
    zeros = np.take_along_axis(zeros, columns, 2)

    def settle(k: int, end: int, w: Tensor, upper: Tensor) -> Tensor:
        whole = np.clip(np.rint(w[..., k] / step), -MOST, MOST)
        return np.asarray(np.where(zeros[..., k], 0.0, whole * step))

    own = np.take_along_axis(np.take_along_axis(own, columns, 2), order[..., None], 1)
    made = compensated(np.take_along_axis(aim, columns, 2), own, settle)
    back = np.empty_like(aim)
    np.put_along_axis(back, columns, np.rint(made / step[..., None]), 2)
    return back


def _descended(steps: Tensor, aim: Tensor, step: Tensor, own: Tensor, zeros: Tensor, sweeps: int = 3) -> Tensor:
    """Every integer in turn at its best, the others being as they are."""
    q = steps.copy()
    gradient = np.matmul(q * step[..., None] - aim, own)
    for _ in range(sweeps):
        for k in range(q.shape[2]):
            second = own[:, k, k][:, None]
            best = np.clip(np.rint(q[..., k] - gradient[..., k] / (second * step)), -MOST, MOST)
            best = np.where(zeros[..., k], 0.0, best)
            change = (best - q[..., k]) * step
            gradient += change[..., None] * own[:, None, k]
            q[..., k] = best
    return q
