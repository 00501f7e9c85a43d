"""Bytes from sums by one multiply-add: what `Edgec.Rescale` becomes where constants allow it (pass `rescale-once`)."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..once import CENTER
from ..op import REQUIRED, op
from .common import Tensor, broadcast, limits, require
from .integer import BYTES


def _rescaled(t: Type, factor: Type, addend: Type, to: str, low: int, high: int, bits: int) -> tuple[Type, ...]:
    require(t, frozenset({"i32"}), "sums")
    for operand, what in ((factor, "factor"), (addend, "addend")):
        require(operand, frozenset({"f32"}), what)
    require(Type(to, ()), BYTES, "result")
    least, most = limits(to)
    if not least <= low <= high <= most:
        raise IRError(f"limits {low} .. {high} are no part of {to}")
    if bits not in (16, 32):
        raise IRError(f"bits is {bits}; expected 16 or 32")
    if broadcast(t.shape, factor.shape, addend.shape) != t.shape:
        raise IRError(f"factor {factor} or addend {addend} are larger than the result {list(t.shape)}")
    return (Type(to, t.shape),)


def rescale_once(t: Tensor, factor: Tensor, addend: Tensor, to: str, low: int, high: int, bits: int) -> Tensor:
    """f * factor + addend - 3 * 2**22, rounded half to even, at least `low` and at most `high`, where f is the float of
    t's bits, and addend a whole number. `bits` hold what is limited."""
    product = t.view(np.float32).astype(np.float64) * factor  # exact: 48 bits
    floor = np.floor(product)
    rest = product - floor
    whole = floor + addend
    whole += (rest > 0.5) | ((rest == 0.5) & (whole % 2 == 1))
    return np.asarray(np.clip(whole - CENTER, low, high)).astype({"u8": np.uint8, "i8": np.int8}[to])


op(
    "Edgec.RescaleOnce",
    3,
    _rescaled,
    rescale_once,
    kind="elementwise",
    attrs={"to": REQUIRED, "low": REQUIRED, "high": REQUIRED, "bits": 32},
)
