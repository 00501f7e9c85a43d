"""The folds of each reduction: what is accumulated, in which type, and what becomes of the total.

f16 and bf16 accumulate in f32; integers in 64 bits where they are summed, in f64 where a root or a logarithm follows.
Integers wrap around.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs, int_attr

from .. import floats
from .. import scalar as s
from ..conversions import c, narrow, widen
from ..tir import Expr, lit
from .generic.stage import Parts, Prior, Stage

Binary = Callable[[Expr, Expr], Expr]


def computed_in(name: str) -> str:
    """TVM's type in which elements of one of our types are computed."""
    tvm = dtype(name).tvm
    return "float32" if tvm in ("float16", "bfloat16") else "int8" if tvm == "bool" else tvm


def extreme(kind: str, lowest: bool) -> Expr:
    """The identity of max (lowest) or min."""
    if kind.startswith("float"):
        return lit(float("-inf") if lowest else float("inf"), kind)
    return tirx.min_value(kind) if lowest else tirx.max_value(kind)


def simple(kind: str, identity: Expr, combine: Binary, term: Callable[[Prior], Expr]) -> Stage:
    """A fold of one component."""
    return Stage((kind,), (identity,), lambda prior: (term(prior),), lambda a, b: (combine(a[0], b[0]),))


def add(a: Expr, b: Expr) -> Expr:
    return a + b


@dataclass
class Reduction:
    """A node, the number of folded elements, the element at the current position; `in_order`: whether each lane sees
    its elements in the order of their positions."""

    node: Node
    count: int
    element: Callable[[], Expr]
    context: Any  # .guard, .positions
    in_order: bool = False

    def __post_init__(self) -> None:
        name = self.node.args[0].type.dtype
        self.own = computed_in(name)
        self.is_float = dtype(name).is_float
        self.wide = self.own if self.is_float else "uint64" if self.own[0] == "u" else "int64"
        if self.node.op == "Edgec.Sum":
            self.wide = "int32"
        self.real = self.own if self.is_float else "float64"

    def value(self) -> Expr:
        return narrow(widen(self.element()), self.own)

    def guarded(self, x: Expr, identity: Expr) -> Expr:
        return self.context.guard(x, identity)

    def stages(self) -> list[Stage]:
        kind = self.node.op
        if kind in ("ArgMax", "ArgMin"):
            return [self._arg()]
        if kind in ("ReduceMax", "ReduceMin"):
            start = extreme(self.own, kind == "ReduceMax")
            pick = s.maximum if kind == "ReduceMax" else s.minimum
            return [simple(self.own, start, pick, lambda prior: self.guarded(self.value(), start))]
        if kind == "ReduceProd":
            one = lit(1, self.own)
            return [simple(self.own, one, s.multiply, lambda prior: self.guarded(self.value(), one))]
        if kind == "ReduceLogSumExp":
            return log_sum_exp(self.real, lambda: tirx.Cast(self.real, self.value()), self.guarded)
        sum_of = self.real if kind == "ReduceL2" else self.wide
        zero = lit(0, sum_of)
        # sums of shorter integers do not overflow
        plus = s.add if self.own in ("int64", "uint64") else add
        return [simple(sum_of, zero, plus, lambda prior: self.guarded(self._summed(sum_of), zero))]

    def _summed(self, kind: str) -> Expr:
        x = tirx.Cast(kind, self.value())
        if self.node.op in ("ReduceSumSquare", "ReduceL2"):
            return floats.bind(x, lambda x: s.multiply(x, x))
        if self.node.op == "Edgec.Sum":
            return x - lit(int_attr(self.node, "zero"), kind)
        return s.absolute(x) if self.node.op == "ReduceL1" else x

    def finish(self, prior: Prior) -> Expr:
        """The reduction's value from the results of its stages."""
        kind, total = self.node.op, prior[-1]
        if kind == "ReduceMean":
            if self.is_float:
                return total / lit(self.count, self.own)
            return tirx.truncdiv(total, lit(max(self.count, 1), self.wide))
        if kind == "ReduceL2":
            return tirx.sqrt(total)
        if kind == "ReduceLogSum":
            return s.log(tirx.Cast(self.real, total))
        return s.log(total) + prior[0] if kind == "ReduceLogSumExp" else total

    def _arg(self) -> Stage:
        """(position, value) pairs."""
        last, greatest = bool(full_attrs(self.node)["select_last_index"]), self.node.op == "ArgMax"
        nowhere = lit(-1 if last else 2**31 - 1, "int32")
        worst = extreme(self.own, greatest)

        def combine(a: Parts, b: Parts) -> Parts:
            return best_of(a, b, greatest, last)

        def term(prior: Prior) -> Parts:
            at = self.context.positions()[0]
            self.context.body.pin(at)
            return self.guarded(at, nowhere), self.guarded(self.value(), worst)

        stage = Stage(("int32", self.own), (nowhere, worst), term, combine, lambda parts: tirx.Cast("int64", parts[0]))
        if self.in_order and not last:
            stage.in_order = (lit(0, "int32"), worst), lambda a, b: later_if_better(a, b, greatest)
        return stage


def later_if_better(a: Parts, b: Parts, greatest: bool) -> Parts:
    """As `best_of` where b's position is beyond a's and the first of equals wins; all equal to the worst: the first."""
    stays = a[1] >= b[1] if greatest else a[1] <= b[1]
    if not (kind := floats.kind(a[1])).startswith("float"):
        return tirx.Select(stays, a[0], b[0]), tirx.Select(stays, a[1], b[1])
    number = a[1] >= lit(float("-inf"), kind)  # no comparison with NaN holds
    position, value = (tirx.Select(number, tirx.Select(stays, x, y), x) for x, y in zip(a, b, strict=True))
    return position, value


def best_of(a: Parts, b: Parts, greatest: bool, last: bool) -> Parts:
    """The better of two (position, value) pairs; of equal values the first or the last, in whatever order they come.

    NaN is beyond all numbers, as it is in numpy.
    """
    better = a[1] < b[1] if greatest else b[1] < a[1]
    nearer = a[0] < b[0] if last else b[0] < a[0]
    equal = tirx.EQ(a[1], b[1])
    if floats.kind(a[1]).startswith("float"):
        was, now = floats.is_nan(a[1]), floats.is_nan(b[1])
        better = tirx.Or(better, tirx.And(now, tirx.Not(was)))
        equal = tirx.Or(equal, tirx.And(now, was))
    take = tirx.Or(better, tirx.And(equal, nearer))
    return tirx.Select(take, b[0], a[0]), tirx.Select(take, b[1], a[1])


def log_sum_exp(kind: str, value: Callable[[], Expr], guarded: Binary) -> list[Stage]:
    """The greatest element (zero where it is infinite), then the sum of exponentials below it."""
    low = extreme(kind, True)
    top = simple(kind, low, s.maximum, lambda prior: guarded(value(), low))
    top.result = lambda parts: finite(parts[0])
    zero = lit(0, kind)
    return [top, simple(kind, zero, add, lambda prior: guarded(s.exp(value() - prior[0]), zero))]


def finite(x: Expr) -> Expr:
    off = tirx.Or(floats.is_nan(x), s.is_infinite(x, detect_negative=1, detect_positive=1))
    return tirx.Select(off, c(x, 0), x)
