"""The language of rewrite rules: reading and checking `.rules` files.

    # a per-channel scale after a convolution moves into its weights
    scale_into_conv: Mul(c@Conv(x, w, b), s) where const(w) and const(b) and const(s) and channel(s) and one_use(c)
                  => Conv(x, w * oihw(s), b * flat(s)){**c}

Operators are Capitalised (`Mul|Add` is either), names and functions lower case. `c@P` names what P matches, `_` matches
anything, a name that stands twice must match the same value. Arguments of commutative operators match in either order.
A number matches a constant that holds nothing else. `{axis=1, perm=p}` asks for an attribute or names it. `+ - * /` are
Add, Sub, Mul, Div. Guards answer True or why not; `==` and its kin compare attributes (`c.group`), `x.shape`, `x.rank`
and `x.dtype`. In a replacement `{axis=1, **c}` copies attributes, explicit ones first; helpers compute on constants and
attributes when the rule is applied, and operators on nothing but constants are computed at once. Guards and helpers are
functions registered in `helpers.py`, or by plugins.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedEOF, UnexpectedInput

from ..errors import EdgecError, nearest
from ..ir import Attr
from ..op import OPS
from ..text_parse import GRAMMARS, describe
from .helpers import GUARDS, HELPERS

INFIX = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}


@dataclass(frozen=True)
class Variable:
    """A name: binds in a pattern, stands for what it bound in a replacement."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A number, string, truth value."""

    value: Attr


@dataclass(frozen=True)
class Listing:
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Member:
    """`c.group`."""

    name: str
    key: str


@dataclass(frozen=True)
class Bind:
    """`name@inner`."""

    name: str
    inner: Expr


@dataclass(frozen=True)
class Call:
    """A helper or guard."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True)
class Apply:
    """An operator; several names in `ops` are alternatives (patterns only). `copies` names the sources of `**`."""

    ops: tuple[str, ...]
    args: tuple[Expr, ...]
    attrs: tuple[tuple[str, Expr], ...] = ()
    copies: tuple[str, ...] = ()


Expr = Variable | Literal | Listing | Member | Bind | Call | Apply


@dataclass(frozen=True)
class Guard:
    """`call` must answer True (`want`) or not; or `left compare right` must hold."""

    text: str
    call: Call | None = None
    want: bool = True
    compare: str = ""
    sides: tuple[Expr, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule; `where` is `file:line`, `roots` the operators that it can match."""

    name: str
    pattern: Expr
    guards: tuple[Guard, ...]
    replacement: Expr
    where: str
    roots: frozenset[str] = field(default=frozenset())


def load_rules(*paths: Path) -> list[Rule]:
    """The rules of files, in order."""
    rules: list[Rule] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EdgecError(f"{path}: cannot be read: {error}") from error
        rules += parse_rules(text, str(path))
    return rules


def parse_rules(text: str, where: str = "rules") -> list[Rule]:
    """The rules of a text. Unknown operators, guards, helpers and names are errors with file, line, nearest name."""
    importlib.import_module("edgec.compiler.ops")
    try:
        tree = _lark().parse(text)
    except UnexpectedInput as error:
        line = text.count("\n") + 1 if isinstance(error, UnexpectedEOF) or error.line < 1 else error.line
        raise EdgecError(f"{where}:{line}: syntax error: {describe(error)}") from error
    rules = [_Reader(where).rule(child) for child in tree.children if isinstance(child, Tree)]
    seen: dict[str, Rule] = {}
    for rule in rules:
        if rule.name in seen:
            raise EdgecError(f"{rule.where}: rule {rule.name!r} stands at {seen[rule.name].where} already")
        seen[rule.name] = rule
    return rules


@lru_cache(maxsize=1)
def _lark() -> Lark:
    return Lark(
        (GRAMMARS / "rules.lark").read_text(),
        start="rules",
        parser="lalr",
        maybe_placeholders=False,
        propagate_positions=True,
    )


