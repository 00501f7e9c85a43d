"""Compares answers as far as they mean something: an element that rounding alone may change counts for nothing.

A graph is run several times with noise of a few units in the last place on every result that is rounded. What that
does to an output is what another order of sums may do: where a threshold, a rounding or a position hangs on it, the
element is left out; elsewhere an answer may be off by the tolerance of `edgec verify`, and by some of that effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgec.compiler.compare.difference import tolerance
from edgec.compiler.dtypes import dtype, of_numpy
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Array, Graph, Node, Value
from edgec.compiler.op import OPS, const_array, evaluate

from .arrays import real

# Elementwise operators whose result is one of few numbers, or an argument: nothing is rounded.
_EXACT = frozenset(
    """Abs Neg Ceil Floor Round Sign Relu Min Max Where Clip Not And Or Xor Equal Less LessOrEqual Greater
    GreaterOrEqual IsNaN IsInf ThresholdedRelu Cast QuantizeLinear MaxPool ReduceMax ReduceMin""".split()
)
_UNITS = {"f16": 2**-11, "bf16": 2**-8, "f32": 2**-24, "f64": 2**-53}
_ELEMENTWISE, _SUMS = 4.0, 32.0  # units of noise: of each element; of the largest, which sums are made of
_TOLERANCE = {"f64": 1e-9}
_EFFECT = 8.0  # how much of what noise does an answer may be off


@dataclass(frozen=True)
class Band:
    """What an output should be, and by how much each element may differ; an element with `free` may be anything.

    `sized`: its size does not hang on rounding.
    """

    want: Array
    allowed: Array
    free: Array
    sized: bool = True

    @property
    def share(self) -> float:
        """The share of the elements that are compared."""
        return 1 - float(np.mean(self.free)) if self.free.size else 1.0

    def fault(self, got: Array) -> str:
        """How an answer is wrong, or ""."""
        if not self.sized:
            return ""
        if got.shape != self.want.shape or got.dtype != self.want.dtype:
            return f"is {got.dtype}{list(got.shape)}; expected {self.want.dtype}{list(self.want.shape)}"
        with np.errstate(all="ignore"):
            error = _distance(got, self.want)
            wrong = ~self.free & ~(error <= self.allowed)
        if not wrong.any():
            return ""
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(wrong, error, -1))), got.shape))
        return f"differs in {int(wrong.sum())} of {wrong.size} elements, at {list(at)} {got[at]} for {self.want[at]}"


def bands(graph: Graph, feeds: Mapping[str, Array], runs: int = 3, seed: int = 1) -> dict[str, Band]:
    """The outputs by name; more runs find more of the elements that hang on rounding."""
    wanted = interpret(graph, feeds)
    rng = np.random.default_rng(seed)
    shaken = [_shaken(graph, feeds, rng) for _ in range(runs)]
    return {name: _band(want, [other[name] for other in shaken]) for name, want in wanted.items()}


def near(value: Value, args: Sequence[Array], runs: int = 8) -> Band:
    """What a node's result may be, given arguments that are rounded."""
    rng = np.random.default_rng(1)
    node = value.node
    shaken = []
    for _ in range(runs):
        noisy = [_off(a, x, rng) for a, x in zip(node.args, args, strict=True)]
        shaken.append(evaluate(node, noisy)[value.index])
    band = _band(evaluate(node, args)[value.index], shaken)
    return replace(band, free=~np.isfinite(band.allowed))


def _off(value: Value, array: Array, rng: np.random.Generator) -> Array:
    unit = _UNITS.get(value.type.dtype, 0.0)
    return _moved(array, _ELEMENTWISE * unit * np.abs(array.astype(np.float64)), rng) if unit else array


def _band(want: Array, shaken: list[Array]) -> Band:
    if any(other.shape != want.shape for other in shaken):
        return Band(want, np.zeros(want.shape), np.ones(want.shape, bool), sized=False)
    with np.errstate(all="ignore"):
        effect = np.max([_distance(other, want) for other in shaken], axis=0, initial=0.0)
    if not real(want):
        return Band(want, np.zeros(want.shape), effect > 0)
    wide = np.abs(want.astype(np.float64))
    scale = float(np.max(wide[np.isfinite(wide)], initial=0.0)) or 1.0
    relative = _TOLERANCE.get(of_numpy(want.dtype), tolerance(want.dtype))
    return Band(want, relative * scale + _EFFECT * effect, ~np.isfinite(effect) | (effect > 0.05 * scale))


def _distance(a: Array, b: Array) -> Any:
    """|a - b| of each element; 0 for equal ones, NaN included, infinite where only one is finite."""
    if dtype(of_numpy(a.dtype)).is_whole:  # by value: the upper bits of a byte with few are nobody's
        return (a.astype(np.int64) != b.astype(np.int64)).astype(np.float64)
    if not real(a):
        bits = f"u{a.itemsize}"
        return (a.view(bits) != b.view(bits)).astype(np.float64)
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.where(same, 0.0, np.where(np.isfinite(x) & np.isfinite(y), np.abs(x - y), np.inf))


def _shaken(graph: Graph, feeds: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    values: dict[Value, Array] = {v: feeds[v.name] for v in graph.inputs}
    for node in graph.nodes():
        if node.op == "Const":
            values[Value(node)] = const_array(Value(node))
        elif node.op != "Input":
            for value, array in zip(node.results, evaluate(node, [values[a] for a in node.args]), strict=True):
                values[value] = _noisy(node, value, array, rng)
    return {name: values[value] for name, value in graph.results}


def _noisy(node: Node, value: Value, array: Array, rng: np.random.Generator) -> Array:
    unit = _UNITS.get(value.type.dtype)
    kind = OPS[node.op].kind
    if unit is None or node.op in _EXACT or (kind == "map" and node.op != "Resize"):
        return array
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        noise = _ELEMENTWISE * unit * np.abs(wide)
        if kind != "elementwise":
            largest = np.max(np.abs(wide[np.isfinite(wide)]), initial=0.0)
            noise = noise + _SUMS * min(unit, 2**-24) * largest
        return _moved(array, noise, rng)


def _moved(array: Array, noise: Any, rng: np.random.Generator) -> Array:
    with np.errstate(all="ignore"):
        wide = array.astype(np.float64) + noise * rng.choice([-1.0, 1.0, 0.5, -0.5], array.shape)
        return np.asarray(wide).astype(array.dtype)
