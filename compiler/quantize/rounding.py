"""Rounds weights with regard to each other: the error of one is made up for by those that are rounded later.

GPTQ (Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", 2023), which
is Optimal Brain Quantization in one order for all rows; a few sweeps of coordinate descent over the integers follow
where there are few of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ops.common import Tensor
from .weights import MOST

DAMPING = 0.01
FLOOR = 1e-4
BLOCK = 128
SMALL = 64  # inputs of an output up to which integers are tried one by one


@dataclass
class Moments:
    """Sums over positions, per group, of the quantized model's inputs of a layer and of their products."""

    products: Tensor
    inputs: Tensor
    count: int = 0

    @staticmethod
    def empty(groups: int, inputs: int) -> Moments:
        return Moments(np.zeros((groups, inputs, inputs)), np.zeros((groups, inputs)))

    def add(self, columns: Tensor) -> None:
        """Of one sample: [groups, inputs, positions]."""
        with np.errstate(over="ignore", invalid="ignore"):
            self.products += np.matmul(columns, columns.transpose(0, 2, 1))
        self.inputs += columns.sum(2)
        self.count += columns.shape[2]

    def covariance(self) -> Tensor:
        """Means are left out: they are the bias's affair."""
        n = max(self.count, 1)
        mean = self.inputs / n
        return np.asarray(self.products / n - mean[:, :, None] * mean[:, None, :])


def rounded_weights(rows: Tensor, step: Tensor, moments: Moments) -> Tensor:
    """Integers for [groups, outputs, inputs] of weights with a step per output; the nearest ones where products are
    beyond f32."""
    if not np.isfinite(moments.products).all():
        return np.asarray(np.rint(rows / step[..., None]))
    own = moments.covariance()
    whole = np.einsum("gkk->gk", moments.products).mean(1) / max(
        moments.count, 1
    )  # the means included: never too small
    damping = np.maximum(DAMPING * np.einsum("gkk->gk", own).mean(1), FLOOR * whole) + 1e-12
    own = own + damping[:, None, None] * np.eye(own.shape[-1])
    steps = np.stack([_gptq(a, s, h) for a, s, h in zip(rows, step, own, strict=True)])
    return _descended(steps, rows, step, own) if own.shape[-1] <= SMALL else steps


def _gptq(aim: Tensor, step: Tensor, own: Tensor) -> Tensor:
    """One group: columns of the largest second moment first."""
    order = np.argsort(-np.diag(own), kind="stable")
    w = aim[:, order].copy()
    upper = np.linalg.cholesky(np.linalg.inv(own[np.ix_(order, order)])).T
    q = np.zeros_like(w)
    for start in range(0, w.shape[1], BLOCK):
        end = min(start + BLOCK, w.shape[1])
        errors = np.zeros((w.shape[0], end - start))
        for k in range(start, end):
            q[:, k] = np.clip(np.rint(w[:, k] / step), -MOST, MOST)
            errors[:, k - start] = (w[:, k] - q[:, k] * step) / upper[k, k]
            w[:, k + 1 : end] -= errors[:, k - start, None] * upper[k, k + 1 : end]
        w[:, end:] -= errors @ upper[start:end, end:]
    back = np.empty_like(q)
    back[:, order] = q
    return back


def _descended(steps: Tensor, aim: Tensor, step: Tensor, own: Tensor, sweeps: int = 3) -> Tensor:
    """Every integer in turn at its best, the others being as they are."""
    q = steps.copy()
    gradient = np.matmul(q * step[..., None] - aim, own)
    for _ in range(sweeps):
        for k in range(q.shape[2]):
            second = own[:, k, k][:, None]
            best = np.clip(np.rint(q[..., k] - gradient[..., k] / (second * step)), -MOST, MOST)
            change = (best - q[..., k]) * step
            gradient += change[..., None] * own[:, None, k]
            q[..., k] = best
    return q
