"""Map operators as index arithmetic: where each element of the result comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgec.compiler.ir import Value

from .tir import Expr, Index

At = Callable[[Value, Index], Expr]
MAPS: dict[str, Callable[[At, Value, Index], Expr]] = {}


def transpose(at: At, value: Value, index: Index) -> Expr:
    perm: Any = value.node.attrs["perm"]
    source: list[Any] = [0] * len(index)
    for k, axis in enumerate(perm):
        source[axis] = index[k]
    return at(value.node.args[0], tuple(source))


MAPS["Transpose"] = transpose
MAPS["Edgec.Layout"] = lambda at, value, index: at(value.node.args[0], index)
