"""What follows sums of bytes on Cortex-M with FPU and DSP extension: a Rescale in five instructions and limits."""

from __future__ import annotations

from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Node, Type, Value
from edgec.compiler.layout import layout
from edgec.compiler.op import full_attrs
from edgec.targets import tir
from edgec.targets.body import Body
from edgec.targets.integer import total
from edgec.targets.mathlib import fenced
from edgec.targets.tir import Expr, Index

from . import m_dsp
from .common import ceil_div

BYTE = {"i8": (-128, 127), "u8": (0, 255)}


def bind_rescales(body: Body) -> None:
    """Every Rescale of a body as this core does it best."""
    for node in body.graph.nodes():
        if node.op == "Edgec.Rescale":
            body.bind(Value(node), partial(_rescaled, body, node))


def _rescaled(body: Body, node: Node, index: Index) -> Expr:
    attrs: Any = full_attrs(node)
    zeros, to, zero, low, high = (attrs[key] for key in ("zeros", "to", "zero", "low", "high"))
    nearest = m_dsp.nearest(fenced(total(*body.terms(node, index), zeros=zeros)))
    return tirx.Cast({"u8": "uint8", "i8": "int8"}[to], limited(nearest, zero, low, high))


def limited(x: Expr, zero: int, low: int, high: int) -> Expr:
    """min(max(x + zero, low), high), whatever x is."""
    least, most = low - zero, high - zero
    if least == 0 and most in (127, 255):
        kept = m_dsp.saturated("usat", x, most.bit_length())
        return kept + tir.i32(zero) if zero else kept
    if BYTE["i8"][0] <= low and high <= BYTE["i8"][1]:
        kept = m_dsp.saturated("ssat", m_dsp.added(x, zero), 8)
        kept = tirx.max(kept, tir.i32(low)) if low > BYTE["i8"][0] else kept
        return tirx.min(kept, tir.i32(high)) if high < BYTE["i8"][1] else kept
    kept = m_dsp.saturated("usat", m_dsp.added(x, zero), 8)
    kept = tirx.max(kept, tir.i32(low)) if low > 0 else kept
    return tirx.min(kept, tir.i32(high)) if high < BYTE["u8"][1] else kept


def dense(t: Type) -> Type:
    """Channels in blocks that lie innermost are channels in a row, padding included."""
    letters = t.layout.rstrip("c0123456789")
    if letters not in ("NHWC", "NWC") or t.layout == letters:
        return t
    block = layout(t.layout, len(t.shape)).block(1)
    shape = (t.shape[0], ceil_div(t.shape[1], block) * block, *t.shape[2:])
    return Type(t.dtype, shape, letters, t.q)
