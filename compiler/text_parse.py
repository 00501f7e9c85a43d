"""The text form of graphs, `.eir`: reading. The grammar is `grammar/eir.lark`.

Constants may be written as what makes them: `"zeros"`, `"ones"`, `"fill:2.5"`, `"arange"`, `"randn:SEED"` or
`"randn:SEED*SCALE"`. For floats `randn` is normally distributed; for integers and booleans it is uniform over the type,
32 and 64 bit ones over -100..100.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import NoReturn

import numpy as np
from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from .dtypes import dtype, integer_limits, known_as
from .errors import EdgecError, IRError, nearest
from .ir import Array, Attr, Data, Graph, Node, QParams, Type, Value
from .narrow import POWERS

GRAMMARS = Path(__file__).resolve().parent / "grammar"
_REF = re.compile(r'%(?:(?P<number>\d+)|"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<plain>[^~]+))(?P<rest>.*)', re.S)
MAX_ELEMENTS = 1 << 26  # what a generator may make: a text must not ask for more memory than a machine has


def parse(text: str, data: Mapping[str, Array] = {}, where: str = "") -> Graph:
    """Read a graph. `data` resolves `sha256:...`; `where` (a file name) stands before line and column in errors."""
    return parse_lines(text, data, where)[0]


def parse_lines(text: str, data: Mapping[str, Array] = {}, where: str = "") -> tuple[Graph, dict[Node, int]]:
    """Read a graph, and the line (from 1) on which each node stands."""
    reader = _Reader(text, data, where)
    try:
        tree = _lark().parse(text)
    except UnexpectedInput as error:
        reader.syntax(error)
    try:
        return reader.graph(tree), reader.lines
    except RecursionError:
        raise IRError(f"{where or 'text'}: graphs or lists are nested too deeply") from None
    except ValueError as error:  # numbers beyond what Python reads
        raise IRError(f"{where or 'text'}: {error}") from error


@lru_cache(maxsize=1)
def _lark() -> Lark:
    return Lark((GRAMMARS / "eir.lark").read_text(), start="graph", parser="lalr", maybe_placeholders=False)


def describe(error: UnexpectedInput) -> str:
    """What lark did not like, in a few words."""
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        return f"unexpected {str(error.token)!r}"
    if isinstance(error, UnexpectedCharacters):
        return f"unexpected character {error.char!r}"
    if isinstance(error, UnexpectedEOF | UnexpectedToken):
        return "the text ends too early"
    return "not understood"


def _trees(tree: Tree[Token], rule: str) -> list[Tree[Token]]:
    return [c for c in tree.children if isinstance(c, Tree) and c.data == rule]


def _tokens(tree: Tree[Token], *kinds: str) -> list[Token]:
    return [c for c in tree.children if isinstance(c, Token) and c.type in kinds]


class _Reader:
    """One reading: the source for messages, and the line of every node made."""

    def __init__(self, text: str, data: Mapping[str, Array], where: str) -> None:
        self.source = text.split("\n")
        self.known = data
        self.where = where
        self.lines: dict[Node, int] = {}

    def fail(self, line: int, column: int, message: str) -> NoReturn:
        place = f"{self.where}:{line}:{column}" if self.where else f"line {line}, column {column}"
        text = self.source[line - 1] if 0 < line <= len(self.source) else ""
        raise IRError(f"{place}: {message}", f"{text}\n{' ' * (column - 1)}^ {message}")

    def at(self, token: Token, message: str) -> NoReturn:
        self.fail(token.line or 1, token.column or 1, message)

    def syntax(self, error: UnexpectedInput) -> NoReturn:
        ended = isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END")
        line, column = (len(self.source), len(self.source[-1]) + 1) if ended else (error.line, error.column)
        self.fail(max(line, 1), max(column, 1), f"syntax error: {describe(error)}")

    def graph(self, tree: Tree[Token]) -> Graph:
        """A graph; a nested one sees none of the outer one's values."""
        scope: dict[str, Value] = {}
        (name,) = _tokens(tree, "SYMBOL", "STRING")
        for param in _trees(tree, "param"):
            refs = _tokens(param, "REF")
            t = self.type(_trees(param, "type")[0])
            self.define(scope, refs, Node("Input", (), (t,), self.attrs(param, ()), self.names(refs)[0]))
        inputs = tuple(scope.values())
        for statement in _trees(tree, "statement"):
            self.statement(statement, scope)
        outputs, names = [], []
        for output in _trees(_trees(tree, "result")[0], "output"):
            value = self.look_up(scope, _tokens(output, "REF")[0])
            given = _tokens(output, "STRING")
            outputs.append(value)
            names.append(self.string(given[0]) if given else value.name)
        plain = all(name == value.name for name, value in zip(names, outputs, strict=True))
        label = self.string(name) if name.type == "STRING" else str(name)
        return Graph(label, inputs, tuple(outputs), () if plain else tuple(names))

    def statement(self, tree: Tree[Token], scope: dict[str, Value]) -> None:
        refs = _tokens(_trees(tree, "refs")[0], "REF")
        (op,) = _tokens(tree, "OP")
        args = tuple(self.look_up(scope, token) for token in _tokens(_trees(tree, "args")[0], "REF"))
        types = tuple(self.type(t) for t in _trees(_trees(tree, "types")[0], "type"))
        if len(types) != len(refs):
            self.at(op, f"{len(refs)} result(s) but {len(types)} type(s)")
        attrs = self.attrs(tree, types if op == "Const" else ())
        names = self.names(refs)
        stem = names[0].removesuffix(".0")
        shared = len(refs) > 1 and names == [f"{stem}.{i}" for i in range(len(refs))]
        self.define(scope, refs, Node(str(op), args, types, attrs, stem if shared else names[0]))

    def attrs(self, tree: Tree[Token], const: tuple[Type, ...]) -> dict[str, Attr]:
        """The attributes of a statement or parameter; `const` is the type of a constant, which its `data` has too."""
        attrs: dict[str, Attr] = {}
        for attr in (a for group in _trees(tree, "attrs") for a in _trees(group, "attr")):
            key, value = attr.children
            assert isinstance(key, Token)
            if key in attrs:
                self.at(key, f"attribute {str(key)!r} is given twice")
            is_data = const and key == "data"
            attrs[str(key)] = self.data(value, const[0], key) if is_data else self.value(value, key)
        return attrs

    def names(self, refs: list[Token]) -> list[str]:
        """The names that references stand for: unquoted, without `~2`, "" for nameless ones."""
        out = []
        for token in refs:
            match = _REF.fullmatch(token)
            assert match
            rest = re.sub(r"^~\d+", "", match["rest"])
            if match["quoted"] is not None:
                name = self.string(token, f'"{match["quoted"]}"')
            else:
                name = match["plain"] or ""
            out.append(name + rest if match["number"] is None or len(refs) > 1 else "")
        return out

    def define(self, scope: dict[str, Value], refs: list[Token], node: Node) -> None:
        for index, token in enumerate(refs):
            if str(token) in scope:
                self.at(token, f"{token} is defined twice")
            scope[str(token)] = Value(node, index)
        self.lines[node] = refs[0].line or 0

    def look_up(self, scope: dict[str, Value], token: Token) -> Value:
        if str(token) not in scope:
            self.at(token, f"{token} is not defined here{nearest(str(token), scope)}")
        return scope[str(token)]

    def type(self, tree: Tree[Token]) -> Type:
        (name,) = _tokens(tree, "NAME")
        try:
            dtype(str(name))
        except IRError as error:
            self.at(name, str(error))
        layouts = _tokens(tree, "LAYOUT")
        q = None
        for quant in _trees(tree, "quant"):
            scales, zeros = ([self.number(n) for n in _trees(g, "number")] for g in _trees(quant, "numbers"))
            if not all(isinstance(z, int) for z in zeros):
                self.at(name, "zero points are integers")
            axes = _tokens(quant, "INT")
            q = QParams(tuple(map(float, scales)), tuple(map(int, zeros)), int(axes[0]) if axes else None)
        shape = tuple(int(d) for d in _tokens(tree, "INT"))
        return Type(str(name), shape, str(layouts[0]) if layouts else "", q)

    @staticmethod
    def number(tree: Tree[Token]) -> int | float:
        text = str(tree.children[0])
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)

    def string(self, token: Token, text: str = "") -> str:
        try:
            return str(json.loads(text or str(token), strict=False))
        except json.JSONDecodeError:
            self.at(token, "unknown escape in a string; JSON's are understood")

    def value(self, item: Token | Tree[Token], key: Token) -> Attr:
        if isinstance(item, Token):
            return self.string(item) if item.type == "STRING" else item.type == "TRUE"
        if item.data == "number":
            return self.number(item)
        if item.data == "list":
            return tuple(self.value(child, key) for child in item.children)
        if item.data == "dense":
            return self.data(item.children[1], self.type(item.children[0]), key)  # type: ignore[arg-type]
        return self.graph(item)

    def data(self, item: Token | Tree[Token], t: Type, key: Token) -> Data:
        """A constant's array: numbers, a generator, or a reference to stored data."""
        value = self.value(item, key)
        if isinstance(value, str):
            try:
                return Data(*resolve(value, t, self.known))
            except EdgecError as error:
                self.at(key, str(error))
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) != t.size:
            self.at(key, f"{len(numbers)} numbers for {t}, which has {t.size} elements")
        row = dtype(t.dtype)
        try:
            array = np.array(numbers, dtype=object)
            if row.is_whole and row.is_storage:  # of which ml_dtypes takes any number
                low, high = integer_limits(row)
                array = array.astype(np.int8)
                if not all(low <= n <= high for n in array):
                    raise OverflowError(f"expected {low} to {high}")
            return Data(array.astype(row.numpy).reshape(t.shape))
        except (ValueError, TypeError, OverflowError) as error:
            self.at(key, f"not the numbers of {t}: {error}")


