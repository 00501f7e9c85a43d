"""Resampling: Resize, as a weighted sum of a few input positions along each axis in turn.

`axis_taps` gives positions and weights; everything that executes Resize reads them from there.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Node, Type
from ..op import REQUIRED, full_attrs, op
from .common import ORDERED, Ints, Tensor, dtype_of, reach, require, widened


def resized_length(size: int, out: int, scale: float) -> float:
    """The output's length before it was cut to a whole number; scales are f32, so a near miss of `out` is `out`.

    With align_corners ONNX's own cases count with this length, ONNX Runtime with the cut one.
    """
    length = scale * size
    return out if abs(length - out) < 1e-5 * out else length


# (output position, scale, input size, output size) -> input position, all as real numbers
COORDINATES: dict[str, Callable[[int, float, int, int], float]] = {
    "half_pixel": lambda i, s, n, m: (i + 0.5) / s - 0.5,
    "half_pixel_symmetric": lambda i, s, n, m: n / 2 * (1 - m / resized_length(n, m, s)) + (i + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda i, s, n, m: (i + 0.5) / s - 0.5 if m > 1 else 0.0,
    "align_corners": lambda i, s, n, m: i * (n - 1) / (resized_length(n, m, s) - 1) if m > 1 else 0.0,
    "asymmetric": lambda i, s, n, m: i / s,
    "tf_half_pixel_for_nn": lambda i, s, n, m: (i + 0.5) / s,
}
NEAREST: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda p: -floor(0.5 - p),
    "round_prefer_ceil": lambda p: floor(p + 0.5),
    "floor": floor,
    "ceil": lambda p: -floor(-p),
}


def _cubic(t: float, a: float) -> list[float]:
    """Weights of the four neighbours of a position that lies `t` behind the second (Keys, 1981)."""

    def near(u: float) -> float:
        return ((a + 2) * u - (a + 3)) * u * u + 1

    def far(u: float) -> float:
        return ((a * u - 5 * a) * u + 8 * a) * u - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def axis_taps(
    size: int,
    out: int,
    scale: float,
    *,
    mode: str,
    coordinate_transformation_mode: str,
    nearest_mode: str,
    cubic_coeff_a: float,
    exclude_outside: int,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """(positions i64[out, taps], weights f64[out, taps]) along one axis; positions are within [0, size)."""
    place, nearest = COORDINATES[coordinate_transformation_mode], NEAREST[nearest_mode]
    positions, weights = [], []
    for i in range(out):
        at = place(i, scale, size, out)
        base = floor(at)
        if mode == "nearest":
            taps, factors = [nearest(float(np.float32(at)))], [1.0]  # to the precision of scales: 2 / 0.8f is a half
        elif mode == "linear":
            taps, factors = [base, base + 1], [1 - (at - base), at - base]
        else:
            taps, factors = [base - 1, base, base + 1, base + 2], _cubic(at - base, cubic_coeff_a)
        if exclude_outside and mode != "nearest":
            factors = [f if 0 <= t < size else 0.0 for t, f in zip(taps, factors, strict=True)]
            total = sum(factors)
            factors = [f / total for f in factors] if total else factors
        positions.append([min(max(t, 0), size - 1) for t in taps])
        weights.append(factors)
    return np.asarray(positions, np.int64), np.asarray(weights, np.float64)


def blends(node: Node) -> bool:
    """Whether a map computes its elements from several: what it gives is rounded, and its kernels take time."""
    return node.op == "Resize" and full_attrs(node)["mode"] != "nearest"


def _resized(x: Type, sizes: Ints, scales: tuple[float, ...], **attrs: Any) -> tuple[Type, ...]:
    if len(sizes) != len(x.shape) or len(scales) != len(x.shape):
        raise IRError(f"sizes {list(sizes)} and scales {list(scales)} do not fit {x}")
    if attrs["mode"] not in ("nearest", "linear", "cubic"):
        raise IRError(f"mode {attrs['mode']!r} is unknown; expected nearest, linear or cubic")
    if attrs["mode"] != "nearest":
        require(x, ORDERED)
    for key, known in (("coordinate_transformation_mode", COORDINATES), ("nearest_mode", NEAREST)):
        if attrs[key] not in known:
            raise IRError(f"{key} {attrs[key]!r} is unknown; expected one of {', '.join(known)}")
    if min(sizes, default=0) < 0 or min(scales, default=1) <= 0 or 0 in x.shape:
        raise IRError(f"{x} cannot be resized to {list(sizes)}")
    return (Type(x.dtype, tuple(sizes)),)


def resize(x: Tensor, sizes: Ints, scales: tuple[float, ...], **attrs: Any) -> Tensor:
    """One axis after the other; axes that keep their size at scale 1 are not touched.

    Integers are cut, after cubic weights, which reach beyond the numbers that they blend, rounded and saturated.
    """
    if 0 in sizes:
        return np.empty(sizes, x.dtype)
    y = x if attrs["mode"] == "nearest" else widened(x)
    for axis, (out, scale) in enumerate(zip(sizes, scales, strict=True)):
        if out == x.shape[axis] and scale == 1:
            continue
        positions, weights = axis_taps(x.shape[axis], out, scale, **attrs)
        if attrs["mode"] == "nearest":
            y = np.take(y, positions[:, 0], axis)
            continue
        shape = [-1 if k == axis else 1 for k in range(x.ndim)]
        factor = weights.astype(y.dtype if y.dtype.kind == "f" else np.float64)
        y = sum(np.take(y, positions[:, t], axis) * factor[:, t].reshape(shape) for t in range(positions.shape[1]))
    if attrs["mode"] == "cubic" and x.dtype.kind in "iu":
        return np.clip(np.rint(y), *reach(dtype_of(x))).astype(x.dtype)
    return y.astype(x.dtype)


op(
    "Resize",
    1,
    _resized,
    resize,
    attrs={
        "sizes": REQUIRED,
        "scales": REQUIRED,
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_floor",
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "extrapolation_value": 0.0,
    },
)
