"""The walk over the ONNX graph: each node, producers first, through its converter; refusals are gathered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from ..dtypes import dtype, of_numpy
from ..errors import EdgecError, IRError, Unsupported, nearest
from ..ir import Node, Value
from ..op import const, const_array, is_const
from .context import Context
from .read import ONNX_DOMAINS
from .table import CONVERTERS, Refused

_HELP = {
    "LSTM": "recurrent operators are not supported yet",
    "GRU": "recurrent operators are not supported yet",
    "RNN": "recurrent operators are not supported yet",
    "NonMaxSuppression": "end the model before it and select boxes in your program",
    "TopK": "end the model before it and select in your program",
    "Loop": "export the model with a fixed number of steps",
    "Scan": "export the model with a fixed number of steps",
}


@dataclass(frozen=True)
class Unknown:
    """What an unsupported node would have computed, or a constant whose element type we lack (`why`)."""

    why: str = ""


@dataclass
class Walk:
    """Values by ONNX name, and the refusals so far."""

    opset: int
    values: dict[str, Value | Unknown] = field(default_factory=dict)
    refusals: list[Unsupported] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def graph(self, graph: gs.Graph) -> None:
        """Convert every node of a graph that an output needs."""
        for node in ordered(graph):
            for tensor in node.inputs:
                self._constant(tensor)
            self._node(node)
        for tensor in graph.outputs:
            self._constant(tensor)

    def _constant(self, tensor: gs.Tensor) -> None:
        if not isinstance(tensor, gs.Constant) or tensor.name in self.values:
            return
        if isinstance(tensor._values, gs.ir.tensor.SparseValues):
            self.values[tensor.name] = Unknown(f"argument {tensor.name!r} is a sparse constant")
            return
        array = constant_array(tensor, f"constant {tensor.name!r}")
        try:
            of_numpy(array.dtype)
        except IRError:
            self.values[tensor.name] = Unknown(f"argument {tensor.name!r} is of type {array.dtype}")
            return
        self.names.add(tensor.name)
        self.values[tensor.name] = const(array, tensor.name)

    def _refuse(self, node: gs.Node, name: str, why: str, help: str = "") -> None:
        self.refusals.append(Unsupported(name, node.op, self.opset, why, help))
        for tensor in node.outputs:
            self.values[tensor.name] = Unknown()

    def _node(self, node: gs.Node) -> None:
        name = node.name or next((t.name for t in node.outputs if t.name), node.op)
        if (node.domain or "") not in ONNX_DOMAINS:
            return self._refuse(node, name, f"operators of domain {node.domain!r} are not supported")
        args = [self.values.get(t.name) if t.name else None for t in node.inputs]
        for tensor, arg in zip(node.inputs, args, strict=True):
            if tensor.name and arg is None:
                raise EdgecError(f"node {name!r} ({node.op}): reads {tensor.name!r}, which nothing computes")
        unknown = [a for a in args if isinstance(a, Unknown)]
        if node.op not in CONVERTERS and node.op != "If":
            return self._refuse(node, name, *self._why_not(node.op))
        if unknown:
            if reasons := [u.why for u in unknown if u.why]:
                return self._refuse(node, name, reasons[0])
            self.values.update({t.name: Unknown() for t in node.outputs})
            return None
        known = [a for a in args if not isinstance(a, Unknown)]
        try:
            if node.op == "If":
                return self._if(node, name, known)
            self._convert(node, name, known)
        except Refused as refusal:
            self._refuse(node, name, refusal.why, refusal.help)
        return None

    def _why_not(self, op: str) -> tuple[str, str]:
        if not onnx.defs.has(op, self.opset, ""):
            close = nearest(op, CONVERTERS).removeprefix("; ")
            return "is not an operator of ONNX", close if close.startswith("did") else ""
        return "this operator is not supported", _HELP.get(op, "")

    def _convert(self, node: gs.Node, name: str, args: Sequence[Value | None]) -> None:
        outputs = [t.name if self._read(t) else "" for t in node.outputs]
        while args and args[-1] is None:
            args = args[:-1]
        attrs = {key: _plain(value, f"node {name!r} ({node.op})") for key, value in node.attrs.items()}
        context = Context(node.op, name, self.opset, args, attrs, [outputs[0] or node.outputs[0].name, *outputs[1:]])
        try:
            found = CONVERTERS[node.op](context)
        except (IRError, ValueError, TypeError, IndexError, KeyError, OverflowError, ArithmeticError) as error:
            text = " ".join(str(error).split())
            raise EdgecError(f"{context.where}: {text}") from error
        results = (found,) if isinstance(found, Value) else found
        self._publish(context.fresh, results, [t.name for t in node.outputs])

    def _read(self, tensor: gs.Tensor) -> bool:
        return bool(tensor.name) and (bool(tensor.outputs) or tensor.name in self.outputs)

    outputs: frozenset[str] = frozenset()  # names of the graph's outputs, which count as read

    def _if(self, node: gs.Node, name: str, args: Sequence[Value | None]) -> None:
        """A condition that is constant picks its branch; the other one is not looked at."""
        condition = args[0] if args else None
        if condition is None or not is_const(condition):
            raise Refused("its condition is computed while the model runs", "--bind or --shape may make it a constant")
        branch = node.attrs["then_branch" if bool(np.all(const_array(condition))) else "else_branch"]
        outer, self.outputs = self.outputs, self.outputs | {t.name for t in branch.outputs}
        self.graph(branch)
        self.outputs = outer
        for tensor, inner in zip(node.outputs, branch.outputs, strict=True):
            self.values[tensor.name] = self.values.get(inner.name, Unknown())

    def _publish(self, fresh: Sequence[Node], results: Sequence[Value | None], names: Sequence[str]) -> None:
        """Enter results under their ONNX names, and give every new node a name of its own."""
        wanted: dict[Node, str] = {}
        for value, name in zip(results, names, strict=False):
            if value is not None and name and value.node in fresh:
                wanted.setdefault(value.node, name)
        new: dict[Node, Node] = {}
        for node in fresh:
            args = tuple(Value(new.get(a.node, a.node), a.index) for a in node.args)
            new[node] = replace(node, args=args, name=self._unique(wanted.get(node, node.name)))
        for value, name in zip(results, names, strict=False):
            if name:
                self.values[name] = Value(new.get(value.node, value.node), value.index) if value else Unknown()

    def _unique(self, name: str) -> str:
        candidate, k = name, 1
        while candidate in self.names:
            k += 1
            candidate = f"{name}.{k}"
        self.names.add(candidate)
        return candidate


def no_elements(value: Value) -> Value | None:
    """A constant in place of a value without elements: all is known of it, and whatever follows folds."""
    t = value.type
    return None if t.size else const(np.empty(t.shape, dtype(t.dtype).numpy), f"{value.name}.empty")


def constant_array(tensor: gs.Constant, where: str) -> npt.NDArray[Any]:
    """The numbers of an ONNX constant."""
    lazy = tensor._values
    if isinstance(lazy, gs.ir.tensor.SparseValues):
        raise EdgecError(f"{where}: is sparse; expected a dense tensor")
    try:
        lazily = isinstance(lazy, gs.ir.tensor.LazyValues)
        return np.asarray(onnx.numpy_helper.to_array(lazy.tensor) if lazily else lazy)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EdgecError(f"{where}: its data do not fit its shape {list(tensor.shape or [])}: {error}") from None


def _plain(value: Any, where: str) -> Any:
    return constant_array(value, where) if isinstance(value, gs.Constant) else value


def _reads(node: gs.Node) -> Iterator[str]:
    for tensor in node.inputs:
        yield tensor.name
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                yield from _reads(inner)
            yield from (t.name for t in value.outputs)


def ordered(graph: gs.Graph) -> list[gs.Node]:
    """The nodes, producers first: in the file's order where that will do. Raises `EdgecError` on a cycle."""
    producer = {t.name: k for k, node in enumerate(graph.nodes) for t in node.outputs if t.name}
    needs: Mapping[int, set[int]] = {
        k: {producer[name] for name in _reads(node) if name in producer} for k, node in enumerate(graph.nodes)
    }
    if all(k > p for k, producers in needs.items() for p in producers):
        return list(graph.nodes)
    try:
        return [graph.nodes[k] for k in TopologicalSorter(needs).static_order()]
    except CycleError as error:
        names = " -> ".join(graph.nodes[k].name or graph.nodes[k].op for k in reversed(error.args[1]))
        raise EdgecError(f"the graph is cyclic: {names}") from None
