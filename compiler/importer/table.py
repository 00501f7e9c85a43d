"""The table of converters: how each ONNX operator is written in canonical form. One function per operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ..ir import Value
from .drawn import DRAWN

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs

    from .context import Context, Held, Unknown
    from .convert import Walk

# The results in order; None for one that cannot be had and that nobody reads.
Result: TypeAlias = "Held | Sequence[Held | None]"
Converter: TypeAlias = "Callable[[Context], Result]"

CONVERTERS: dict[str, Converter] = {}

# Operators that own graphs; they get the walk and the node as well.
CONTROL: dict[str, Callable[[Walk, gs.Node, Context], Sequence[Held | Unknown | None]]] = {}

# Operators that are written by others of ONNX where a node has certain attributes; None for all other nodes.
WRITTEN: dict[str, Callable[[gs.Node], onnx.FunctionProto | None]] = {}

# Operators that are never compiled: why, and what would help.
_STRINGS = ("it works on strings", "prepare text in your program, and give the model numbers")
_RANDOM = ("it draws random numbers, and ONNX does not say which", "--shape RESULT=SIZES makes them an input")
NEVER: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"), _STRINGS),
    **dict.fromkeys(DRAWN, _RANDOM),
    "ImageDecoder": ("it decodes images", "decode in your program, and give the model pixels"),
}


@dataclass(frozen=True)
class Count:
    """Says of a value that only the first `value` entries along `axis` are there; what fills the rest means nothing.

    `value` is an i64 scalar computed at run time, at most the size that the type says. `source` is the ONNX node that
    it comes from, for people; `zeros`: the rest is known to hold zeros.
    """

    axis: int
    value: Value
    source: str
    zeros: bool = False


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
