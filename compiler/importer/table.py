"""The table of converters: how each ONNX operator is written in canonical form. One function per operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from .context import Context, Held, Unknown
    from .convert import Walk

# The results in order; None for one that cannot be had and that nobody reads.
Result: TypeAlias = "Held | Sequence[Held | None]"
Converter: TypeAlias = "Callable[[Context], Result]"

CONVERTERS: dict[str, Converter] = {}

# Operators that own graphs; they get the walk and the node as well.
CONTROL: dict[str, Callable[[Walk, gs.Node, Context], Sequence[Held | Unknown | None]]] = {}


class Refused(Exception):
    """A node cannot be compiled: why, and what would be accepted instead."""

    def __init__(self, why: str, help: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.help = help


def converts(*ops: str) -> Callable[[Converter], Converter]:
    """Enter a function in the table under the names of ONNX operators."""

    def enter(fn: Converter) -> Converter:
        for op in ops:
            if op in CONVERTERS:
                raise ValueError(f"operator {op!r} has two converters")
            CONVERTERS[op] = fn
        return fn

    return enter
