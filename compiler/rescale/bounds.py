"""What sums of products of bytes, and what becomes of them, cannot exceed whatever a model reads: its constants say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..ir import Array, Data, Graph, Node, Value
from ..op import full_attrs, is_const
from ..ops.common import limits
from ..ops.integer import BYTES, biases
from ..ops.near import GENTLE

ZEROS = {"Edgec.ConvInteger": "zero", "Edgec.MatMulInteger": "a_zero"}
Numbers: TypeAlias = npt.NDArray[np.float64]
Whole: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reach:
    """The greatest magnitudes of a kernel's sums, and of what it rescales them to before limits and rounding.

    `real`: that of the sums as real numbers, where all that reads them is a product with constants of few bits, so that
    one multiply-add converts them (see FEW_BITS). `steps`: that of what real numbers are divided into by their scale,
    where they become bytes again.

    `ends`: how many sixteenths of its only table, from the first index up and from the last one down, read no other
    byte than the one that follows them.
    """

    sums: float = inf
    rescaled: float = inf
    ends: tuple[int, int] = (0, 0)
    real: float = inf
    steps: float = inf


UNKNOWN = Reach()
MOST = 2.0**100  # multipliers reach no further, and none is negative, where results are known to be near
SIXTEENTH = 16  # entries of a table of 256
SUMS, RESCALED = 22, 15  # bits of magnitude below which floats hold sums in their lowest bits, and 16 bits results
HALF = float(2**RESCALED - 2**8)  # magnitude below which 16 bits hold a result, zero point included
FEW_BITS = 22  # of a number whose product with 3 * 2**22 is an f32
ROUNDED = 30  # ... and below which a float rounds to an integer of 32 bits


def near(far: Reach) -> list[int]:
    """Which of the two limits are kept: none, that of sums, or both."""
    if far.sums >= 2**SUMS:
        return []
    return [SUMS, RESCALED] if far.rescaled < HALF else [SUMS]


def narrows(far: Reach) -> bool:
    """Whether 16 bits hold the steps that real numbers are rounded to, zero point included."""
    return far.steps < HALF


def gentle(far: Reach) -> bool:
    """Whether e to the power of sums as real numbers needs no limits."""
    return far.real <= GENTLE


def rounds(far: Reach) -> bool:
    """Whether what sums are rescaled to has a nearest integer of 32 bits."""
    return far.rescaled < float(2**ROUNDED)


def reach(body: Graph, args: Sequence[Value]) -> Reach:
    """Of a kernel's body and its arguments, some of which are constants."""
    nodes = list(body.nodes())
    anchors = [n for n in nodes if n.op in ZEROS]
    if len(anchors) != 1:
        return UNKNOWN
    known = {p: array for p, a in zip(body.inputs, args, strict=True) if (array := _array(a)) is not None}
    ends = _ends([known.get(n.args[1]) for n in nodes if n.op == "Edgec.Table"])
    limits_of = sum_limits(anchors[0], known)
    if limits_of is None:
        return Reach(ends=ends)
    sums = np.maximum(*map(abs, limits_of)).astype(np.float64)
    total = anchors[0].results[0]

    def farthest(term: Value, zero: int) -> Any:
        return sums + abs(zero) if term == total else _farthest_byte(term, zero)

    found = [_rescaled(n, farthest, known) for n in nodes if n.op == "Edgec.Rescale"]
    real = _real(nodes, anchors[0], sums, known)
    steps = _steps(nodes, anchors[0], real, known) if isfinite(real) else inf
    return Reach(float(sums.max(initial=0)), max(found, default=inf), ends, real, steps)


