"""Rounds weights with regard to each other: the error of one is made up for by those that are rounded later.

GPTQ (Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", 2023), which is
Optimal Brain Quantization in one order for all rows. The aim is the float model's result for its own inputs, as in
"GPTAQ: efficient finetuning-free quantization for asymmetric calibration" (Li et al., 2025); a few sweeps of coordinate
descent over the integers follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir import Array
from .weights import MOST

DAMPING = 0.01
BLOCK = 128
ASYM = 0.0
SMALL = 64  # inputs of an output up to which integers are tried one by one


@dataclass
class Moments:
    """Sums over positions, per group: inputs of the quantized model among each other, and those of the float model with
    them."""

    own: Array  # rough rough^T
    cross: Array  # exact rough^T
    rough: Array
    exact: Array
    count: int = 0

    @staticmethod
    def empty(groups: int, inputs: int) -> Moments:
        square, row = np.zeros((groups, inputs, inputs)), np.zeros((groups, inputs))
        return Moments(square, square.copy(), row, row.copy())

    @property
    def groups(self) -> int:
        return len(self.own)

    def add(self, exact: Array, rough: Array) -> None:
        """Columns of one sample: [groups, inputs, positions]."""
        self.own += np.matmul(rough, rough.transpose(0, 2, 1))
        self.cross += np.matmul(exact, rough.transpose(0, 2, 1))
        self.rough += rough.sum(2)
        self.exact += exact.sum(2)
        self.count += rough.shape[2]

    def centred(self) -> tuple[Array, Array]:
        """Covariances: the means are the bias's affair."""
        n = max(self.count, 1)
        rough, exact = self.rough / n, self.exact / n
        own = self.own / n - rough[:, :, None] * rough[:, None, :]
        cross = self.cross / n - exact[:, :, None] * rough[:, None, :]
        return own, cross

    def shift(self, rows: Array, made: Array) -> Array:
        """What the bias must add: the mean result of the float model less that of the quantized one.

        Bias correction (Nagel et al., 2019), with means measured on calibration data.
        """
        n = max(self.count, 1)
        return np.asarray(np.matmul(rows, self.exact[..., None] / n) - np.matmul(made, self.rough[..., None] / n))


def rounded_weights(rows: Array, step: Array, moments: Moments) -> Array:
    """Integers for [groups, outputs, inputs] of weights with a step per output."""
    own, cross = moments.centred()
    size = own.shape[-1]
    diagonal = np.einsum("gkk->gk", own)
    damping = DAMPING * np.maximum(diagonal.mean(1), 1e-12)
    eye = np.eye(size)
    own = own + damping[:, None, None] * eye
    cross = cross + damping[:, None, None] * eye
    if ASYM:
        ridge = ASYM * np.maximum(diagonal.mean(1), 1e-12)[:, None, None] * eye
        aim = np.linalg.solve(own + ridge, np.matmul(rows, cross + ridge).transpose(0, 2, 1)).transpose(0, 2, 1)
        limit = np.abs(rows).max(axis=2, keepdims=True)
        aim = np.clip(aim, -limit, limit)
    else:
        aim = rows
    steps = np.stack([_gptq(a, s, h) for a, s, h in zip(aim, step, own, strict=True)])
    return _descended(steps, aim, step, own) if size <= SMALL else steps


def _gptq(aim: Array, step: Array, own: Array) -> Array:
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


def _descended(steps: Array, aim: Array, step: Array, own: Array, sweeps: int = 3) -> Array:
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
