"""Reductions, running sums, softmax and the normalizations."""

from __future__ import annotations

from math import inf

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import OPS
from edgec.compiler.ops.common import FLOATS, NUMBERS

from ..draw import Draw, is_float
from . import recipe
from .elementwise import accepted, within
from .windows import float_type

_EPSILONS = (1e-5, 1e-3, 0.1)
_REDUCTIONS = [name for name in OPS if name.startswith("Reduce")]


def folded(d: Draw, op: str) -> Value:
    """Something with axes that the operator takes."""
    return d.pick(
        lambda t: bool(t.shape) and 0 not in t.shape and accepted(op, t, axes=()),
        lambda: Type(d.dtype(NUMBERS), d.shape(d.choice((1, 2, 3, 4)))),
    )


@recipe(*_REDUCTIONS, family="folds", weight=0.6)
def reduce(d: Draw, op: str) -> None:
    x = folded(d, op)
    rank = len(x.shape)
    axes = tuple(sorted(d.shuffled(range(rank))[: d.integer(1, rank)]))
    if rank == 4 and d.flag(0.3):
        axes = (2, 3)
    if d.flag(0.3):
        axes = (rank - 1,)
    if d.flag(0.03):
        axes = ()
    if op == "ReduceLogSum":
        x = within(d, x, 0.01, inf)
    if op == "ReduceProd" and is_float(x.type):
        x = within(d, x, -1.5, 1.5)
    if op in ("ReduceLogSumExp", "ReduceL2"):
        x = within(d, x, -20, 20)
    d.emit(op, x, axes=axes, keepdims=d.integer(0, 1))


@recipe("ArgMax", "ArgMin", family="folds", weight=0.7)
def position(d: Draw, op: str) -> None:
    x = d.pick(
        lambda t: bool(t.shape) and 0 not in t.shape and t.dtype in NUMBERS,
        lambda: Type(d.dtype(NUMBERS), d.shape(d.choice((1, 2, 3)))),
    )
    attrs = {"axis": d.axis(x, negative=True), "keepdims": d.integer(0, 1), "select_last_index": int(d.flag(0.2))}
    d.emit(op, x, **attrs)


@recipe("CumSum", family="folds")
def running_sum(d: Draw, op: str) -> None:
    x = d.pick(
        lambda t: bool(t.shape) and t.dtype in NUMBERS,
        lambda: Type(d.dtype(NUMBERS), d.shape(d.choice((1, 2, 3)))),
    )
    d.emit(op, x, axis=d.axis(x, negative=True), exclusive=d.integer(0, 1), reverse=d.integer(0, 1))


def real(d: Draw, least: int = 1) -> Value:
    """Floats along axes."""
    return d.pick(
        lambda t: len(t.shape) >= least and t.dtype in FLOATS and 0 not in t.shape,
        lambda: Type(float_type(d), d.shape(max(least, d.choice((2, 3, 4))))),
    )


@recipe("Softmax", "LogSoftmax", family="folds", weight=1.5)
def softmax(d: Draw, op: str) -> None:
    x = real(d)
    d.emit(op, x, axis=-1 if d.flag() else d.axis(x, negative=True))


@recipe("LayerNormalization", family="folds", weight=1.5)
def layer_normalization(d: Draw, op: str) -> None:
    x = real(d)
    axis = -1 if d.flag(0.7) else d.axis(x)
    shape = x.shape[axis:]
    scale, bias = (d.fresh(Type(x.type.dtype, shape), constant=0.9) for _ in range(2))
    d.emit(op, x, scale, bias, axis=axis, epsilon=d.choice(_EPSILONS))


@recipe("InstanceNormalization", family="folds")
def instance_normalization(d: Draw, op: str) -> None:
    x = real(d, 3)
    scale, bias = (d.fresh(Type(x.type.dtype, (x.shape[1],)), constant=0.9) for _ in range(2))
    d.emit(op, x, scale, bias, epsilon=d.choice(_EPSILONS))


@recipe("LpNormalization", family="folds", weight=0.6)
def lp_normalization(d: Draw, op: str) -> None:
    x = real(d)
    d.emit(op, x, axis=d.axis(x, negative=True), p=d.integer(1, 2))
