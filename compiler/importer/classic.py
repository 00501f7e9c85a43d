"""Converters of operators of domain ai.onnx.ml that existing ones can write: Binarizer, ArrayFeatureExtractor."""

from __future__ import annotations

from math import floor, prod

from ..dtypes import dtype
from ..errors import EdgecError
from .context import Context
from .positions import counted
from .table import Result, converts


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