def _ends(tables: Sequence[Array | None]) -> tuple[int, int]:
    """Of the only table of a kernel, where it is known."""
    if len(tables) != 1 or tables[0] is None:
        return (0, 0)
    changes = np.flatnonzero(np.diff(tables[0]))
    if not len(changes):
        return (15, 0)
    return (int(changes[0]) // SIXTEENTH, (254 - int(changes[-1])) // SIXTEENTH)


def _array(value: Value) -> Array | None:
    """What a constant holds that lies in its own order."""
    data = value.node.attrs.get("data") if is_const(value) and not value.type.layout else None
    return data.array if isinstance(data, Data) and data.array.shape == value.shape else None


def sum_limits(anchor: Node, known: Mapping[Value, Array]) -> tuple[Whole, Whole] | None:
    """The least and greatest sum of each output channel, with axes for those that follow it; `known`: constants."""
    x, weight, bias = anchor.args
    attrs: Any = full_attrs(anchor)
    if weight not in known or bias not in known or attrs.get("b_zero", 0):
        return None
    w, b = known[weight].astype(np.int64), biases(known[bias], attrs["shift"]).astype(np.int64)
    conv = anchor.op == "Edgec.ConvInteger"
    axes = tuple(range(1, w.ndim)) if conv else (w.ndim - 2,)
    above = np.maximum(w, 0).sum(axes)
    below = above - w.sum(axes)
    low, high = (int(limit) - attrs[ZEROS[anchor.op]] for limit in limits(x.type.dtype))
    least, most = above * low - below * high + b, above * high - below * low + b
    shape = (-1, *[1] * (w.ndim - 2)) if conv else least.shape
    return least.reshape(shape), most.reshape(shape)


def made_real(nodes: Sequence[Node], anchor: Node) -> Node | None:
    """The product that makes sums real numbers, where nothing else reads them."""
    cast = _only_user(nodes, anchor)
    if cast is None or cast.op != "Cast" or cast.types[0].dtype != "f32":
        return None
    node = _only_user(nodes, cast)
    return node if node is not None and node.op == "Mul" and node.args[0].node is cast else None


def _only_user(nodes: Sequence[Node], node: Node) -> Node | None:
    users = [n for n in nodes if Value(node) in n.args]
    return users[0] if len(users) == 1 else None


def _real(nodes: Sequence[Node], anchor: Node, sums: Numbers, known: Mapping[Value, Array]) -> float:
    node = made_real(nodes, anchor)
    factor = None if node is None else known.get(node.args[1], _array(node.args[1]))
    if factor is None or np.any(factor != short(factor)):
        return inf
    numbers = abs(factor.astype(np.float64))
    shape = np.broadcast_shapes(numbers.shape, sums.shape)
    known_shape = shape == sums.shape or sums.size == 1
    return float((sums * numbers).max(initial=0.0)) if known_shape else inf


def _steps(nodes: Sequence[Node], anchor: Node, real: float, known: Mapping[Value, Array]) -> float:
    """Of bytes that are made of sigmoids and of products with constants."""
    first = made_real(nodes, anchor)
    far = {} if first is None else {first.results[0]: real}

    def most(value: Value) -> float:
        array = known.get(value, _array(value))
        return far.get(value, inf) if array is None else float(np.abs(array.astype(np.float64)).max(initial=0.0))

    for node in nodes:
        result = Value(node)
        if result in far:
            continue
        if node.op in ("Sigmoid", "Edgec.NearSigmoid"):
            far[result] = 1.0
        elif node.op == "Mul":
            product = most(node.args[0]) * most(node.args[1])
            far[result] = product if isfinite(product) else inf
    last = nodes[-1]
    if last.op == "Edgec.Rescale":
        return _rescaled(last, lambda t, zero: most(t) if t in far else _farthest_byte(t, zero), known)
    scale = _array(last.args[1]) if last.op == "QuantizeLinear" else None
    if scale is None or scale.size != 1 or not scale.reshape(-1)[0] > 0:
        return inf
    return most(last.args[0]) / float(scale.reshape(-1)[0])


def short(numbers: Array) -> Array:
    """The nearest f32 of FEW_BITS bits."""
    mantissa, exponent = np.frexp(np.asarray(numbers, np.float64))
    near: Array = np.ldexp(np.rint(mantissa * 2.0**FEW_BITS), exponent - FEW_BITS).astype(np.float32)
    return near


Farthest: TypeAlias = Callable[[Value, int], Any]  # the greatest magnitude of a term less its zero point


def _farthest_byte(term: Value, zero: int) -> float:
    return max(abs(int(limit) - zero) for limit in limits(term.type.dtype)) if term.type.dtype in BYTES else inf


def _rescaled(node: Node, farthest: Farthest, known: Mapping[Value, Array]) -> float:
    attrs: Any = full_attrs(node)
    count = len(attrs["zeros"])
    total: Numbers = np.zeros(1)
    for term, multiplier, zero in zip(node.args[:count], node.args[count:], attrs["zeros"], strict=True):
        factor = known.get(multiplier, _array(multiplier))
        if factor is None or not np.isfinite(most := farthest(term, zero)).all():
            return inf
        numbers = factor.astype(np.float64)
        if not ((numbers >= 0) & (numbers < MOST)).all():
            return inf
        total = total + most * numbers
    return float(total.max(initial=0.0)) if np.isfinite(total).all() else inf
