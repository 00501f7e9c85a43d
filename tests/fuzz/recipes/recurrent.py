"""Recurrence over time, behind the product with the input that an imported model has there."""

from __future__ import annotations

from typing import Any

from edgec.compiler.ir import Type
from edgec.compiler.ops.recurrence import GATES, USUAL

from ..draw import Draw
from . import recipe

_ODD = ("Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus")


@recipe(*GATES, weight=0.8)
def recurrence(d: Draw, op: str) -> None:
    gates, usual = GATES[op], USUAL[op]
    kind = "f64" if d.main == "f64" else "f32"
    steps, batch, hidden, directions = d.integer(1, 5), d.integer(1, 3), d.choice((1, 3, 8, 16, 17)), d.integer(1, 2)
    x = d.fresh(Type(kind, (steps, batch, directions * gates * hidden)), constant=0.1)
    r = d.fresh(Type("f16" if kind == "f32" and d.flag(0.1) else kind, (directions, hidden, gates, hidden)), "weights")
    state = Type(kind, (directions, batch, hidden))
    args = [x, r, d.fresh(state)]
    attrs: dict[str, Any] = {"reverse": tuple(d.integer(0, 1) for _ in range(directions))}
    if op == "Edgec.GRU":
        args.append(d.fresh(Type(kind, (directions, hidden)), constant=0.9))
        attrs["linear_before_reset"] = d.integer(0, 1)
    if op == "Edgec.LSTM":
        args.append(d.fresh(state))
        attrs |= {"input_forget": int(d.flag(0.2)), "peepholes": int(d.flag(0.3))}
        if attrs["peepholes"]:
            args.append(d.fresh(Type(kind, (directions, 3, hidden)), constant=0.9))
    if d.flag(0.3):
        args.append(d.hold(d.arrays.integers(0, steps + 1, (batch,)).astype("int32"), 0.3))
    if d.flag(0.3):
        attrs["activations"] = tuple(d.choice(_ODD) if d.flag(0.4) else name for name in usual)
        attrs |= {"alpha": (0.5,) * len(usual), "beta": (0.25,) * len(usual)}
    if d.flag(0.2):
        attrs["clip"] = d.choice((0.5, 2.0))
    d.emit_all(op, *args, sequence=d.integer(0, 1), **attrs)
