"""The errors that edgec raises on purpose. Everything else is a defect of ours (exit code 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


class EdgecError(Exception):
    """The user's input cannot be used. The message is one line: where, what is wrong, what was expected."""


class IRError(EdgecError):
    """A graph breaks a rule of the IR. The message names the node; `context` holds the IR around it."""

    def __init__(self, message: str, context: str = "") -> None:
        super().__init__(message)
        self.context = context


@dataclass(frozen=True)
class Unsupported:
    """One node that cannot be compiled."""

    node: str
    op: str
    opset: int
    why: str
    help: str = ""

    def __str__(self) -> str:
        text = f"{self.node}: {self.op} (opset {self.opset}): {self.why}"
        return f"{text}; {self.help}" if self.help else text


class UnsupportedModel(EdgecError):
    """The model holds nodes that edgec refuses. `entries` lists every one of them, not only the first."""

    def __init__(self, entries: Iterable[Unsupported]) -> None:
        self.entries = tuple(entries)
        super().__init__(f"{len(self.entries)} unsupported node(s): " + " | ".join(map(str, self.entries)))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, else the list of what is known."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
