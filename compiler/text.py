"""The text form of graphs, `.eir`: printing. `parse(show(g))` prints the same text again.

    graph @tiny(%x: f32[1, 3, 8, 8]) {
      %w = Const() {data="randn:1"} : f32[4, 3, 3, 3]
      %b = Const() {data=[0.0, 0.0, 0.1, 0.0]} : f32[4]
      %c = Conv(%x, %w, %b) {pads=[1, 1, 1, 1], strides=[1, 1]} : f32[1, 4, 8, 8]
      return %c as "y"
    }

Values carry their node's name, `name.0`, `name.1` where a node has several results. A nameless node is a number; names
that are not plain are quoted; where two nodes share a name, the second is `name~2`. Large constants are
`"sha256:<16 hex>"`, their numbers lie beside the text (`constants`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

import numpy as np

from .dtypes import DTYPES, DType
from .errors import IRError
from .ir import Array, Data, Graph, Node, QParams, Type, Value
from .text_parse import parse, parse_lines

__all__ = ["constants", "excerpt", "parse", "parse_lines", "show", "show_node", "show_type"]

INLINE = 32  # constants of at most this many elements are written out
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


def show(graph: Graph, *, origins: bool = False) -> str:
    """The graph as text. `origins` adds the ONNX nodes that each node came from, as comments."""
    return "\n".join(line for line, _ in _Printer(origins=origins).lines(graph)) + "\n"


def constants(graph: Graph) -> dict[str, Array]:
    """The arrays that `show` refers to as `sha256:...`, under those names; what `parse` takes as `data`."""
    printer = _Printer()
    for _ in printer.lines(graph):
        pass
    return printer.stored


def show_node(node: Node) -> str:
    """One node as a single line, arguments by name; long constants and nested graphs are left out."""
    printer = _Printer(brief=True)
    for arg in dict.fromkeys(node.args):
        printer.assign(arg.node)
    printer.assign(node)
    return printer.statement(node, "").strip()


def excerpt(graph: Graph, node: Node, message: str, around: int = 3) -> str:
    """The lines around a node, the message standing under its own. Works on broken graphs too."""
    lines = list(_Printer(brief=True, origins=True).lines(graph))
    places = [i for i, (_, owner) in enumerate(lines) if owner is node]
    if not places:
        return f"{show_node(node)}\n^ {message}"
    at = places[0]
    text = lines[at][0]
    pad = " " * (len(text) - len(text.lstrip()))
    before = [line for line, _ in lines[max(0, at - around) : at]]
    after = [line for line, _ in lines[at + 1 : at + 1 + around]]
    return "\n".join([*before, text, f"{pad}^ {message}", *after])


def show_type(t: Type) -> str:
    """`f32[1, 24, 8, 8]@NCHW16c q<0.5; 0>`."""
    return f"{t} {_quant(t.q)}" if t.q else str(t)


def _quant(q: QParams) -> str:
    axis = "" if q.axis is None else f"; axis={q.axis}"
    return f"q<{', '.join(map(_float, q.scale))}; {', '.join(map(str, q.zero))}{axis}>"


def _float(number: float) -> str:
    return repr(float(number))


def _elements(array: Array) -> str:
    """All elements, flat, each as the shortest text that reads back to the same number of this type."""
    flat = array.reshape(-1)
    if flat.dtype == np.bool_:
        return _list("true" if x else "false" for x in flat)
    row = _row_of(flat)
    if row and row.is_whole:
        return _list(str(int(x)) for x in flat)
    if flat.dtype in (np.float32, np.float16):
        return _list(_point(str(x)) for x in flat)
    return _list(_float(float(x)) for x in flat)


def _row_of(array: Array) -> DType | None:
    return next((row for row in DTYPES.values() if row.numpy == array.dtype), None)


def _point(text: str) -> str:
    return text if re.search(r"[.enf]", text) else text + ".0"


def _list(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"


class _Printer:
    """One printing: the large constants met so far, and the names given in the graph being printed."""

    def __init__(self, *, brief: bool = False, origins: bool = False) -> None:
        self.brief = brief
        self.origins = origins
        self.stored: dict[str, Array] = {}
        self.names: dict[Value, str] = {}
        self.used: set[str] = set()
        self.nameless = 0

    def lines(self, graph: Graph, indent: str = "") -> list[tuple[str, Node | None]]:
        """Lines with the node that each belongs to. A nested graph has names of its own."""
        outer = self.names, self.used, self.nameless
        self.names, self.used, self.nameless = {}, set(), 0
        for value in graph.inputs:
            self.assign(value.node)
        params = ", ".join(f"{self.ref(v)}: {show_type(v.type)}{self.attrs(v.node, indent)}" for v in graph.inputs)
        symbol = graph.name if _SYMBOL.fullmatch(graph.name) else json.dumps(graph.name, ensure_ascii=False)
        out: list[tuple[str, Node | None]] = [(f"graph @{symbol}({params}) {{", None)]
        inputs = {v.node for v in graph.inputs}
        for node in graph.nodes():
            if node not in inputs:
                self.assign(node)
                out += [(line, node) for line in self.statement(node, indent + "  ").split("\n")]
        results = ", ".join(self.output(name, value) for name, value in graph.results)
        out += [(f"{indent}  return {results}".rstrip(), None), (f"{indent}}}", None)]
        self.names, self.used, self.nameless = outer
        return out

    def output(self, name: str, value: Value) -> str:
        renamed = name != value.name
        return f"{self.ref(value)} as {json.dumps(name, ensure_ascii=False)}" if renamed else self.ref(value)

    def assign(self, node: Node) -> None:
        """Give a node's results their references."""
        count = len(node.types)
        if node.name:
            base = node.name if _PLAIN.fullmatch(node.name) else json.dumps(node.name, ensure_ascii=False)
        else:
            base, self.nameless = str(self.nameless), self.nameless + 1
        stem, attempt = base, 1
        while any(r in self.used for r in self.references(stem, count)):
            attempt += 1
            stem = f"{base}~{attempt}"
        for index, ref in enumerate(self.references(stem, count)):
            self.names[Value(node, index)] = ref
            self.used.add(ref)

    @staticmethod
    def references(stem: str, count: int) -> list[str]:
        return [f"%{stem}"] if count == 1 else [f"%{stem}.{i}" for i in range(count)]

    def ref(self, value: Value) -> str:
        """The reference of a value; one that is not defined here (a broken graph) gets a question mark."""
        return self.names.get(value, f"%?{value.node.name or value.node.op}.{value.index}")

    def statement(self, node: Node, indent: str) -> str:
        left = ", ".join(self.ref(value) for value in node.results)
        args = ", ".join(map(self.ref, node.args))
        comment = f"  # from {', '.join(node.origin)}" if self.origins and node.origin else ""
        types = ", ".join(map(show_type, node.types))
        return f"{indent}{left} = {node.op}({args}){self.attrs(node, indent)} : {types}{comment}".replace("\r", " ")

    def attrs(self, node: Node, indent: str) -> str:
        shown = ", ".join(f"{k}={self.attr(node, k, v, indent)}" for k, v in sorted(node.attrs.items()))
        return f" {{{shown}}}" if shown else ""

    def attr(self, node: Node, key: str, value: object, indent: str) -> str:
        if isinstance(value, Data):
            if node.op == "Const" and key == "data":
                return self.data(value, inline=value.array.shape == node.types[0].shape)
            row = _row_of(value.array)
            if row is None:
                raise IRError(f"{node}: attribute {key!r} holds {value.array.dtype}, which has no text form")
            return f"dense<{Type(row.name, value.array.shape)}, {self.data(value)}>"
        if isinstance(value, Graph):
            if self.brief:
                return f"graph @{value.name}"
            return "\n".join(line for line, _ in self.lines(value, indent))
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(int(value))
        if isinstance(value, float):
            return _float(value)
        if isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, tuple | list):
            return _list(self.attr(node, key, item, indent) for item in value)
        if self.brief:  # for errors about such attributes
            return repr(value)
        raise IRError(f"{node}: attribute {key!r} is a {type(value).__name__}, which has no text form")

    def data(self, data: Data, inline: bool = True) -> str:
        if data.text:
            return json.dumps(data.text)
        if self.brief and data.array.size > INLINE:
            return '"..."'
        if data.array.size <= INLINE and inline:
            return _elements(data.array)
        key = digest(data.array)
        self.stored[key] = data.array
        return json.dumps(key)


def digest(array: Array) -> str:
    """`sha256:<16 hex>` over element type, shape and bytes."""
    head = f"{array.dtype.name} {array.shape}\n".encode()
    hashed = hashlib.sha256(head)
    hashed.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return f"sha256:{hashed.hexdigest()[:16]}"


def missing(graph: Graph, known: Mapping[str, Array]) -> dict[str, Array]:
    """The large constants of a graph that `known` lacks."""
    return {key: array for key, array in constants(graph).items() if key not in known}
