"""Transposed convolutions of quantized tensors become plain ones (phases.py), whose sums are integers.

What limits their results stands before the phases are woven into the image: bytes are woven then.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from edgec.compiler.ir import Value
from edgec.compiler.op import build, const, int_attr, rebuild
from edgec.compiler.rewrite import Sweep, python_rule

from ..phase_axes import axes_of
from ..transposed import filters_of_phases, image_of_phases, margins_of
from .constants import filters, real_constant
from .ends import lying

WEAVES = ("DepthToSpace", "Reshape", "Transpose", "Slice")


@python_rule("ConvTranspose")
def transposed_of_bytes(value: Value, sweep: Sweep) -> Value | str | None:
    """One convolution of all phases, with the same integers for weights."""
    node = value.node
    x, w, b = node.args
    if lying(x.node) is None:
        return None
    found, bias, axes = filters(w, 1), real_constant(b), axes_of(node)
    if found is None or bias is None or isinstance(axes, str):
        return axes if isinstance(axes, str) else "weights or bias are not constant in 8 bits"
    if int_attr(node, "group") != 1:
        return "it has groups"
    stored, scale = found
    many = prod(a.stride for a in axes)
    new = filters_of_phases(stored, 1, axes)
    scales = const(np.tile(scale, many) if scale.ndim else scale)
    weights = build("DequantizeLinear", const(new, w.node.name, w.node.origin), scales, _zeros(scales), axis=0)
    biases = const(np.tile(bias.reshape(-1), many).astype(np.float32))
    made: dict[str, Any] = {"origin": node.origin, "label": node.name}
    return image_of_phases(build("Conv", x, weights, biases, pads=margins_of(axes, x), **made), node, axes, made)


@python_rule("Relu", "Clip")
def limits_before_weaving(value: Value, sweep: Sweep) -> Value | str | None:
    """Limits of what is moved are moved limits, which the kernel of a convolution has for nothing."""
    moved = value.node.args[0]
    here = moved
    while here.node.op in WEAVES and sweep.uses(here) == 1:
        here = here.node.args[0]
    if here == moved or here.node.op != "Conv" or lying(here.node.args[0].node) is None or sweep.uses(here) != 1:
        return None
    limited = Value(rebuild(value.node, (moved.node.args[0], *value.node.args[1:])))
    return Value(rebuild(moved.node, (limited, *moved.node.args[1:])))


def _zeros(scales: Value) -> Value:
    return const(np.zeros(scales.shape, np.int8))
