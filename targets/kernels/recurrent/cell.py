"""The gates of RNN, GRU and LSTM for one hidden unit of one sequence: what becomes of the sums of a tile.

Everything is written for one lane of a vector. Cells have as many functions as their operator has phases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from tvm import tirx

from edgec.targets import built_for, floats, fractions, tir
from edgec.targets.conversions import c
from edgec.targets.floats import at_least, at_most
from edgec.targets.scalar import SCALAR
from edgec.targets.tir import Expr, Stmt

_TANH, _SIGMOID = SCALAR["Tanh"], SCALAR["Sigmoid"]
ACTIVATIONS: dict[str, Callable[[Expr, float, float], Expr]] = {
    "Relu": lambda x, a, b: SCALAR["Relu"](x),
    "Tanh": lambda x, a, b: _TANH(x),
    "Sigmoid": lambda x, a, b: _SIGMOID(x),
    "Affine": lambda x, a, b: x * c(x, a) + c(x, b),
    "LeakyRelu": lambda x, a, b: SCALAR["LeakyRelu"](x, alpha=a),
    "ThresholdedRelu": lambda x, a, b: tirx.Select(x < c(x, a), c(x, 0), x),
    "ScaledTanh": lambda x, a, b: _TANH(x * c(x, b)) * c(x, a),
    "HardSigmoid": lambda x, a, b: SCALAR["HardSigmoid"](x, alpha=a, beta=b),
    "Elu": lambda x, a, b: SCALAR["Elu"](x, a),
    "Softsign": lambda x, a, b: SCALAR["Softsign"](x),
    "Softplus": lambda x, a, b: SCALAR["Softplus"](x),
}


def _tanh_fraction(keep: Callable[[Expr], Expr], x: Expr) -> tuple[Expr, Expr]:
    part = keep(fractions.tanh_part(x))
    return floats.with_sign(part, x), part + c(x, 2)


# what is above and below the line, in f32; `keep` names a value
FRACTIONS: dict[str, Callable[[Callable[[Expr], Expr], Expr], tuple[Expr, Expr]]] = {
    "Sigmoid": lambda keep, x: (c(x, 1), fractions.sigmoid_below(x)),
    "Tanh": _tanh_fraction,
}


@dataclass
class Point:
    """One lane: where its numbers come from, and the statements so far."""

    attrs: Any
    kind: str
    lanes: int
    lane: Expr
    sum: Callable[[int], Expr]  # of h times R, by place among the gates of the phase
    x: Callable[[int], Expr]  # the input's product, by gate
    state: Callable[[int], Expr]  # h, and for LSTM c, of the step before
    next: Callable[[int, Expr], list[Stmt]]  # the statements that store one of them
    held: Callable[[int], Expr]  # what the phase before left
    hold: Callable[[int, Expr], Stmt]
    parameter: Callable[[int], Expr]  # the bias of the hidden gate, or a peephole's weight
    registers: list[Stmt] = field(default_factory=list)
    statements: list[Stmt] = field(default_factory=list)

    def keep(self, value: Expr) -> Expr:
        """The value, computed once."""
        register, alloc = tir.local((self.lanes,), self.kind, "gate")
        self.registers.append(alloc)
        self.statements.append(tir.store(register, value, self.lane))
        return tir.load(register, self.lane)

    def act(self, k: int, x: Expr) -> Expr:
        """f, g or h of ONNX's equations."""
        function, alpha, beta = (self.attrs[key][k] for key in ("activations", "alpha", "beta"))
        return self.keep(ACTIVATIONS[function](self.clipped(x), alpha, beta))

    def clipped(self, x: Expr) -> Expr:
        limit = self.attrs["clip"]
        return at_most(at_least(x, c(x, -limit)), c(x, limit)) if limit < inf else x

    def act_times(self, first: tuple[int, Expr], second: tuple[int, Expr]) -> Expr:
        """The product of two of them, with one division where both are fractions: a vector of them takes its time.

        Two parts below the line are at most infinite, and those above them are not.
        """
        known = {self.attrs["activations"][k] for k, _ in (first, second)} <= FRACTIONS.keys()
        if self.kind != "float32" or not known:
            return self.act(*first) * self.act(*second)
        (over, under), (over_too, under_too) = (self.fraction(*each) for each in (first, second))
        above, below = over * over_too, under * under_too
        if built_for.estimates():  # which want numbers
            return self.keep(fractions.over(above, at_most(below, c(below, 1e38))))
        return self.keep(above / below)

    def fraction(self, k: int, x: Expr) -> tuple[Expr, Expr]:
        over, under = FRACTIONS[self.attrs["activations"][k]](self.keep, self.keep(self.clipped(x)))
        return self.keep(over), self.keep(under)

    def set(self, k: int, value: Expr) -> None:
        self.statements += self.next(k, value)


def rnn(p: Point) -> None:
    p.set(0, p.act(0, p.sum(0) + p.x(0)))


def gru(p: Point) -> None:
    """linear_before_reset: one phase."""
    z, reset = (p.act(0, p.sum(gate) + p.x(gate)) for gate in (0, 1))
    inner = p.act(1, p.x(2) + reset * (p.sum(2) + p.parameter(0)))
    p.set(0, (c(z, 1) - z) * inner + z * p.state(0))


def gru_gates(p: Point) -> None:
    """What the second phase multiplies with R, and the update gate."""
    z, reset = (p.act(0, p.sum(gate) + p.x(gate)) for gate in (0, 1))
    p.statements += [p.hold(0, reset * p.state(0)), p.hold(1, z)]


def gru_hidden(p: Point) -> None:
    z, inner = p.held(1), p.act(1, p.x(2) + p.sum(0) + p.parameter(0))
    p.set(0, (c(inner, 1) - z) * inner + z * p.state(0))


def lstm(p: Point) -> None:
    """Without a sum of its own, the forget gate keeps what the input gate leaves."""
    coupled = p.attrs["input_forget"]
    before = p.state(1)

    def product(place: int, gate: int) -> Expr:
        return p.sum(place) + p.x(gate)

    def seen(x: Expr, q: int, cell: Expr) -> Expr:
        return x + p.parameter(q) * cell if p.attrs["peepholes"] else x

    i, g = (0, seen(product(0, 0), 0, before)), (1, product(2 if coupled else 3, 3))
    if coupled:
        gate = p.act(*i)
        cell = p.keep((c(gate, 1) - gate) * before + gate * p.act(*g))
    else:
        cell = p.keep(p.act(0, seen(product(2, 2), 2, before)) * before + p.act_times(i, g))
    p.set(0, p.act_times((0, seen(product(1, 1), 1, cell)), (2, cell)))
    p.set(1, cell)


CELLS: dict[tuple[str, int], tuple[Callable[[Point], None], ...]] = {
    ("Edgec.RNN", 1): (rnn,),
    ("Edgec.GRU", 1): (gru,),
    ("Edgec.GRU", 2): (gru_gates, gru_hidden),
    ("Edgec.LSTM", 1): (lstm,),
}
