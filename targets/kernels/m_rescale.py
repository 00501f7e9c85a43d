"""A Rescale to bytes that is all that follows sums: what it reads, and instructions for its limits. No TVM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.compiler.ir import Value
from edgec.compiler.op import const_array, full_attrs, is_const
from edgec.compiler.registry import Problem

from .common import input_index


@dataclass(frozen=True)
class Limits:
    """What follows a rounded sum: + zero, within low .. high."""

    zero: int
    low: int
    high: int

    def lines(self, name: str, zero: str) -> list[str]:
        least, most = self.low - self.zero, self.high - self.zero
        if self.zero == -128 and least == 0 and most in (127, 255):
            return [f"usat {name}, #{most.bit_length()}, {name}"]
        found = [f"qadd {name}, {name}, {zero}"] if self.zero else []
        found.append(f"ssat {name}, #8, {name}")
        if self.low > -128:
            found += [f"cmp {name}, #{self.low}", "it lt", f"movlt {name}, #{self.low}"]
        if self.high < 127:
            found += [f"cmp {name}, #{self.high}", "it gt", f"movgt {name}, #{self.high}"]
        return found

    @property
    def flips(self) -> bool:
        """Whether the zero point is still to be added, by turning a bit of each byte."""
        least, most = self.low - self.zero, self.high - self.zero
        return self.zero == -128 and least == 0 and most in (127, 255)


@dataclass(frozen=True)
class Plain:
    """A Rescale to i8 that is all that follows: multipliers are a body input, one for each channel, or one number."""

    factors: Value | None
    factor: int  # bits of the number
    limits: Limits


def plain_rescale(problem: Problem) -> Plain | None:
    """What follows the anchor, where that is such a Rescale."""
    anchor, node = problem.anchor, problem.body.outputs[0].node
    if node.op != "Edgec.Rescale" or len(node.args) != 2 or node.args[0].node is not anchor:
        return None
    attrs: Any = full_attrs(node)
    shape, product = anchor.types[0].shape, "MatMul" in anchor.op
    channels = shape[-1 if product else 1]
    bias = anchor.args[2] if len(anchor.args) > 2 else None
    if attrs["to"] != "i8" or attrs["zeros"] != (0,) or bias is None or bias.shape != (channels,):
        return None
    limits, factors = Limits(attrs["zero"], attrs["low"], attrs["high"]), node.args[1]
    if input_index(problem.body, bias) < 0:
        return None
    if is_const(factors) and const_array(factors).size == 1:
        return Plain(None, int(const_array(factors).reshape(1).view("int32")[0]), limits)
    whole = (channels,) if product else (channels, *(1,) * (len(shape) - 2))
    here = factors.shape if not product else factors.shape[-1:]
    if input_index(problem.body, factors) < 0 or channels == 1 or here != whole or factors.type.size != channels:
        return None
    return Plain(factors, 0, limits)
