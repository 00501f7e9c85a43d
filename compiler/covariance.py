"""Means and covariances of the inputs of a layer's outputs, gathered sample by sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .ops.common import Tensor


@dataclass
class Covariance:
    """Of columns [groups, inputs, positions]: sums of the inputs, and of the products of what they differ from their
    means by.

    Means are taken off before products are summed in f32, which would else lose what varies beside what does not; sums
    of samples are joined as Chan, Golub and LeVeque do ("Updating formulae and a pairwise algorithm for computing
    sample variances", 1979).
    """

    products: Tensor
    inputs: Tensor
    count: int = 0

    @staticmethod
    def empty(groups: int, inputs: int) -> Covariance:
        return Covariance(np.zeros((groups, inputs, inputs)), np.zeros((groups, inputs)))

    @staticmethod
    def of(columns: Tensor) -> Covariance:
        """Of one sample; where products are beyond f32, so are the sums."""
        sums, count = columns.sum(2, dtype=np.float64), columns.shape[2]
        with np.errstate(over="ignore", invalid="ignore"):
            centred = columns - (sums / count).astype(np.float32)[..., None]
            return Covariance(np.matmul(centred, centred.transpose(0, 2, 1)), sums, count)

    @staticmethod
    def over(samples: Iterable[Covariance]) -> Covariance:
        """Of all of them, of which there must be one."""
        found: Covariance | None = None
        for one in samples:
            found = found or Covariance.empty(*one.inputs.shape)
            found.join(one)
        assert found is not None
        return found

    def join(self, other: Covariance) -> None:
        """Those of more positions as well."""
        apart, both = self.mean() - other.mean(), self.count * other.count / (self.count + other.count)
        with np.errstate(over="ignore", invalid="ignore"):
            self.products += other.products
            self.products += both * apart[:, :, None] * apart[:, None, :]
        self.inputs += other.inputs
        self.count += other.count

    def add(self, columns: Tensor) -> None:
        """Those of one more sample."""
        self.join(Covariance.of(columns))

    def mean(self) -> Tensor:
        return np.asarray(self.inputs / max(self.count, 1))

    def matrix(self) -> Tensor:
        return np.asarray(self.products / max(self.count, 1))

    def second_moment(self) -> Tensor:
        """Means included."""
        mean = self.mean()
        return np.asarray(self.matrix() + mean[:, :, None] * mean[:, None, :])