def resolve(text: str, t: Type, known: Mapping[str, Array]) -> tuple[Array, str]:
    """The array that a text stands for, and the text to print again ("" for stored data)."""
    want = dtype(t.dtype).numpy
    if text.startswith("sha256:"):
        if text not in known:
            raise EdgecError(f"the numbers of {text!r} are not at hand; they lie in the .npz beside the .eir file")
        array = known[text]
        array = known_as(array, want)
        if array.dtype != want or (array.size != t.size and not t.layout):  # a packed constant is padded
            raise EdgecError(f"{text!r} holds {array.dtype} {array.shape}, not {t}")
        return array, ""
    if prod(t.shape) > MAX_ELEMENTS:
        raise EdgecError(f"{t} is too large to be generated")
    head, _, tail = text.partition(":")
    if text in ("zeros", "ones"):
        return np.full(t.shape, int(text == "ones"), want), text
    if text == "arange":
        return np.arange(t.size).reshape(t.shape).astype(want), text
    try:
        if head == "fill":
            return np.full(t.shape, float(tail)).astype(want), text
        if head == "randn":
            seed, _, scale = tail.partition("*")
            return _random(int(seed), float(scale or 1), t), text
    except ValueError as error:
        raise EdgecError(f"bad number in {text!r}: {error}") from error
    raise EdgecError(
        f"unknown data {text!r}; known: sha256:HEX, zeros, ones, arange, fill:VALUE, randn:SEED, randn:SEED*SCALE"
    )


def _random(seed: int, scale: float, t: Type) -> Array:
    rng, want = np.random.default_rng(seed), dtype(t.dtype)
    if want.name == "bool":
        return rng.random(t.shape) < 0.5
    if want.is_whole:
        low, high = integer_limits(want)
        low, high = (-100 if low else 0, 100) if want.bytes > 2 else (low, high)
        return rng.integers(low, high, t.shape, endpoint=True).astype(want.numpy)
    normal = np.asarray(rng.standard_normal(t.shape) * scale)
    return (np.abs(normal) if want.name == POWERS else normal).astype(want.numpy)