class _Reader:
    """Turns the tree of one rule into records, checking names on the way."""

    def __init__(self, where: str) -> None:
        self.file = where
        self.line = 0

    def fail(self, message: str) -> NoReturn:
        raise EdgecError(f"{self.file}:{self.line}: {message}")

    def rule(self, tree: Tree[Token]) -> Rule:
        name, pattern_tree, *guard_trees, replacement_tree = tree.children
        assert isinstance(pattern_tree, Tree) and isinstance(replacement_tree, Tree)
        self.line = tree.meta.line
        pattern = self.expr(pattern_tree)
        root = pattern
        while isinstance(root, Bind):
            root = root.inner
        if not isinstance(root, Apply):
            self.fail(f"rule {str(name)!r}: the pattern must be an operator")
        self.check_pattern(pattern)
        bound = set(_bound(pattern))
        guards = tuple(self.guard(t, bound) for t in guard_trees if isinstance(t, Tree))
        self.line = replacement_tree.meta.line
        replacement = self.expr(replacement_tree)
        self.check_replacement(replacement, bound)
        return Rule(str(name), pattern, guards, replacement, f"{self.file}:{tree.meta.line}", frozenset(root.ops))

    def guard(self, tree: Tree[Token], bound: set[str]) -> Guard:
        self.line = tree.meta.line
        if tree.data == "compare":
            left, sign, right = tree.children
            assert isinstance(left, Tree) and isinstance(right, Tree)
            guard = Guard(str(sign), compare=str(sign), sides=(self.expr(left), self.expr(right)))
        else:
            (inner,) = tree.children
            assert isinstance(inner, Tree)
            call = self.expr(inner)
            assert isinstance(call, Call)
            if call.name not in GUARDS:
                self.fail(f"unknown guard {call.name!r}{nearest(call.name, GUARDS)}")
            guard = Guard(call.name, call, tree.data == "holds")
        for side in guard.sides or (guard.call.args if guard.call else ()):
            self.check_replacement(side, bound)
        return guard

    def expr(self, tree: Tree[Token] | Token) -> Expr:
        assert isinstance(tree, Tree)
        kids = tree.children
        kind = str(tree.data)
        if kind in INFIX:
            return Apply((INFIX[kind],), (self.expr(kids[0]), self.expr(kids[1])))
        if kind == "operator":
            return self.operator(tree)
        if kind == "bind":
            return Bind(str(kids[0]), self.expr(kids[1]))
        if kind == "call":
            return Call(str(kids[0]), tuple(self.expr(k) for k in kids[1:]))
        if kind == "member":
            return Member(str(kids[0]), str(kids[1]))
        if kind == "list":
            return Listing(tuple(self.expr(k) for k in kids))
        if kind == "variable":
            return Variable(str(kids[0]))
        if kind in ("true", "false"):
            return Literal(kind == "true")
        if kind == "string":
            return Literal(str(kids[0])[1:-1])
        text = str(kids[0])
        number = int(text) if text.isdigit() else float(text)
        return Literal(-number if kind == "negative" else number)

    def operator(self, tree: Tree[Token]) -> Apply:
        ops = tuple(str(k) for k in tree.children if isinstance(k, Token))
        for name in ops:
            if name not in OPS:
                self.fail(f"unknown operator {name!r}{nearest(name, OPS)}")
        trees = [k for k in tree.children if isinstance(k, Tree)]
        args = tuple(self.expr(t) for t in trees if t.data not in ("attribute", "copy"))
        attrs = tuple((str(t.children[0]), self.expr(t.children[1])) for t in trees if t.data == "attribute")
        copies = tuple(str(t.children[0]) for t in trees if t.data == "copy")
        for name in ops:
            least, most = OPS[name].arity
            if len(args) < least or (most != -1 and len(args) > most):
                self.fail(f"{name} takes {least if least == most else OPS[name].arity} argument(s), not {len(args)}")
            for key, _ in attrs:
                if key not in OPS[name].attrs:
                    self.fail(f"{name} has no attribute {key!r}{nearest(key, OPS[name].attrs)}")
        return Apply(ops, args, attrs, copies)

    def check_pattern(self, expr: Expr) -> None:
        if isinstance(expr, Call):
            self.fail(f"{expr.name}(...) in a pattern; operators are Capitalised{nearest(expr.name.capitalize(), OPS)}")
        if isinstance(expr, Apply) and expr.copies:
            self.fail("'**' copies attributes in a replacement; a pattern cannot have it")
        for child in _children(expr):
            self.check_pattern(child)

    def check_replacement(self, expr: Expr, bound: set[str]) -> None:
        used = (
            [expr.name] if isinstance(expr, Variable | Member) else list(expr.copies) if isinstance(expr, Apply) else []
        )
        for name in used:
            if name not in bound:
                self.fail(f"{name!r} is not bound by the pattern{nearest(name, bound)}")
        if isinstance(expr, Call) and expr.name not in HELPERS:
            self.fail(f"unknown helper {expr.name!r}{nearest(expr.name, HELPERS)}")
        if isinstance(expr, Bind):
            self.fail(f"'{expr.name}@' binds in a pattern; a replacement cannot have it")
        if isinstance(expr, Apply) and len(expr.ops) > 1:
            self.fail(f"alternatives {'|'.join(expr.ops)} in a replacement")
        for child in _children(expr):
            self.check_replacement(child, bound)


def _children(expr: Expr) -> Iterator[Expr]:
    if isinstance(expr, Bind):
        yield expr.inner
    elif isinstance(expr, Listing):
        yield from expr.items
    elif isinstance(expr, Call):
        yield from expr.args
    elif isinstance(expr, Apply):
        yield from expr.args
        yield from (value for _, value in expr.attrs)


def _bound(expr: Expr) -> Iterator[str]:
    if isinstance(expr, Variable | Bind):
        yield expr.name
    for child in _children(expr):
        yield from _bound(child)
