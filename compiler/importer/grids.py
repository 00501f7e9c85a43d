"""Converters of operators that sample at computed positions, and of the grids of such positions."""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import EdgecError
from ..ops.common import Tensor
from .context import Context
from .table import Refused, Result, converts


@converts("AffineGrid")
def affine_grid(c: Context) -> Result:
    """Matrices times the positions of an even grid, (x, y, 1) or (x, y, z, 1). f16 and bf16 are computed in f32."""
    sizes = c.ints(1, "size") or ()
    rank = len(sizes) - 2
    if rank not in (2, 3) or min(sizes) < 0 or c.shape != (sizes[0], rank, rank + 1):
        raise EdgecError(f"{c.where}: matrices {c.arg().type} and a size of {list(sizes)} do not fit")
    axes = [_even(n, bool(c.attr("align_corners", 0))) for n in sizes[2:]]
    grids = np.meshgrid(*axes, indexing="ij")[::-1]
    places = np.stack([*(g.reshape(-1) for g in grids), np.ones(prod(sizes[2:]))])
    theta = c.cast(c.arg(), "f64" if c.dtype == "f64" else "f32")
    y = c.transpose(c.emit("MatMul", theta, c.const(places[None], like=theta)), (0, 2, 1))
    return c.cast(c.reshape(y, (sizes[0], *sizes[2:], rank)), c.dtype)


@converts("GridSample")
def grid_sample(c: Context) -> Result:
    """Opset 20 calls the modes otherwise."""
    mode = str(c.attr("mode", "linear"))
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    padding, corners = str(c.attr("padding_mode", "zeros")), int(bool(c.attr("align_corners", 0)))
    if not 3 <= c.rank <= 5:
        raise Refused(f"it samples {c.arg().type}", "expected one, two or three spatial axes")
    return c.emit("GridSample", c.arg(0), c.arg(1), mode=mode, padding_mode=padding, align_corners=corners)


def _even(n: int, corners: bool) -> Tensor:
    """Positions from -1 to 1: of the first and last pixel's centres, or of their outer edges.

    The centre of a single pixel is at -1, as ONNX's definition of the operator has it along the depth.
    """
    if corners:
        return np.linspace(-1, 1, n) if n > 1 else np.full(n, -1.0)
    return (2 * np.arange(n) + 1) / max(n, 1) - 1
