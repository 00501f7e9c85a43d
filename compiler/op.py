"""The operator table: one row per operator, read by importer, verifier, printer, interpreter and constant folder.

A row holds arity, attribute schema, type inference and the numpy meaning. ONNX operators keep their ONNX names and
meaning in the *canonical* form: every optional input is filled in or turned into an attribute, whatever must be known
at compile time (axes, shapes, pads ...) is an attribute. Operators of our own are prefixed `Edgec.`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .dtypes import of_numpy
from .errors import IRError, nearest
from .ir import Array, Attr, Data, Graph, Node, Type, Value

# map        each output element depends on input elements at computed positions (transpose, pad, concat ...)
# elementwise  a map whose positions are the same, broadcasting apart
# reduce     one or more axes are folded (sum, max, mean, softmax, normalization)
# contract   multiply-accumulate over a window or an inner dimension (convolution, matrix multiplication)
# window     pooling
# other      everything else (recurrent, sorting, data-dependent shapes)
# control    runs the graphs that it owns: both branches of If, the body of Loop
# source     no computation: Input, Const
Kind = Literal["map", "elementwise", "reduce", "contract", "window", "other", "control", "source"]

REQUIRED: Attr = "<required>"

Infer = Callable[..., tuple[Type, ...]]
Meaning = Callable[..., Any]


@dataclass(frozen=True)
class Op:
    """A row. `arity` is (least, most), most -1 where unbounded; `attrs` maps names to defaults or REQUIRED.

    `alone`: its kernel computes nothing else, and reads constants of one element from memory like any other argument.
    `over`: the argument whose memory the only result may take; the kernel then leaves there what it does not change.
    """

    name: str
    arity: tuple[int, int]
    infer: Infer
    meaning: Meaning
    kind: Kind
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    commutes: bool = False
    alone: bool = False
    over: int | None = None

    def __post_init__(self) -> None:
        least, most = self.arity
        if not self.name[:1].isupper() or least < 0 or (most != -1 and most < least):
            raise ValueError(f"operator row {self.name!r}: bad name or arity {self.arity}")
        if self.kind not in get_args(Kind):
            raise ValueError(f"operator row {self.name!r}: kind {self.kind!r}{nearest(self.kind, get_args(Kind))}")

    def check(self, node: Node) -> None:
        """Arity and attributes of a node; an `IRError` says what is wrong."""
        least, most = self.arity
        if len(node.args) < least or (most != -1 and len(node.args) > most):
            count = str(least) if least == most else f"{least} or more" if most == -1 else f"{least} to {most}"
            raise IRError(f"{node}: takes {count} argument(s), got {len(node.args)}")
        for key in node.attrs:
            if key not in self.attrs:
                raise IRError(f"{node}: unknown attribute {key!r}{nearest(key, self.attrs)}")
        for key, default in self.attrs.items():
            if default is REQUIRED and key not in node.attrs:
                raise IRError(f"{node}: attribute {key!r} is missing")


OPS: dict[str, Op] = {}


def op(
    name: str,
    arity: int | tuple[int, int],
    infer: Infer,
    meaning: Meaning,
    *,
    kind: Kind = "map",
    attrs: Mapping[str, Attr] | None = None,
    commutes: bool = False,
    alone: bool = False,
    over: int | None = None,
) -> None:
    """Add a row to the table.

    `infer(*types, **attrs)` gives one Type per result or raises `IRError` (without naming the node; callers do).
    `meaning(*arrays, **attrs)` gives an array, or a tuple of arrays where there are several results.
    """
    if name in OPS:
        raise ValueError(f"operator {name!r} is defined twice")
    counts = (arity, arity) if isinstance(arity, int) else arity
    OPS[name] = Op(name, counts, infer, meaning, kind, attrs or {}, commutes, alone, over)


def row(name: str) -> Op:
    """The row of an operator; an unknown one is an `IRError` with the nearest name."""
    if name not in OPS:
        raise IRError(f"unknown operator {name!r}{nearest(name, OPS)}")
    return OPS[name]


def full_attrs(node: Node) -> dict[str, Attr]:
    """The node's attributes, defaults filled in."""
    return {**row(node.op).attrs, **node.attrs}


def int_attr(node: Node, name: str) -> int:
    """An integer attribute, the row's default where the node leaves it out."""
    value = full_attrs(node)[name]
    if not isinstance(value, int):
        raise IRError(f"{node}: attribute {name!r} is {value!r}; expected an integer")
    return value


def ints_attr(node: Node, name: str) -> tuple[int, ...]:
    """An attribute that is a tuple of integers."""
    value = full_attrs(node)[name]
    if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
        raise IRError(f"{node}: attribute {name!r} is {value!r}; expected integers")
    return tuple(v for v in value if isinstance(v, int))


def viewed(value: Value) -> Value:
    """The value whose bytes a chain of `Edgec.View` shows; the value itself where it is no view."""
    while value.node.op == "Edgec.View":
        value = value.node.args[0]
    return value


def body_of(node: Node) -> Graph:
    """The graph that a fused kernel owns."""
    body = node.attrs.get("body")
    if not isinstance(body, Graph):
        raise IRError(f"{node}: has no body")
    return body


def infer(name: str, types: Sequence[Type], attrs: Mapping[str, Attr], where: str = "") -> tuple[Type, ...]:
    """Result types. Every failure, numpy's included, becomes an `IRError` that names the node."""
    for key in attrs:
        if key not in row(name).attrs:
            raise IRError(f"{where or name}: unknown attribute {key!r}{nearest(key, row(name).attrs)}")
    try:
        return row(name).infer(*types, **{**row(name).attrs, **attrs})
    except IRError as error:
        raise IRError(f"{where or name}: {error}") from error
    except (ValueError, IndexError, TypeError, KeyError) as error:
        shown = ", ".join(map(str, types))
        raise IRError(f"{where or name}: cannot be applied to ({shown}) with {dict(attrs)}: {error}") from error


def build(name: str, *args: Value, origin: Sequence[str] = (), label: str = "", **attrs: Attr) -> Value:
    """A new node with inferred types; its first result (`.node.results` has all of them)."""
    node = Node(name, args, infer(name, [a.type for a in args], attrs, label), attrs, label, tuple(origin))
    row(name).check(node)
    return Value(node)


def rebuild(node: Node, args: Sequence[Value] | None = None, **attrs: Attr) -> Node:
    """The node with other arguments or attributes and its types inferred again."""
    new = replace(node, args=node.args if args is None else tuple(args), attrs={**node.attrs, **attrs})
    return replace(new, types=infer(new.op, [a.type for a in new.args], new.attrs, str(node)))


def const(array: npt.ArrayLike, name: str = "", origin: Sequence[str] = ()) -> Value:
    """A constant. The array is held, not copied."""
    data = array if isinstance(array, Data) else Data(array)
    return Value(
        Node("Const", (), (Type(of_numpy(data.array.dtype), data.array.shape),), {"data": data}, name, tuple(origin))
    )


def is_const(value: Value) -> bool:
    return value.node.op == "Const"


def const_array(value: Value) -> Array:
    """The array of a constant; `IRError` where the value is computed."""
    data = value.node.attrs.get("data")
    if not isinstance(data, Data):
        raise IRError(f"{value.node}: is not a constant")
    return data.array


def evaluate(node: Node, args: Sequence[Array]) -> tuple[Array, ...]:
    """The node's numpy meaning: one array per result, cast to the stored element type."""
    with np.errstate(all="ignore"):
        out = row(node.op).meaning(*args, **full_attrs(node))
    results = out if isinstance(out, tuple) else (out,)
    return tuple(np.asarray(r) for r in results)
