"""Means and covariances of what layers multiply with their weights, over calibration data, a few layers at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np

from ...calibration.runner import running
from ...columns import columns, positions
from ...covariance import Covariance
from ...ir import Graph
from ...layers import Layer
from ...ops.common import Tensor

POSITIONS = 32768  # of all samples, that a layer's moments are taken over at most
BYTES = 1 << 30  # that the sums of several layers may take at a time
APART = 16  # positions of a picture that count as drawn independently: neighbours are alike
LEAST = 1e-4  # share of the mean variance that is added to each, however many positions there are

Feed = Mapping[str, Tensor]


@dataclass(frozen=True)
class Spread:
    """Of a layer's columns: their mean and covariance around it, the latter never singular; None: not known."""

    mean: Tensor
    covariance: Tensor | None

    @staticmethod
    def unknown(layer: Layer) -> Spread:
        """Of inputs nothing is known of: all alike and unrelated."""
        return Spread(np.zeros(_size(layer)), None)


Spreads = Callable[[Sequence[Layer]], Iterator[tuple[Layer, Spread]]]


@contextmanager
def spreads(graph: Graph, layers: Sequence[Layer], feeds: Sequence[Feed] | None, threads: int) -> Iterator[Spreads]:
    """A function that gives the spread of each of some layers, in order; without samples nothing is known of them."""
    if feeds is None:
        yield lambda some: ((layer, Spread.unknown(layer)) for layer in some)
        return
    inputs = list(dict.fromkeys(layer.input for layer in layers))
    with running(graph, inputs, threads=threads) as run:

        def found(some: Sequence[Layer]) -> Iterator[tuple[Layer, Spread]]:
            for part in _parts(some):
                sums = {layer.node: Covariance.empty(1, _size(layer)) for layer in part}
                for number, feed in enumerate(feeds):
                    arrays = dict(zip(inputs, run(feed), strict=True))
                    for layer in part:
                        _add(sums[layer.node], layer, arrays[layer.input], len(feeds), number)
                for layer in part:
                    apart = len(feeds) * (APART if layer.node.op == "Conv" else positions(layer.node))
                    yield layer, _spread(layer, sums.pop(layer.node), apart)

        yield found


def _size(layer: Layer) -> int:
    return prod(layer.weights.shape[1:] if layer.node.op == "Conv" else layer.weights.shape[:-1])


def _parts(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Layers whose sums fit into memory together."""
    part: list[Layer] = []
    left = BYTES
    for layer in layers:
        size = 8 * _size(layer) ** 2
        if part and size > left:
            yield part
            part, left = [], BYTES
        part.append(layer)
        left -= size
    if part:
        yield part


def _add(sums: Covariance, layer: Layer, x: Tensor, samples: int, number: int) -> None:
    """One sample's columns, at positions drawn anew for each."""
    count = positions(layer.node)
    wanted = max(1, POSITIONS // samples)
    places = np.arange(count)
    if count > wanted:
        places = np.sort(np.random.default_rng(number).choice(count, wanted, replace=False))
    sums.add(columns(layer.node, x, layer.node.types[0].shape, places))


def _spread(layer: Layer, sums: Covariance, apart: int) -> Spread:
    """Shrunk towards equal variances by as much as few positions ask for, of which so many count as drawn `apart`
    (Chen, Wiesel, Eldar and Hero, "Shrinkage algorithms for MMSE covariance estimation", 2010: OAS). Where the layer
    has no bias, the mean counts as well."""
    if not np.isfinite(sums.products).all():
        return Spread.unknown(layer)
    n, size = max(sums.count, 1), _size(layer)
    mean = sums.mean()[0]
    around = sums.second_moment()[0] if layer.bias is None else sums.matrix()[0]
    trace, square = float(np.trace(around)), float(np.square(around).sum())
    uneven, drawn = square - trace**2 / size, max(min(n, apart), 1)
    share = ((1 - 2 / size) * square + trace**2) / ((drawn + 1 - 2 / size) * uneven) if uneven > 0 else 1.0
    share = min(1.0, max(share, LEAST))
    made = (1 - share) * around + (share * trace / size + 1e-12) * np.eye(size)
    return Spread(mean, made)
