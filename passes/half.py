"""Computes in f16: values between operators are stored in half precision, sums and functions are formed in f32.

Inputs and outputs of the model stay as they are. What leaves the range of f16 easily keeps f32 (squares, sums of many,
exponentials by themselves), and so does what is computed of it element by element: variances and their roots, say. So
do the last elementwise operators before an output, such as those that make coordinates of boxes, operators that take no
f16, and the graphs of If and Loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.errors import IRError
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import OPS, build, const, const_array, is_const, rebuild
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.session import Session

HALF = 65504.0  # the largest f16
WIDE = frozenset(
    "Pow Exp Reciprocal ReduceSum ReduceSumSquare ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp CumSum "
    "CumProd Det BitCast Edgec.NonMaxSuppression".split()
)
# operands in f32: biases, which are few, and of whose errors a whole channel has the same; a mask, often of the most
# negative numbers
WIDE_OPERANDS = {"Conv": (2,), "ConvTranspose": (2,), "Edgec.Attention": (3,)}
STEPS = {
    "canonicalize": "constants must be folded into layers",
    "fold": "constants must be known",
    "quantize": "it measures real values",
    "integers": "it makes real numbers of what stays real",
    "attention": "it looks for products and softmax as they stand",
    "phases": "",
    "channels": "",
}


@graph_pass("half", promise=lossy, after=STEPS, nested=False)
def half(g: Graph, *, session: Session) -> Graph:
    """Stores values in f16 and computes in f32 inside each operator; needs a target whose kernels are fast at that."""
    session.known_rules.add("half")
    return _Half(g, session).graph()


class _Half:
    """One run. `halves`: the f16 form of f32 values of the new graph, each made once."""

    def __init__(self, g: Graph, session: Session) -> None:
        self.old, self.session = g, session
        self.outputs = set(g.outputs)
        self.halves: dict[Value, Value] = {}
        self.last = _last(g)

    def graph(self) -> Graph:
        new: dict[Value, Value] = {}
        for node in self.old.nodes():
            args = tuple(new[a] for a in node.args)
            new.update(zip(node.results, self._node(node, args), strict=True))
        outputs = tuple(self._as(new[v], v.type.dtype) for v in self.old.outputs)
        return self.old.with_values(tuple(new[v] for v in self.old.inputs), outputs)

    def _node(self, node: Node, args: tuple[Value, ...]) -> tuple[Value, ...]:
        if OPS[node.op].kind == "source":
            return node.results
        if self._stays(node, args):
            return self._on_real(node, args).results
        made = self._on_real(node, args) if _mixed(node, args) else self._on_halves(node, args)
        if made is None or not self.session.step("half", node):
            return self._on_real(node, args).results
        return tuple(self._half(v) or v for v in made.results)

    def _on_real(self, node: Node, args: tuple[Value, ...]) -> Node:
        return rebuild(node, [self._as(a, old.type.dtype) for a, old in zip(args, node.args, strict=True)])

    def _stays(self, node: Node, args: tuple[Value, ...]) -> bool:
        """Whether a node computes in f32, or with no real numbers at all: it may need the range, reads such results, or
        leads to an output of the model, which costs no more so."""
        kind = OPS[node.op].kind
        real = [a for a, old in zip(args, node.args, strict=True) if old.type.dtype == "f32"]
        if not real or kind == "control" or node.op in WIDE or _squares(node):
            return True
        wide = [a.type.dtype == "f32" and not is_const(a) for a in real]
        if kind == "map":
            return node in self.last and any(wide)
        if kind == "elementwise":
            return node in self.last or all(a.type.dtype == "f32" for a in real)
        shrinks = node.types[0].size < node.args[0].type.size
        return kind == "reduce" and ((shrinks and all(wide)) or not self.outputs.isdisjoint(node.results))

    def _on_halves(self, node: Node, args: tuple[Value, ...]) -> Node | None:
        """The node on f16; None where a constant is out of its range, or the operator does not take it."""
        real = WIDE_OPERANDS.get(node.op, ())
        found = [self._as(a, "f32") if k in real else self._half(a) for k, a in enumerate(args)]
        halves = [half for half in found if half is not None]
        return self._rebuilt(node, halves) if len(halves) == len(args) else None

    def _half(self, value: Value) -> Value | None:
        """The value in f16 where it is a real one; None: a constant out of range."""
        if value.type.dtype != "f32":
            return value
        if value not in self.halves:
            if is_const(value):
                array: Any = const_array(value)
                finite = array[np.isfinite(array)]
                if finite.size and np.abs(finite).max() > HALF:
                    return None
                self.halves[value] = const(array.astype(np.float16), value.node.name, value.node.origin)
            else:
                self.halves[value] = build("Cast", value, to="f16")
        return self.halves[value]

    def _rebuilt(self, node: Node, args: list[Value]) -> Node | None:
        """The node on f16; None where its operator takes none, or the result stays real but is not f16."""
        attrs = {"to": "f16"} if node.op == "Cast" and node.attrs.get("to") == "f32" else {}
        try:
            made = rebuild(node, args, **attrs)
        except IRError:
            return None
        wanted = ["f16" if t.dtype == "f32" else t.dtype for t in node.types]
        return made if [t.dtype for t in made.types] == wanted else None

    def _as(self, value: Value, dtype: str) -> Value:
        """The value in the type that it had."""
        if value.type.dtype == dtype:
            return value
        return build("Cast", value, to=dtype)  # one for each reader, whose kernel it joins


def _mixed(node: Node, args: tuple[Value, ...]) -> bool:
    """Whether a wide number meets one in f16, element by element: a root of a variance, say, may have no f16."""
    return OPS[node.op].kind == "elementwise" and any(a.type.dtype == "f32" and not is_const(a) for a in args)


def _squares(node: Node) -> bool:
    return node.op == "Mul" and node.args[0] == node.args[1]


def _last(g: Graph) -> set[Node]:
    """Elementwise operators and maps whose results lead to outputs, through nothing else."""
    users, outputs, found = g.users(), set(g.outputs), set[Node]()
    for node in reversed(list(g.nodes())):
        readers = [n for r in node.results for n in users.get(r, [])]
        ends = bool(readers) or not outputs.isdisjoint(node.results)
        if OPS[node.op].kind in ("elementwise", "map") and ends and all(n in found for n in readers):
            found.add(node)
    return found
