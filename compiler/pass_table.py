"""The table of passes: what a row says of one, how passes get into it, and how they are found."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .errors import EdgecError, nearest
from .ir import Graph
from .options import Option, options_of
from .verify import Promise

F = TypeVar("F", bound=Callable[..., Graph])


@dataclass(frozen=True)
class Pass:
    """A row: function, promise, options, order constraints as {other pass: reason}."""

    name: str
    fn: Callable[..., Graph]
    promise: Promise
    options: Mapping[str, Option]
    after: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    required: bool = False
    takes_session: bool = False
    nested: bool = True
    calibrated: bool = False
    inputs: bool = False

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.fn) or ""

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        first = " ".join(self.doc.partition("\n\n")[0].split())
        return f"{first.rstrip('.').partition('. ')[0]}."


PASSES: dict[str, Pass] = {}


def graph_pass(
    name: str,
    *,
    promise: Promise,
    after: Sequence[str] | Mapping[str, str] = (),
    needs: Sequence[str] | Mapping[str, str] = (),
    required: bool = False,
    nested: bool = True,
    calibrated: bool = False,
    inputs: bool = False,
) -> Callable[[F], F]:
    """Register `fn(graph, *, option: type = default, ...) -> Graph` as a pass.

    promise   how far answers stay the same: exact, close or lossy
    after     passes that must come earlier where both are in a pipeline; a mapping also gives the reasons
    needs     passes that must be there, and earlier
    required  the graph cannot be compiled without it: it runs whatever `--limit` says
    nested    it runs on the graphs that If and Loop own as well, after the graph around them; else it does that itself
    calibrated  it uses calibration data; a target of several levels gets one result of it
    inputs    it may change the types of inputs: answers before and after it are not compared

    A keyword argument `session: Session` gets the session. A pass that changes the graph without asking
    `session.step` counts as one rewrite.
    """

    if not re.fullmatch("[a-z][a-z0-9_-]*", name):
        raise ValueError(f"pass {name!r}: a pipeline cannot name it; expected small letters, digits and hyphens")

    def register(fn: F) -> F:
        if name in PASSES and PASSES[name].fn.__code__ is not fn.__code__:
            raise ValueError(f"pass {name!r} is defined twice: in {PASSES[name].fn.__module__} and in {fn.__module__}")
        takes = "session" in inspect.signature(fn).parameters
        PASSES[name] = Pass(
            name,
            fn,
            promise,
            options_of(fn),
            _reasons(after),
            _reasons(needs),
            required,
            takes,
            nested,
            calibrated,
            inputs,
        )
        return fn

    return register


def _reasons(others: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    return dict(others) if isinstance(others, Mapping) else dict.fromkeys(others, "")


def find_pass(name: str) -> Pass:
    """The row of a pass: `low-rank` is looked for in passes/low_rank.py, then in all of them and in the plugins."""
    if name not in PASSES:
        module = f"edgec.passes.{name.replace('-', '_')}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    if name not in PASSES and name not in all_passes():
        raise EdgecError(f"unknown pass {name!r}{nearest(name, PASSES)}")
    return PASSES[name]


def all_passes() -> dict[str, Pass]:
    """Every pass: ours and the plugins', by name."""
    from .plugins import load_plugins

    package = importlib.import_module("edgec.passes")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"edgec.passes.{module.name}")
    load_plugins()
    return dict(sorted(PASSES.items()))
