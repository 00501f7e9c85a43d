"""How a pipeline is written: `canonicalize, prune{sparsity=0.5}`, and edits of one, `+mine{...}@fold, -quantize`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedEOF, UnexpectedInput, UnexpectedToken

from .errors import EdgecError
from .text_parse import GRAMMARS, describe


@dataclass(frozen=True)
class Item:
    """A pass by name: in its place, inserted (sign `+`) behind the pass `anchor`, or removed (`-`)."""

    sign: str
    name: str
    options: Mapping[str, str]
    anchor: str


def items_of(spec: str) -> tuple[list[Item], list[Item]]:
    """Plain items and edits, each in their order."""
    try:
        tree = _lark().parse(spec)
    except UnexpectedInput as error:
        ended = isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END")
        column = len(spec) + 1 if ended else error.column
        raise EdgecError(
            f"pipeline {spec!r}: column {column}: {describe(error)}; expected names like 'fold, prune{{sparsity=0.5}}'"
        ) from error
    items = [_item(t) for t in tree.children if isinstance(t, Tree)]
    return [i for i in items if not i.sign], [i for i in items if i.sign]


def _item(tree: Tree[Token]) -> Item:
    sign, name, *options, anchor = tree.children
    given: dict[str, str] = {}
    for option in options:
        if isinstance(option, Tree):
            key, value = map(str, option.children)
            given[key] = str(json.loads(value)) if value.startswith('"') else value
    if anchor is not None and sign != "+":
        raise EdgecError(f"pipeline: '@{anchor}' says where to insert; write +{name}@{anchor}")
    return Item(str(sign or ""), str(name), given, str(anchor or ""))


@lru_cache(maxsize=1)
def _lark() -> Lark:
    return Lark((GRAMMARS / "pipeline.lark").read_text(), start="pipeline", parser="lalr", maybe_placeholders=True)
