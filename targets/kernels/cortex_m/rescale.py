"""A Rescale to bytes that is all that follows sums: what it reads, and instructions for its limits. No TVM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import const_array, full_attrs, int_attr, is_const
from edgec.compiler.registry import Problem

from ..common import input_index
from ..conv.shape import conv_operands


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
    def adds(self) -> bool:
        """Whether the zero point is a number that is added."""
        return self.zero != 0 and not self.flips

    @property
    def form(self) -> str:
        """Of all but the zero point: equal where code is."""
        inner = self.low if self.low > -128 else None, self.high if self.high < 127 else None
        return f"{self.adds} {self.high if self.flips else inner}"

    @property
    def flips(self) -> bool:
        """Whether the zero point is still to be added, by turning a bit of each byte."""
        least, most = self.low - self.zero, self.high - self.zero
        return self.zero == -128 and least == 0 and most in (127, 255)


@dataclass(frozen=True)
class Residual:
    """Bytes of the result's shape that are added: less `zero`, times a number whose bits are `factor`.

    `bytes`: the sums were rescaled to bytes before, with limits of their own; those are taken less `own_zero`, times
    `own_factor`.
    """

    value: Value
    zero: int
    factor: int
    bytes: Limits | None = None
    own_zero: int = 0
    own_factor: int = 0


@dataclass(frozen=True)
class Plain:
    """A Rescale to i8 that is all that follows: multipliers are a body input, one for each channel, or one number.

    `shift`: by how much biases of 16 bits are moved up; None: they have 32.
    """

    factors: Value | None
    factor: int  # bits of the number
    limits: Limits
    residual: Residual | None = None
    shift: int | None = None

    @property
    def unit(self) -> int | None:
        """What a bias of 16 bits counts, where a product of halves makes 32 bits of it."""
        return 1 << self.shift if self.shift is not None and self.shift < 15 else None

    @property
    def short(self) -> bool:
        """Whether multipliers have 16 bits."""
        return self.factors is not None and self.factors.type.dtype == "bf16"

    @property
    def form(self) -> str:
        """Equal where code is, up to numbers that it may be given."""
        r = self.residual
        added = (r.bytes, r.own_zero, r.own_factor) if r else None
        unit = self.shift if self.unit is None else "given"
        return f"{self.factors is None} {self.short} {unit} {self.limits.form} {added}"


def plain_rescale(problem: Problem, residuals: bool = False) -> Plain | None:
    """What follows the anchor, where that is such a Rescale; with `residuals` it may add another tensor."""
    anchor, node = problem.anchor, problem.body.outputs[0].node
    if node.op != "Edgec.Rescale":
        return None
    attrs: Any = full_attrs(node)
    count = len(node.args) // 2
    terms = list(zip(node.args[:count], node.args[count:], attrs["zeros"], strict=True))
    own = next((t for t in terms if anchor in (t[0].node, *(a.node for a in t[0].node.args))), None)
    if own is None or attrs["to"] != "i8" or count > (2 if residuals else 1):
        return None
    others = [t for t in terms if t is not own]
    added = _residual(problem, *others[0]) if others else None
    if added and own[0].node is not anchor:
        added, own = _in_bytes(anchor, added, own)
    if own[0].node is not anchor or own[2]:
        return None
    _, _, bias = conv_operands(anchor)
    shape, product = anchor.types[0].shape, "MatMul" in anchor.op
    channels = shape[-1 if product else 1]
    if (others and not added) or bias is None or bias.shape != (channels,) or input_index(problem.body, bias) < 0:
        return None
    limits, factors = Limits(attrs["zero"], attrs["low"], attrs["high"]), own[1]
    shift = int_attr(anchor, "shift") if bias.type.dtype == "i16" else None
    if (number := _number(factors)) is not None:
        return Plain(None, number, limits, added, shift)
    whole = (channels,) if product else (channels, *(1,) * (len(shape) - 2))
    here = factors.shape if not product else factors.shape[-1:]
    if input_index(problem.body, factors) < 0 or channels == 1 or here != whole or factors.type.size != channels:
        return None
    return Plain(factors, 0, limits, added, shift)


def _number(value: Value) -> int | None:
    """The bits of a constant of one element."""
    if not is_const(value) or const_array(value).size != 1:
        return None
    return int(const_array(value).reshape(1).view("int32")[0])


def _residual(problem: Problem, value: Value, factors: Value, zero: int) -> Residual | None:
    whole = value.type.dtype == "i8" and value.shape == problem.anchor.types[0].shape
    number = _number(factors)
    return Residual(value, zero, number) if whole and number is not None and value in problem.body.inputs else None


_Term = tuple[Value, Value, int]  # what is rescaled, its multiplier, its zero point


def _in_bytes(anchor: Node, added: Residual, own: _Term) -> tuple[Residual | None, _Term]:
    """Where the anchor's bytes are added, not its sums: how they are made, and what of them is added."""
    node, number = own[0].node, _number(own[1])
    attrs: Any = full_attrs(node) if node.op == "Edgec.Rescale" else {}
    if not attrs or number is None or len(node.args) != 2 or attrs["to"] != "i8":
        return None, own
    limits = Limits(attrs["zero"], attrs["low"], attrs["high"])
    whole = replace(added, bytes=limits, own_zero=own[2], own_factor=number)
    return whole, (node.args[0], node.args[1], attrs["zeros"][0])
