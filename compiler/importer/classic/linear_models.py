"""Converters of linear models: LinearRegressor and LinearClassifier of domain ai.onnx.ml."""

from __future__ import annotations

import numpy as np

from ...errors import EdgecError
from ...ir import Value
from ..context import Context
from ..table import Refused, Result, converts
from .scores import after, both, first_of_most, labels_of, matrix, rows, second_where


@converts("ai.onnx.ml.LinearRegressor")
def linear_regressor(c: Context) -> Result:
    targets, transform = int(c.attr("targets", 1)), str(c.attr("post_transform", "NONE"))
    if transform != "NONE" and targets == 1:
        raise Refused(f"its post_transform is {transform}", "for one target expected NONE")
    return after(c, _sums(c, rows(c), targets), transform)


@converts("ai.onnx.ml.LinearClassifier")
def linear_classifier(c: Context) -> Result:
    """The first class with the greatest score. One row of coefficients decides between two classes: by its sign."""
    known, transform = labels_of(c, "classlabels_ints"), str(c.attr("post_transform", "NONE"))
    x = rows(c)
    count = len(c.attr("coefficients", ())) // max(x.shape[1], 1)
    sums = _sums(c, x, count)
    if count == 1 and known.shape == (2,):
        above = c.emit("Greater", sums, c.const(0, like=sums))
        return second_where(c, known, above), both(c, sums, transform, opposite=False)
    if count != known.shape[0]:
        raise EdgecError(f"{c.where}: coefficients of {count} classes for {known.shape[0]} labels")
    return first_of_most(c, known, sums), after(c, sums, transform)


def _sums(c: Context, x: Value, count: int) -> Value:
    """Rows of features times each of `count` rows of coefficients, and the intercepts."""
    y = c.emit("MatMul", x, matrix(c, "coefficients", count, x.shape[1]))
    intercepts = np.asarray(c.attr("intercepts", ()), np.float32)
    if intercepts.size not in (0, count):
        raise EdgecError(f"{c.where}: {intercepts.size} intercepts for {count} rows of coefficients")
    return c.emit("Add", y, c.const(intercepts)) if intercepts.size else y
