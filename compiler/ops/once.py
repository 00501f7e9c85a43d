"""Bytes from sums by one multiply-add: what `Edgec.Rescale` becomes where constants allow it (pass `rescale-once`)."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from ..rescale.once import CENTER
from .common import Tensor, broadcast, limits, require
from .integer import BYTES, MULTIPLIERS


def _rescaled(
    t: Type, factor: Type, *addend: Type, to: str, zero: int, low: int, high: int, bits: int
) -> tuple[Type, ...]:
    require(t, frozenset({"i32"}), "sums")
    require(factor, frozenset({"f32"}) if addend else MULTIPLIERS, "factor")
    for operand in addend:
        require(operand, frozenset({"f32"}), "addend")
    require(Type(to, ()), BYTES, "result")
    least, most = limits(to)
    if not least <= low <= high <= most:
        raise IRError(f"limits {low} .. {high} are no part of {to}")
    if not least <= zero <= most or (addend and zero):
        raise IRError(f"zero point {zero} does not fit {to}, or an addend that holds it")
    if bits not in (16, 32):
        raise IRError(f"bits is {bits}; expected 16 or 32")
    if broadcast(t.shape, factor.shape, *(a.shape for a in addend)) != t.shape:
        raise IRError(f"factor {factor} or addend {', '.join(map(str, addend))} are larger than {list(t.shape)}")
    return (Type(to, t.shape),)


def rescale_once(
    t: Tensor, factor: Tensor, *addend: Tensor, to: str, zero: int, low: int, high: int, bits: int
) -> Tensor:
    """t * factor + zero, rounded half to even, at least `low` and at most `high`.

    With an addend, a whole number: f * factor + addend - 3 * 2**22 instead, where f is the float of t's bits. `bits`
    hold what is limited."""
    terms = t.view(np.float32) if addend else t
    product = terms.astype(np.float64) * factor.astype(np.float64)  # exact: 48 bits
    floor = np.floor(product)
    rest = product - floor
    whole = floor + (addend[0] if addend else zero)
    whole += (rest > 0.5) | ((rest == 0.5) & (whole % 2 == 1))
    return np.asarray(np.clip(whole - CENTER if addend else whole, low, high)).astype(
        {"u8": np.uint8, "i8": np.int8}[to]
    )


op(
    "Edgec.RescaleOnce",
    (2, 3),
    _rescaled,
    rescale_once,
    kind="elementwise",
    attrs={"to": REQUIRED, "zero": 0, "low": REQUIRED, "high": REQUIRED, "bits": 32},
)
