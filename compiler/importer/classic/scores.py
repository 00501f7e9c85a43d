"""What classifiers and regressors of domain ai.onnx.ml share: rows of features, scores, and the labels of classes."""

from __future__ import annotations

import numpy as np

from ...errors import EdgecError
from ...ir import Value
from ..context import Context
from ..table import Refused

_AFTER = {"NONE": None, "SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}


def rows(c: Context) -> Value:
    """The argument as rows of features in f32, in which ONNX Runtime computes; one row may come without its axis."""
    x = c.cast(c.arg(), "f32")
    if c.rank not in (1, 2):
        raise EdgecError(f"{c.where}: takes rows of features, got {x.type}")
    return c.reshape(x, (1, *x.shape)) if c.rank == 1 else x


def matrix(c: Context, name: str, count: int, columns: int) -> Value:
    """An attribute that lists `count` rows, as the f32 matrix of shape (columns, count)."""
    given = np.asarray(c.attr(name, ()), np.float32)
    if given.size != count * columns:
        raise EdgecError(f"{c.where}: {name} has {given.size} entries; expected {count} rows of {columns}")
    return c.const(given.reshape(count, columns).T)


def after(c: Context, y: Value, name: str) -> Value:
    """Scores behind their post_transform."""
    if name not in _AFTER:
        raise Refused(f"its post_transform is {name}", f"expected one of {', '.join(_AFTER)}")
    op = _AFTER[name]
    return y if op is None else c.emit(op, y, axis=1) if op == "Softmax" else c.emit(op, y)


def labels_of(c: Context, name: str) -> Value:
    """The labels of the classes, integers. Strings are refused where somebody reads labels; else any will do."""
    words = c.attr("classlabels_strings", ())
    if words and c.wants(0):
        raise Refused("its classes are strings", f"expected {name}; or cut off the output with the labels")
    labels = [int(v) for v in c.attr(name, ())] or list(range(len(words)))
    if len(labels) < 2:
        raise Refused(f"it has {len(labels)} classes", "expected two or more")
    return c.const(np.asarray(labels, np.int64))


def first_of_most(c: Context, known: Value, scores: Value) -> Value:
    """The label of the first class with the greatest score, of each row."""
    return c.emit("Gather", known, c.emit("ArgMax", scores, axis=1, keepdims=0), axis=0)


def second_where(c: Context, known: Value, above: Value) -> Value:
    """The second of two labels where a column of booleans is true."""
    chosen = c.cast(c.reshape(above, above.shape[:1]), "i64")
    return c.emit("Gather", known, chosen, axis=0)


def both(c: Context, score: Value, name: str, opposite: bool) -> Value:
    """Scores of two classes from that of the second, as ONNX Runtime has it; the text leaves it open. `opposite`: the
    first's is the negative, not what is missing to one."""
    if name not in ("NONE", "LOGISTIC"):
        raise Refused(f"its post_transform is {name}", "for two classes expected NONE or LOGISTIC")
    if opposite or name == "LOGISTIC":
        first = c.emit("Neg", score)
    else:
        first = c.emit("Sub", c.const(1, like=score), score)
    return after(c, c.emit("Concat", first, score, axis=1), name)
