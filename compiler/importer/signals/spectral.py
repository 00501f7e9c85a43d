"""Converters of what prepares signals and spectra: windows, and the weights of mel bands. All are constants."""

from __future__ import annotations

import numpy as np

from ...dtypes import dtype, of_onnx
from ...errors import EdgecError
from ...ops.common import Tensor
from ..context import FOLD_BYTES, Context
from ..table import Refused, Result, converts

# Coefficients of a sum of cosines of 0, 1, 2 ... turns along the window.
_COSINES = {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


@converts(*_COSINES)
def window(c: Context) -> Result:
    """`periodic`: the first numbers of a window that is one longer. A symmetric window of one number is its peak."""
    size = _number(c, 0, "size")
    if size < 0:
        raise EdgecError(f"{c.where}: its size is {size}; expected 0 or more")
    _check_count(size)
    period = size if c.attr("periodic", 1) else size - 1
    at = np.arange(size) / period if period else np.full(size, 0.5)
    values = sum(a * np.cos(2 * np.pi * k * at) for k, a in enumerate(_COSINES[c.op]))
    return _constant(c, np.asarray(values))


@converts("MelWeightMatrix")
def mel_weights(c: Context) -> Result:
    """Triangles whose corners are equally far apart on the mel scale, at whole positions of the spectrum."""
    bands, length, rate = (_number(c, k, what) for k, what in enumerate(("num_mel_bins", "dft_length", "sample_rate")))
    low, high = (float(c.array(k, what).reshape(-1)[0]) for k, what in ((3, "lower edge"), (4, "upper edge")))
    if bands < 0 or length < 1 or rate < 1 or not 0 <= low < high < np.inf:
        raise EdgecError(
            f"{c.where}: {bands} bands from {low} to {high} Hz make no sense of {length} numbers at {rate} Hz"
        )
    _check_count((length // 2 + 1) * bands)
    edges = 2595 * np.log10(1 + np.asarray([low, high]) / 700)
    # The distance of two corners is that of ONNX's own cases: as if there was one more of them.
    mels = edges[0] + np.arange(bands + 2) * (edges[1] - edges[0]) / (bands + 2)
    corners = np.floor((length + 1) * 700 * (10 ** (mels / 2595) - 1) / rate).astype(np.int64)
    return _constant(c, _triangles(corners, length // 2 + 1))


def _triangles(corners: Tensor, count: int) -> Tensor:
    weights = np.zeros((count, len(corners) - 2))
    for k, (left, peak, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for at in range(left, min(right, count)):
            rising = at <= peak
            weights[at, k] = (
                (at - left) / (peak - left)
                if rising and peak > left
                else 0
                if rising
                else (right - at) / (right - peak)
            )
        if peak < count:
            weights[peak, k] = 1
    return weights


def _number(c: Context, index: int, what: str) -> int:
    array = c.array(index, what)
    if array.size != 1:
        raise EdgecError(f"{c.where}: {what} has {array.size} elements; expected one")
    return int(array.reshape(-1)[0])


def _check_count(count: int) -> None:
    """Refuse constants that nobody means, before anything is allocated for them."""
    if 8 * count > FOLD_BYTES:
        raise Refused(f"it makes a constant of {count} numbers", f"expected at most {FOLD_BYTES // 8}")


def _constant(c: Context, values: Tensor) -> Result:
    kind = of_onnx(int(c.attr("output_datatype", 1)))
    if kind is None or kind == "bool" or not (dtype(kind).is_float or dtype(kind).is_int):
        raise Refused(f"its output_datatype is {c.attr('output_datatype')}", "expected a type of numbers")
    return c.const(values, like=kind)
