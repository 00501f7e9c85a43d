"""Converters of support vector machines: SVMRegressor and SVMClassifier of domain ai.onnx.ml.

Probabilities are another matter (`coupling.py`): they are computed from the scores that are here.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ...errors import EdgecError
from ...ir import Value
from ..context import Context
from ..table import Refused, Result, converts
from .scores import after, first_of_most, labels_of, matrix, rows, second_where


@converts("ai.onnx.ml.SVMRegressor")
def svm_regressor(c: Context) -> Result:
    """One target; `one_class`: its sign."""
    if str(c.attr("post_transform", "NONE")) != "NONE":
        raise Refused(f"its post_transform is {c.attr('post_transform')}", "expected NONE")
    x, weights = rows(c), np.asarray(c.attr("coefficients", ()), np.float32)
    count = int(c.attr("n_supports", 0))
    near = _kernel(c, x, count) if count else x
    if weights.size != near.shape[1]:
        raise EdgecError(f"{c.where}: {weights.size} coefficients; expected {near.shape[1]}")
    y = c.emit("Add", c.emit("MatMul", near, c.const(weights[:, None])), c.const(_rho(c, 1)))
    if not c.attr("one_class", 0):
        return y
    return c.emit("Where", c.emit("Greater", y, c.const(0, like=y)), c.const(1, like=y), c.const(-1, like=y))


@converts("ai.onnx.ml.SVMClassifier")
def svm_classifier(c: Context) -> Result:
    """The class that most pairs of classes are decided for, and the score of each pair; without support vectors the
    class with the greatest score. Of two classes the scores are that of their pair, and its negative first."""
    known, transform = labels_of(c, "classlabels_ints"), str(c.attr("post_transform", "NONE"))
    counts = [int(n) for n in c.attr("vectors_per_class", ())]
    x, classes = rows(c), known.shape[0]
    if not counts:
        return _linear(c, x, known, transform)
    if len(counts) != classes:
        raise EdgecError(f"{c.where}: vectors_per_class has {len(counts)} entries for {classes} classes")
    pairs = list(combinations(range(classes), 2))
    near = _kernel(c, x, sum(counts))
    scores = c.emit("Add", c.emit("MatMul", near, c.const(_by_pair(c, counts, pairs))), c.const(_rho(c, len(pairs))))
    above = c.emit("Greater", scores, c.const(0, like=scores))
    if classes == 2:
        if transform != "NONE":
            raise Refused(f"its post_transform is {transform}", "for two classes expected NONE")
        return second_where(c, known, c.emit("Not", above)), c.emit("Concat", c.emit("Neg", scores), scores, axis=1)
    wins = np.zeros((2, len(pairs), classes), np.float32)  # votes where a pair's score is, and is not, above zero
    for k, pair in enumerate(pairs):
        wins[0, k, pair[0]] = wins[1, k, pair[1]] = 1
    votes = c.emit("MatMul", c.cast(above, "f32"), c.const(wins[0] - wins[1]))
    votes = c.emit("Add", votes, c.const(wins[1].sum(0)))
    return first_of_most(c, known, votes), after(c, scores, transform)


def _linear(c: Context, x: Value, known: Value, transform: str) -> Result:
    classes = known.shape[0]
    if classes == 2:
        raise Refused("it has two classes and no support vectors", "write it as a LinearClassifier")
    scores = c.emit("MatMul", x, matrix(c, "coefficients", classes, x.shape[1]))
    scores = c.emit("Add", scores, c.const(_rho(c, 1)))
    return first_of_most(c, known, scores), after(c, scores, transform)


def _kernel(c: Context, x: Value, count: int) -> Value:
    """How near rows are to each of `count` support vectors, by the kernel function."""
    vectors = np.asarray(c.attr("support_vectors", ()), np.float32)
    if vectors.size != count * x.shape[1]:
        raise EdgecError(f"{c.where}: {vectors.size} numbers for {count} support vectors of {x.shape[1]} features")
    kind, columns = str(c.attr("kernel_type", "LINEAR")), vectors.reshape(count, -1).T
    gamma, start, degree = (*(float(p) for p in c.attr("kernel_params", ())), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        # differences, not |a|^2 - 2ab + |b|^2, which cancels; support vectors along the last axis
        off = c.emit("Sub", c.reshape(x, (*x.shape, 1)), c.const(columns[None]))
        square = c.emit("ReduceSum", c.emit("Mul", off, off), axes=(1,), keepdims=0)
        return c.emit("Exp", c.emit("Mul", square, c.const(-gamma, like=x)))
    if kind == "LINEAR":
        return c.emit("MatMul", x, c.const(columns))
    if kind not in ("POLY", "SIGMOID"):
        raise EdgecError(f"{c.where}: kernel_type {kind!r} is unknown; expected LINEAR, POLY, RBF or SIGMOID")
    y = c.emit("MatMul", x, c.const(columns * np.float32(gamma)))
    y = c.emit("Add", y, c.const(start, like=x))
    return c.emit("Tanh", y) if kind == "SIGMOID" else c.emit("Pow", y, c.const(degree, like=x))


def _by_pair(c: Context, counts: list[int], pairs: list[tuple[int, int]]) -> np.ndarray:
    """Weights of the vectors for each pair of classes; the list has one per vector for each other class."""
    total, classes = sum(counts), len(counts)
    given = np.asarray(c.attr("coefficients", ()), np.float32)
    if given.size != (classes - 1) * total:
        raise EdgecError(f"{c.where}: {given.size} coefficients; expected {classes - 1} for each of {total} vectors")
    table, starts = given.reshape(classes - 1, total), np.cumsum([0, *counts])
    found = np.zeros((total, len(pairs)), np.float32)
    for k, (i, j) in enumerate(pairs):
        of_i, of_j = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        found[of_i, k] = table[j - 1, of_i]
        found[of_j, k] = table[i, of_j]
    return found


def _rho(c: Context, count: int) -> np.ndarray:
    rho = np.asarray(c.attr("rho", ()), np.float32)
    if rho.size < count:
        raise EdgecError(f"{c.where}: rho has {rho.size} entries; expected {count}")
    return rho[:count]
