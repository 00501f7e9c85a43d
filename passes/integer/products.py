"""Products of bytes that a model spells in 32 bits: MatMulInteger, as models with dynamic quantization have it.

Sums of (a - zero) * w are sums of a * w, less the zero point times the sum of each column of w: in 32 bits that wrap,
exactly. So the zero point may be known only when the model runs, and the product is one of bytes as they lie. Weights
of u8 less a zero point may not fit i8: what is taken off for that comes back times the sums of the rows of a.
"""

from __future__ import annotations

import numpy as np

from edgec.compiler.ir import Array, Value
from edgec.compiler.op import build, const, const_array, is_const
from edgec.compiler.ops.common import limits
from edgec.compiler.ops.integer import BYTES
from edgec.compiler.rewrite import PythonRule, Sweep, python_rule
from edgec.compiler.target import Target

VNNI = frozenset({"AVX512VNNI"})


def products_of_bytes(hold: str) -> PythonRule:
    """The rule; `hold`: u8 or i8, which the target multiplies with weights, or neither."""

    @python_rule("MatMul")
    def product_of_bytes(value: Value, sweep: Sweep) -> Value | str | None:
        a, b = value.node.args
        if value.type.dtype != "i32":
            return None
        found = bytes_less_zero(a)
        if found is None:
            return "the left operand is no tensor of bytes less a zero point"
        if not is_const(b):
            return _of_two(value, found, sweep.session.target)
        narrow = centred(const_array(b)) if is_const(b) and len(b.shape) == 2 and b.type.size else None
        if narrow is None:
            return "the right operand is no constant matrix whose columns reach over 8 bits at most"
        matrix, centres = narrow
        held, zero = held_as(*found, hold)
        of_columns = const_array(b).sum(0, dtype=np.int32)
        known = zero is not None and is_const(zero) and zero.type.size == 1
        bias = -int(const_array(zero).item()) * of_columns if zero is not None and known else np.zeros(1, np.int32)
        origin, label = value.node.origin, value.node.name
        weights = const(matrix, b.node.name, b.node.origin)
        made = build("Edgec.MatMulInteger", held, weights, const(bias), origin=origin, label=label)
        if np.any(centres):
            of_rows = build("Edgec.Sum", held, axes=(len(held.shape) - 1,), keepdims=1, origin=origin)
            made = build("Add", made, build("Mul", of_rows, const(centres), origin=origin), origin=origin, label=label)
        if zero is None or known:
            return made
        less = build("Mul", zero, const(of_columns), origin=origin)
        return build("Sub", made, less, origin=origin, label=label)

    return product_of_bytes


def _of_two(value: Value, left: tuple[Value, Value | None], target: Target | None) -> Value | str:
    """A product of two operands that are both computed, where a kernel of bytes packs the right one as it runs."""
    right = bytes_less_zero(value.node.args[1])
    if target is None or target.gpu or not target.cpu.isa >= VNNI:
        return "no kernel of the target multiplies bytes that are both computed"
    if right is None or (right[1] is not None and right[1].type.size != 1):
        return "the right operand is no tensor of bytes less one zero point"
    if min(len(v.shape) for v, _ in (left, right)) < 2 or left[0] == right[0]:
        return "the operands are no two matrices"
    (a, a_zero), (b, b_zero) = held_as(*left, target.bytes_held), right
    origin, label, inner = value.node.origin, value.node.name, b.shape[-2]

    def split(zero: Value | None) -> tuple[int, Value | None]:
        """A zero point as a number, which the kernel knows, and as a value, which is taken off afterwards."""
        if zero is None:
            return 0, None
        return (int(const_array(zero).item()), None) if is_const(zero) and zero.type.size == 1 else (0, zero)

    def sums(of: Value, axis: int, zero: int) -> Value:
        return build("Edgec.Sum", of, axes=(len(of.shape) + axis,), keepdims=1, zero=zero, origin=origin)

    (a_known, a_open), (b_known, b_open) = split(a_zero), split(b_zero)
    none = const(np.zeros(1, np.int32))
    made = build("Edgec.MatMulInteger", a, b, none, a_zero=a_known, b_zero=b_known, origin=origin, label=label)
    for zero, of, axis, known in ((a_open, b, -2, b_known), (b_open, a, -1, a_known)):
        if zero is not None:
            less = build("Mul", sums(of, axis, known), zero, origin=origin)
            made = build("Sub", made, less, origin=origin, label=label)
    if a_open is not None and b_open is not None:
        both = build("Mul", build("Mul", a_open, b_open), const(np.int32(inner)), origin=origin)
        made = build("Add", made, both, origin=origin, label=label)
    return made


def bytes_less_zero(value: Value) -> tuple[Value, Value | None] | None:
    """A tensor of bytes and the i32 that is taken off it: one number, or one per row."""
    wide, zero = value.node.args if value.node.op == "Sub" else (value, None)
    if wide.node.op != "Cast" or wide.node.args[0].type.dtype not in BYTES or wide.shape != value.shape:
        return None
    if zero is not None and zero.shape and zero.shape[-1] != 1:
        return None
    return wide.node.args[0], zero


def held_as(value: Value, zero: Value | None, hold: str) -> tuple[Value, Value | None]:
    """The same with bytes of the type `hold`: both are moved by 128."""
    if hold in ("", value.type.dtype):
        return value, zero
    by = const(np.int32(limits(hold)[0] - limits(value.type.dtype)[0]))
    moved = build("Cast", build("Add", build("Cast", value, to="i32"), by), to=hold)
    if zero is None:
        return moved, by
    if is_const(zero):
        return moved, const(np.add(const_array(zero), const_array(by), dtype=np.int32))
    return moved, build("Add", zero, by)


def centred(weights: Array) -> tuple[Array, Array] | None:
    """Weights in i8, and what was taken off each column for that: nothing, where all fit."""
    low, high = weights.min(0).astype(np.int64), weights.max(0).astype(np.int64)
    if np.any(high - low > 255):
        return None
    fits = low.min() >= -128 and high.max() <= 127
    centres = np.zeros(low.size, np.int64) if fits else low + 128
    return (weights.astype(np.int64) - centres).astype(np.int8), centres.astype(np.int32)
