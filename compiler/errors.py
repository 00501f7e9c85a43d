"""The errors that edgec raises on purpose. Everything else is a defect of ours (exit code 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
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
    """One node, or one input of the model (`op` is "Input"), that cannot be compiled. `opset` 0: not known."""

    node: str
    op: str
    opset: int
    why: str
    help: str = ""

    @property
    def needs_value(self) -> bool:
        """Whether the node could be compiled if what it reads were known."""
        return "--bind" in self.help

    def __str__(self) -> str:
        return self.shown(self.node)

    def shown(self, names: str) -> str:
        """The text for all nodes that are refused for the same reason."""
        opset = f" (opset {self.opset})" if self.opset else ""
        text = f"{names}: {self.why}" if self.op == "Input" else f"{names}: {self.op}{opset}: {self.why}"
        return f"{text}; {self.help}" if self.help else text


class UnsupportedModel(EdgecError):
    """The model holds nodes that edgec refuses. `entries` lists every one of them, not only the first.

    The message names all of them, those with the same reason together. `where` is the model's file.
    """

    def __init__(self, entries: Iterable[Unsupported], where: str = "") -> None:
        self.entries, self.where = tuple(entries), where
        alike: dict[Unsupported, list[str]] = {}
        for entry in self.entries:
            shown = f"input {entry.node!r}" if entry.op == "Input" else entry.node
            alike.setdefault(replace(entry, node=""), []).append(shown)
        kinds = {"input" if entry.op == "Input" else "node" for entry in self.entries}
        what = "s and ".join(sorted(kinds)) + ("s" if len(self.entries) > 1 else "")
        count = f"{len(self.entries)} unsupported {what}: "
        text = " | ".join(entry.shown(", ".join(names)) for entry, names in alike.items())
        super().__init__((f"{where}: " if where else "") + count + text)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.entries, self.where)


def nearest(word: object, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, else the list of what is known where that is short."""
    names, word = sorted(known), str(word)
    close = [name for name in names if name.lower() == word.lower()] or get_close_matches(word, names, 1, _ALIKE)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= _MANY else ""


_ALIKE, _MANY = 0.65, 40  # similarity of a mistyped word; names that a line can hold
