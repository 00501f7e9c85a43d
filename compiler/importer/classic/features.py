"""Converters of operators of domain ai.onnx.ml that prepare features and that name results."""

from __future__ import annotations

from math import floor, prod
from typing import Any

import numpy as np

from ...dtypes import DTYPES, dtype, of_numpy
from ...errors import EdgecError
from ...ir import Value
from ..context import Context
from ..positions import counted
from ..table import Refused, Result, converts

_STRINGS = "prepare text in your program, and give the model numbers"


@converts("ai.onnx.ml.Binarizer")
def binarizer(c: Context) -> Result:
    """One above the threshold, zero elsewhere; for an integer only the whole part of a threshold matters."""
    x, threshold = c.arg(), float(c.attr("threshold", 0.0))
    edge = c.const(threshold if dtype(c.dtype).is_float else floor(threshold), like=x)
    return c.cast(c.emit("Greater", x, edge), c.dtype)


@converts("ai.onnx.ml.ArrayFeatureExtractor")
def array_feature_extractor(c: Context) -> Result:
    """Columns of the last axis; a row of them becomes a matrix of one."""
    x, indices = c.arg(0), c.arg(1)
    if not c.rank:
        raise EdgecError(f"{c.where}: a scalar has no features")
    x = x if c.rank > 1 else c.reshape(x, (1, *x.shape))
    axis, count = len(x.shape) - 1, prod(indices.shape)
    return c.emit("Gather", x, counted(c, c.reshape(indices, (count,)), x.shape[axis], axis), axis=axis)


@converts("ai.onnx.ml.Scaler")
def scaler(c: Context) -> Result:
    """(x - offset) * scale, one for all or one per feature; rounded to f32 at the end."""
    x = c.arg() if c.dtype == "f64" else c.cast(c.arg(), "f32")
    x = c.emit("Sub", x, _per_feature(c, "offset", x))
    return c.cast(c.emit("Mul", x, _per_feature(c, "scale", x)), "f32")


@converts("ai.onnx.ml.Normalizer")
def normalizer(c: Context) -> Result:
    """Each row divided by its norm: the greatest element, the sum of magnitudes, or the root of the sum of squares. A
    row of norm zero stays as it is."""
    x, kind = c.cast(c.arg(), "f32"), str(c.attr("norm", "MAX"))
    op = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}.get(kind)
    if op is None:
        raise EdgecError(f"{c.where}: norm {kind!r} is unknown; expected MAX, L1 or L2")
    norm = c.emit(op, x, axes=(c.rank - 1,), keepdims=1)
    return c.emit("Div", x, c.emit("Where", c.emit("Equal", norm, c.const(0, like=x)), c.const(1, like=x), norm))


@converts("ai.onnx.ml.Imputer")
def imputer(c: Context) -> Result:
    """What equals one value, which may be NaN, becomes another."""
    x, real = c.arg(), dtype(c.dtype).is_float
    name = "imputed_value_floats" if real else "imputed_value_int64s"
    missing = c.attr("replaced_value_float" if real else "replaced_value_int64", 0)
    gone = c.emit("IsNaN", x) if real and np.isnan(missing) else c.emit("Equal", x, c.const(missing, like=x))
    return c.emit("Where", gone, _per_feature(c, name, x), x)


