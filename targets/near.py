"""Functions of real numbers that become bytes (compiler/ops/near.py) as code: the same steps, one instruction each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import numpy as np
from tvm import tirx

from edgec.compiler.ops.near import GENTLE, STEPS
from edgec.compiler.ops.near import NEAR as NAMES

from .addends import addends
from .built_for import has_limits
from .floats import at_least, at_most, bits, f32, fenced, fused, of_bits
from .tir import Expr


class _Code:
    """Steps as expressions, each with a name. `within`: the argument is known to be within -GENTLE .. GENTLE."""

    def __init__(self, within: bool) -> None:
        self.within = within
        self.names: list[tuple[Any, Expr]] = []
        self.found = addends()
        self.uses: dict[float, int] = {}

    def named(self, x: Expr) -> Expr:
        name = tirx.Var("t", "float32")
        self.names.append((name, x))
        return name

    def number(self, x: float) -> Expr:
        """One that is kept for all vectors of a turn, where numbers are read from memory."""
        return f32(x) if self.found is None else self.found[0].same(x)

    def _added(self, x: float) -> Expr:
        """One that is overwritten: read anew for each vector."""
        if self.found is None:
            return f32(x)
        table, at = self.found
        self.uses[x] = self.uses.get(x, 0) + 1
        return table.load(x, at, self.uses[x])

    def fma(self, a: Expr, b: Expr, c: Expr | float) -> Expr:
        return self.named(fused(a, b, self._added(c) if isinstance(c, float) else c))

    def product(self, a: Expr, b: Expr) -> Expr:
        return self.named(fenced(a * b))

    def difference(self, a: float, b: Expr) -> Expr:
        return self.named(self.number(a) - b)

    def limited(self, x: Expr, low: float, high: float) -> Expr:
        if self.within and (low, high) == (-GENTLE, GENTLE):
            return x
        if not has_limits():
            return self.named(at_most(at_least(x, f32(low)) if low > -inf else x, f32(high)))
        for name, number in (("maximum", low), ("minimum", high)):
            if abs(number) < inf:
                x = self.named(tirx.call_llvm_pure_intrin("float32", f"llvm.{name}", x, self.number(number)))
        return x

    def exponent(self, x: Expr) -> Expr:
        return self.named(of_bits(bits(x) << 23))

    def inverse(self, x: Expr, bits_of: int) -> Expr:
        number = self.number(float(np.int32(bits_of).view(np.float32)))
        return self.named(of_bits(bits(number) - bits(x)))

    def negative(self, x: Expr) -> Expr:
        return x * f32(-1)


def _steps(function: Callable[..., Any], x: Expr, within: bool = False, **numbers: Any) -> Expr:
    code = _Code(within)
    result = function(code, code.named(x), **numbers)
    for name, value in reversed(code.names):
        result = tirx.Let(name, value, result)
    return result


NEAR: dict[str, Callable[..., Expr]] = {NAMES[name]: partial(_steps, function) for name, function in STEPS.items()}
