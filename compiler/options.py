"""Options of passes: keyword arguments with annotations, read from a signature and from text."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from .errors import EdgecError, nearest

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Option:
    """One keyword argument of a pass: `kind` is its annotation, `default` what holds when it is not given."""

    name: str
    kind: Any
    default: Any

    @property
    def spelling(self) -> str:
        """The name as users type it."""
        return self.name.replace("_", "-")

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The alternatives of the annotation, `None` included."""
        return get_args(self.kind) if get_origin(self.kind) in (Union, types.UnionType) else (self.kind,)

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    def __str__(self) -> str:
        if self.required:
            return f"{self.spelling}=<{self.expected}>"
        return f"{self.spelling}={show_value(self.default)}"

    @property
    def expected(self) -> str:
        """What may be written, for messages."""
        words = []
        for kind in self.kinds:
            words += [repr(a) for a in get_args(kind)] if get_origin(kind) is Literal else [_WORD.get(kind, str(kind))]
        return " or ".join(words)

    def read(self, text: str, where: str) -> object:
        """The value that a text stands for."""
        for kind in sorted(self.kinds, key=lambda k: (k is str, k is not type(None))):  # any word is a str
            try:
                return _read(kind, text)
            except (ValueError, KeyError):
                continue
        raise EdgecError(f"{where}: option {self.spelling!r} is {self.expected}; got {text!r}")


_WORD: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    type(None): "none",
}


def _read(kind: Any, text: str) -> object:
    if kind is bool:
        return _WORDS[text.lower()]
    if kind is type(None):
        return {"none": None}[text.lower()]
    if get_origin(kind) is Literal:
        return {str(a): a for a in get_args(kind)}[text]
    if kind in (int, float, str):
        return kind(text)
    raise ValueError


def show_value(value: object) -> str:
    """A value as it is written in a pipeline."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str) and not re.fullmatch(r'[^\s,{}="]+', value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def options_of(fn: Callable[..., object]) -> dict[str, Option]:
    """The options of a pass: its keyword arguments, all but `session`; each must have a type that text can give."""
    found = {}
    parameters = list(inspect.signature(fn, eval_str=True).parameters.values())[1:]
    for p in parameters:
        if p.name == "session":
            continue
        option = Option(p.name, p.annotation, p.default)
        known = all(k in _WORD or get_origin(k) is Literal for k in option.kinds)
        if p.kind is not inspect.Parameter.KEYWORD_ONLY or not known:
            raise ValueError(
                f"{fn.__module__}.{fn.__name__}: {p.name!r} is not a keyword argument of bool, int, float or str"
            )
        found[p.name] = option
    return found


def read_options(known: Mapping[str, Option], given: Mapping[str, str], where: str) -> dict[str, object]:
    """Typed values of the options given as text; unknown and missing ones are errors."""
    values: dict[str, object] = {}
    for key, text in given.items():
        name = key.replace("-", "_")
        if name not in known:
            hint = nearest(key, [o.spelling for o in known.values()]) or "; it has none"
            raise EdgecError(f"{where}: unknown option {key!r}{hint}")
        values[name] = known[name].read(text, where)
    for name, option in known.items():
        if option.required and name not in values:
            raise EdgecError(f"{where}: option {option.spelling!r} ({option.expected}) is required")
    return values