@converts("ai.onnx.ml.FeatureVectorizer")
def feature_vectorizer(c: Context) -> Result:
    """Arguments beside each other in f32, each cut or filled up with zeros to its number of columns."""
    columns = [int(n) for n in c.attr("inputdimensions", ())]
    if len(columns) != len(c.args):
        raise EdgecError(f"{c.where}: {len(c.args)} arguments and {len(columns)} inputdimensions")
    parts = []
    for k, wanted in enumerate(columns):
        x = c.cast(c.arg(k), "f32")
        count = x.shape[0] if len(x.shape) > 1 else 1
        x = c.reshape(x, (count, prod(x.shape) // max(count, 1)))
        x = c.slice(x, 1, 0, min(wanted, x.shape[1]))
        if x.shape[1] < wanted:
            zeros = c.const(np.zeros((x.shape[0], wanted - x.shape[1]), np.float32))
            x = c.emit("Concat", x, zeros, axis=1)
        parts.append(x)
    return parts[0] if len(parts) == 1 else c.emit("Concat", *parts, axis=1)


@converts("ai.onnx.ml.OneHotEncoder")
def one_hot_encoder(c: Context) -> Result:
    """A last axis with a one where the category is the element, its fraction cut off; no one where none is."""
    if c.attr("cats_strings"):
        raise Refused("its categories are strings", _STRINGS)
    if not int(c.attr("zeros", 1)):
        raise Refused("it fails where a category is unknown (zeros=0)", "expected zeros=1")
    x = c.cast(c.arg(), "i64")
    known = c.const(np.asarray(c.attr("cats_int64s", ()), np.int64))
    return c.cast(c.emit("Equal", c.reshape(x, (*x.shape, 1)), known), "f32")


@converts("ai.onnx.ml.LabelEncoder")
def label_encoder(c: Context) -> Result:
    """The value of the first key that an element is, or the default; NaN is NaN."""
    if any(c.attr(f"{part}_strings", ()) for part in ("keys", "values", "classes")) or _is_text(c):
        raise Refused("it maps from or to strings", _STRINGS)
    keys, values = _listed(c, "keys", c.dtype), _listed(c, "values", "")
    if keys.size != values.size or not keys.size:
        raise EdgecError(f"{c.where}: {keys.size} keys and {values.size} values")
    x, kind = c.arg(), of_numpy(values.dtype)
    equal = _nan_is_nan(c, c.reshape(x, (*x.shape, 1)), keys)
    place = c.emit("ArgMax", c.cast(equal, "i32"), axis=len(x.shape), keepdims=0)
    found = c.emit("Gather", c.const(values), place, axis=0)
    some = c.emit("ReduceMax", c.cast(equal, "i32"), axes=(len(x.shape),), keepdims=0)
    return c.emit("Where", c.cast(some, "bool"), found, c.const(_default(c, kind), kind))


@converts("ai.onnx.ml.ZipMap")
def zip_map(c: Context) -> Result:
    """A map per row, from label to score, is that row: its columns in the order of the labels."""
    labels = c.attr("classlabels_int64s") or c.attr("classlabels_strings") or ()
    x = c.arg() if c.rank == 2 else c.reshape(c.arg(), (1, *c.shape))
    if len(labels) != x.shape[1]:
        raise EdgecError(f"{c.where}: {len(labels)} labels for {x.shape[1]} columns")
    order = sorted(range(len(labels)), key=lambda k: labels[k])
    if order == list(range(len(labels))):
        return x
    return c.emit("Gather", x, c.const(np.asarray(order, np.int64)), axis=1)


def _per_feature(c: Context, name: str, like: Value) -> Value:
    """An attribute with one number for all, or one per feature."""
    given = np.reshape(c.attr(name, ()), -1)
    if given.size not in (1, like.shape[-1] if like.shape else 1):
        raise EdgecError(f"{c.where}: {name} has {given.size} entries for {like.type}")
    return c.const(given, like=like)


def _listed(c: Context, what: str, kind: str) -> np.ndarray:
    """Keys or values: a tensor, or one of the lists; keys are of the argument's type."""
    tensor = c.attr(f"{what}_tensor")
    if tensor is not None:
        array = np.reshape(tensor, -1)
    else:
        floats, ints = c.attr(f"{what}_floats", ()), c.attr(f"{what}_int64s", ())
        array = np.asarray(floats, np.float32) if floats else np.asarray(ints, np.int64)
    return array.astype(DTYPES[kind].numpy) if kind else array


def _is_text(c: Context) -> bool:
    """Whether keys or values are a tensor of strings."""
    tensors = (c.attr("keys_tensor"), c.attr("values_tensor"))
    return any(t is not None and np.asarray(t).dtype.kind in "OSU" for t in tensors)


def _default(c: Context, kind: str) -> Any:
    tensor = c.attr("default_tensor")
    if tensor is not None and np.size(tensor):
        return np.reshape(tensor, -1)[0]
    return c.attr("default_float", -0.0) if dtype(kind).is_float else c.attr("default_int64", -1)


def _nan_is_nan(c: Context, x: Value, keys: np.ndarray) -> Value:
    """Where elements equal keys; NaN equals NaN."""
    equal = c.emit("Equal", x, c.const(keys))
    if not dtype(x.type.dtype).is_float or not np.isnan(keys).any():
        return equal
    return c.emit("Or", equal, c.emit("And", c.emit("IsNaN", x), c.const(np.isnan(keys))))
