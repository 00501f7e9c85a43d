"""Converters that undo windows: MaxUnpool, Col2Im."""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import EdgecError
from .context import Context
from .table import Refused, Result, converts
from .windows import Ints, spatial


@converts("MaxUnpool")
def max_unpool(c: Context) -> Result:
    """Updates of zeros at positions in the tensor that the windows reach; output_shape pads that at its ends.

    The text leaves open whether positions count in output_shape where it is another; the official suite has it so.
    """
    kernel: Ints = tuple(int(k) for k in c.attr("kernel_shape", ()))
    rank = c.rank - 2
    if rank < 1 or len(kernel) != rank or c.arg(1).shape != c.shape:
        raise EdgecError(f"{c.where}: a window of {list(kernel)} and indices {c.arg(1).type} do not fit {c.arg().type}")
    strides, pads = spatial(c, "strides", rank, 1), spatial(c, "pads", 2 * rank, 0)
    reach = tuple((n - 1) * strides[k] - pads[k] - pads[k + rank] + kernel[k] for k, n in enumerate(c.shape[2:]))
    shape = (*c.shape[:2], *reach)
    if min(reach) < 1:
        raise EdgecError(f"{c.where}: its pads {list(pads)} leave nothing of {list(shape)}")
    wanted = c.ints(2, "output_shape") or shape
    extra = tuple(n - m for n, m in zip(wanted, shape, strict=True))
    if min(extra) < 0:
        raise Refused(f"its output_shape {list(wanted)} is smaller than {list(shape)}, which its windows reach")
    zero = c.const(np.zeros(()), like=c.arg())
    places, values = (c.reshape(c.arg(k), (prod(c.shape), *(1,) * one)) for k, one in ((1, 1), (0, 0)))
    y = c.reshape(c.emit("ScatterND", zero, places, values, reduction="none", shape=(prod(shape),)), shape)
    return c.emit("Pad", y, pads=(*(0,) * c.rank, *extra)) if any(extra) else y


@converts("Col2Im")
def columns_to_image(c: Context) -> Result:
    image, block = c.ints(1, "image_shape") or (), c.ints(2, "block_shape") or ()
    rank = len(image)
    attrs = {
        key: spatial(c, key, count, default)
        for key, count, default in (("strides", rank, 1), ("pads", 2 * rank, 0), ("dilations", rank, 1))
    }
    return c.emit("Col2Im", c.arg(), image_shape=image, block_shape=block, **attrs)
