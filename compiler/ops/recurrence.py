"""Recurrence over time: Edgec.RNN, Edgec.GRU and Edgec.LSTM, without the products of weights and input.

Those are one matrix product for all steps, which comes first: `x` is [steps, batch, directions * gates * hidden],
biases added. What is left depends on the step before: h [directions, batch, hidden] times R [directions, hidden, gates,
hidden] (the axis of h before that of the result), and the gates. Gates are in ONNX's order: zrh (Cho et al., 2014),
iofc (Hochreiter and Schmidhuber, 1997; peepholes: Gers and Schmidhuber, 2000).

Arguments: x, R, h, for GRU the bias of the hidden gate's product with h [directions, hidden], for LSTM c like h, then
peepholes iof [directions, 3, hidden] where `peepholes` is set; last, there or not, lengths i32[batch] of sequences.
Results: with `sequence` every h [steps, directions, batch, hidden]; the last h and, for LSTM, the last c, as given.
R may be f16 or bf16 beside f32; everything is computed in the type of x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ..errors import IRError
from ..ir import Attr, Type
from ..op import op
from .common import Ints, Tensor, equal_types, require
from .unary import sigmoid, softplus

GATES = {"Edgec.RNN": 1, "Edgec.GRU": 3, "Edgec.LSTM": 4}
USUAL = {"Edgec.RNN": ("Tanh",), "Edgec.GRU": ("Sigmoid", "Tanh"), "Edgec.LSTM": ("Sigmoid", "Tanh", "Tanh")}  # f, g, h

# Functions of x, alpha and beta. ThresholdedRelu keeps x = alpha here, as the recurrent operators say; on its own it
# does not.
ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Sigmoid": lambda x, a, b: sigmoid(x),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x < 0, a * x, x),
    "ThresholdedRelu": lambda x, a, b: np.where(x < a, 0, x),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: softplus(x),
}

# alpha and beta of the activations that have any, where the node gives none: those of ONNX's operators of these names.
# Affine and ScaledTanh are no operators any more: what changes nothing.
PARAMETERS: dict[str, tuple[float, ...]] = {
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01,),
    "ThresholdedRelu": (1.0,),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0,),
}

Function: TypeAlias = Callable[[Tensor], Tensor]
State: TypeAlias = tuple[Tensor, ...]  # h, and for LSTM c: [batch, hidden]
Step: TypeAlias = Callable[[Tensor, State], State]  # products with the input [batch, gates, hidden], state: next state


def _infer(name: str, x: Type, r: Type, *rest: Type, **attrs: Any) -> tuple[Type, ...]:
    gates = GATES[name]
    require(x, frozenset({"f32", "f64"}), "x")
    require(r, frozenset({x.dtype, "f16", "bf16"} if x.dtype == "f32" else {x.dtype}), "R")
    if len(x.shape) != 3 or len(r.shape) != 4 or r.shape[1] != r.shape[3] or r.shape[2] != gates:
        raise IRError(f"x {x} and R {r} are no [steps, batch, ...] and [directions, hidden, {gates}, hidden]")
    directions, hidden = r.shape[:2]
    steps, batch = x.shape[:2]
    if x.shape[2] != directions * gates * hidden:
        raise IRError(f"x {x} has no {directions} times {gates} times {hidden} products per step and sequence")
    state = (directions, batch, hidden)
    wanted = [state, *_more(name, directions, hidden, state, attrs)]
    if len(rest) not in (len(wanted), len(wanted) + 1):
        raise IRError(f"{2 + len(rest)} arguments; expected {2 + len(wanted)}, or lengths after them")
    for t, shape in zip(rest, wanted, strict=False):
        equal_types(x, t)
        if t.shape != shape:
            raise IRError(f"argument {t} does not fit; expected shape {list(shape)}")
    if len(rest) > len(wanted) and (rest[-1].dtype, rest[-1].shape) != ("i32", (batch,)):
        raise IRError(f"lengths are {rest[-1]}; expected i32[{batch}]")
    _check_attributes(name, directions, **attrs)
    every = [Type(x.dtype, (steps, *state))] if attrs["sequence"] else []
    return (*every, *(Type(x.dtype, state) for _ in range(2 if name == "Edgec.LSTM" else 1)))


def _more(name: str, directions: int, hidden: int, state: Ints, attrs: Any) -> list[Ints]:
    """Shapes of the arguments between h and the lengths."""
    if name == "Edgec.GRU":
        return [(directions, hidden)]
    if name == "Edgec.LSTM":
        return [state, *([(directions, 3, hidden)] if attrs["peepholes"] else [])]
    return []


def _check_attributes(name: str, directions: int, **attrs: Any) -> None:
    count = len(USUAL[name])
    if len(attrs["reverse"]) != directions or set(attrs["reverse"]) - {0, 1}:
        raise IRError(f"reverse={list(attrs['reverse'])} is no 0 or 1 for each of {directions} direction(s)")
    for key in ("activations", "alpha", "beta"):
        if len(attrs[key]) != count:
            raise IRError(f"{key} has {len(attrs[key])} entries; expected {count}")
    for function in attrs["activations"]:
        if function not in ACTIVATIONS:
            raise IRError(f"activation {function!r} is unknown; there are {', '.join(ACTIVATIONS)}")


def lengths(given: Tensor | None, steps: int, batch: int) -> Tensor:
    """Steps of each sequence; lengths out of range are the nearest in range."""
    return np.full(batch, steps) if given is None else np.clip(given.astype(np.int64), 0, steps)


def run(
    name: str, make: Callable[..., Step], *xs: Tensor, reverse: Ints, sequence: int, **attrs: Any
) -> tuple[Tensor, ...]:
    """Every direction, one step after the other. Past the end of a sequence `every` is zero; without a step all is."""
    x, r = xs[0], xs[1].astype(xs[0].dtype)
    steps, batch, hidden = x.shape[0], x.shape[1], r.shape[3]
    count = 1 + (name == "Edgec.LSTM")
    extra = len(_more(name, 0, 0, (), attrs)) - (count - 1)
    states, more, rest = xs[2 : 2 + count], xs[2 + count : 2 + count + extra], xs[2 + count + extra :]
    length, rows = lengths(rest[0] if rest else None, steps, batch), np.arange(batch)
    products = x.reshape(steps, batch, len(reverse), GATES[name], hidden)
    every = np.zeros((steps, len(reverse), batch, hidden), x.dtype)
    last = [np.array(s) for s in states]
    for d, backwards in enumerate(reverse):
        step = make(r[d], *(m[d] for m in more), functions=_functions(x, **attrs), **attrs)
        for t in range(steps):
            live = t < length
            at = np.where(live, length - 1 - t, t) if backwards else np.full(batch, t)
            after = step(products[at, rows, d], tuple(s[d] for s in last))
            for s, new in zip(last, after, strict=True):
                s[d] = np.where(live[:, None], new, s[d])
            every[at, d, rows] = np.where(live[:, None], last[0][d], 0)
    last = [np.where(length[:, None] > 0, s, np.zeros_like(s)) for s in last]
    return (*([every] if sequence else []), *last)


def _functions(
    x: Tensor, activations: Sequence[str], alpha: Sequence[float], beta: Sequence[float], clip: float, **_: Any
) -> list[Function]:
    """The activations; the limits of `clip` hold for their arguments, all of them."""

    def of(function: str, a: float, b: float) -> Function:
        return lambda v: np.asarray(ACTIVATIONS[function](np.clip(v, -clip, clip), a, b)).astype(x.dtype)

    return [of(*each) for each in zip(activations, alpha, beta, strict=True)]


def _times(h: Tensor, r: Tensor) -> Tensor:
    """[batch, hidden] times [hidden, gates, hidden]."""
    return np.tensordot(h, r, 1)


def _rnn(r: Tensor, *, functions: list[Function], **_: Any) -> Step:
    return lambda x, state: (functions[0]((x + _times(state[0], r))[:, 0]),)


def _gru(r: Tensor, bias: Tensor, *, functions: list[Function], linear_before_reset: int, **_: Any) -> Step:
    """The reset gate acts on h before its product with R, or with linear_before_reset on that product and its bias."""
    f, g = functions

    def step(x: Tensor, state: State) -> State:
        (h,) = state
        gates = f(x[:, :2] + _times(h, r[:, :2]))
        z, reset = gates[:, 0], gates[:, 1]
        inner = reset * (_times(h, r[:, 2]) + bias) if linear_before_reset else _times(reset * h, r[:, 2]) + bias
        return ((1 - z) * g(x[:, 2] + inner) + z * h,)

    return step


def _lstm(r: Tensor, *peep: Tensor, functions: list[Function], input_forget: int, **_: Any) -> Step:
    """With input_forget, what the forget gate keeps is what the input gate leaves."""
    f, g, shape = functions
    pi, po, pf = peep[0] if peep else (None, None, None)

    def seen(product: Tensor, weight: Tensor | None, c: Tensor) -> Tensor:
        return product if weight is None else product + weight * c

    def step(x: Tensor, state: State) -> State:
        h, c = state
        product = x + _times(h, r)
        i = f(seen(product[:, 0], pi, c))
        forget = 1 - i if input_forget else f(seen(product[:, 2], pf, c))
        c = forget * c + i * g(product[:, 3])
        return f(seen(product[:, 1], po, c)) * shape(c), c

    return step


def _row(name: str, arity: tuple[int, int], make: Callable[..., Step], **attrs: Attr) -> None:
    common: dict[str, Attr] = {
        "reverse": (0,),  # per direction: 1 where it runs from the last step to the first
        "activations": USUAL[name],  # f, g and h of ONNX's equations, and the parameters of each
        "alpha": (0.0,) * len(USUAL[name]),
        "beta": (0.0,) * len(USUAL[name]),
        "clip": float("inf"),
        "sequence": 1,
    }
    infer, meaning = partial(_infer, name), partial(run, name, make)
    op(name, arity, infer, meaning, kind="other", attrs={**common, **attrs}, alone=True)


_row("Edgec.RNN", (3, 4), _rnn)
_row("Edgec.GRU", (4, 5), _gru, linear_before_reset=0)
_row("Edgec.LSTM", (4, 6), _lstm, input_forget=0, peepholes=0)
