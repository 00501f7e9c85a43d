"""Dropout, which draws random numbers in training mode only."""

from __future__ import annotations

from ..op import is_const
from .context import Context
from .table import Refused, Result, converts


@converts("Dropout")
def dropout(c: Context) -> Result:
    """Nothing at inference, nor where nothing is to be dropped; the mask keeps everything."""
    if _drops(c):
        raise Refused("it drops values at random in training mode", "export the model for inference")
    if not c.wants(1):
        return c.arg()
    return c.arg(), c.emit("Expand", c.const(1, like=c.arg() if c.opset < 10 else "bool"), shape=c.shape)


def _drops(c: Context) -> bool:
    """Whether it is in training mode with a ratio other than zero."""
    if c.opset < 12:
        return c.opset < 7 and not c.attr("is_test", 0) and bool(c.attr("ratio", 0.5))
    if c.has(1) and is_const(c.arg(1)) and not c.array(1, "ratio").any():
        return False
    return c.has(2) and bool(c.array(2, "training_mode").any()) and (not c.has(1) or bool(c.array(1, "ratio").any()))
