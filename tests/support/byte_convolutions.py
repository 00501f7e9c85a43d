"""Convolutions of bytes with what follows them, as problems for kernel rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import Problem
from tests.support.harness import chain

Limits = tuple[int, int, int]  # zero, low, high
FULL = (-7, -128, 127)


def convolution(
    where: str, x: str, w: str, then: str = "rescale", zero: int = -128, limits: Limits = FULL, threads: int = 1,
    **attrs: Any,
) -> Problem:  # fmt: skip
    """For a target. What follows: a Rescale (`one`: by one number), a residual tensor (`add`; `add to it`: times
    a number; `add bytes`: to bytes), a Table, real numbers; `once`: a RescaleOnce (`direct`: without an
    addend), which a table, or a residual tensor that is added to its bytes, may follow."""
    outputs = int(w.partition(",")[0])
    to = {"to": "i8", "zero": limits[0], "low": limits[1], "high": limits[2]}

    def body(a: Value, b: Value, bias: Value, m: Value, *more: Value) -> Value:
        sums = build("Edgec.ConvInteger", a, b, bias, zero=zero, **attrs)
        if then == "add to it":
            two = const(np.float32(0.31))
            return build("Edgec.Rescale", more[0], sums, two, m, zeros=(5, 0), to="i8", zero=9, low=-100, high=90)
        if then == "add bytes":
            y = build("Edgec.Rescale", sums, m, zeros=(0,), **to)
            numbers = const(np.float32(0.83)), const(np.float32(0.31))
            return build(
                "Edgec.Rescale", y, more[0], *numbers, zeros=(limits[0], 5), to="i8", zero=-128, low=-128, high=127
            )
        if then == "add":
            return build("Edgec.Rescale", sums, more[0], m, more[1], zeros=(0, 5), to="i8", zero=9, low=-100, high=90)
        if then.startswith("once"):
            bits, point = (32 if "wide" in then else 16), (limits[0] if "direct" in then else 0)
            own = more[:0] if "direct" in then else more[:1]
            y = build("Edgec.RescaleOnce", sums, m, *own, to="i8", zero=point, low=limits[1], high=limits[2], bits=bits)
            more = more[len(own) :]
            if "add" in then:
                numbers = const(np.float32(0.83)), const(np.float32(0.31))
                return build("Edgec.Rescale", y, more[0], *numbers, zeros=(-7, 5), to="i8", zero=9, low=-100, high=90)
            return build("Edgec.Table", y, more[0]) if "table" in then else y
        factor = const(np.float32(0.0021)) if then == "one" else m
        y = build("Edgec.Rescale", sums, factor, zeros=(0,), **to)
        if then == "real":
            return build("DequantizeLinear", y, const(np.float32(0.25)), const(np.int8(-7)))
        return build("Edgec.Table", y, more[0]) if then == "table" else y

    rank = x.count(",") + 1
    kinds = [f"i8[{x}]", f"i8[{w}]", f"i32[{outputs}]", f"f32[{outputs}{', 1' * (rank - 2)}]"]
    if then.startswith("once") and "direct" not in then:
        kinds.append(kinds[3])
    if "add" in then:
        sums = chain(kinds[:3], lambda *v: build("Edgec.ConvInteger", *v, **attrs), (), where).body.outputs[0]
        kinds += [f"i8{list(sums.shape)}", "f32[1]"][: 2 if then == "add" else 1]
    return chain(kinds + ["i8[256]"] * ("table" in then), body, (), where, threads)
