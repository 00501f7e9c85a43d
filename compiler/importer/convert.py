"""The walk over the ONNX graph: each node, producers first, through its converter; refusals are gathered."""

from __future__ import annotations

import itertools
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..dtypes import dtype, of_numpy
from ..errors import EdgecError, IRError, Unsupported, nearest
from ..ir import Node, Type, Value
from ..op import build, const
from .context import Absent, Context, Held, Items, Unknown
from .drawn import DRAWN
from .functions import Body, Definition, Functions, Versions, body, definition, outside, plain_domain, type_proto
from .graphs import constant_array, ordered, plain
from .read import ONNX_DOMAINS
from .sized.rules import converted
from .sized.sizes import Sizes, is_fixed, known, of_count
from .table import CONTROL, CONVERTERS, NEVER, WRITTEN, Count, Refused

DEEPEST = 64  # definitions within definitions
MOST = 1 << 15  # definitions in one model


def operator(node: gs.Node) -> str:
    """The name of a node's operator in the table of converters; of another domain than ONNX's, that comes first."""
    domain = node.domain or ""
    return str(node.op) if domain in ONNX_DOMAINS else f"{domain}.{node.op}"


def _why_no_domain(node: gs.Node) -> tuple[str, str]:
    known = [name.rpartition(".")[2] for name in CONVERTERS if name.startswith(f"{node.domain}.")]
    if known:
        return "this operator is not supported", f"of its domain, {', '.join(sorted(known))} are"
    return f"operators of domain {node.domain!r} are not supported", ""


@dataclass
class Walk:
    """Values by ONNX name, innermost graph first, and the refusals so far. `made` holds every node that was written.

    `outputs` are names of the graphs' outputs, which count as read. Inside a definition `origin` is the node that it
    stands for, `depth` how deep it is, and `prefix` and `labels` say how its values are called in the whole.
    """

    opset: int
    values: ChainMap[str, Held | Unknown] = field(default_factory=ChainMap)
    refusals: list[Unsupported] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    made: set[Node] = field(default_factory=set)
    outputs: frozenset[str] = frozenset()
    versions: Versions = field(default_factory=dict)
    functions: Functions = field(default_factory=dict)
    origin: str = ""
    depth: int = 0
    prefix: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    expanded: Iterator[int] = field(default_factory=itertools.count)
    counts: dict[Value, Count] = field(default_factory=dict)  # of values whose size depends on data
    sizes: dict[Value, Sizes] = field(default_factory=dict)  # elements of shapes that are computed for that reason

    @contextmanager
    def inside(self, graph: gs.Graph, values: Mapping[str, Held | Unknown]) -> Iterator[None]:
        """Within the graph of a node: names of its own, which hide outer ones and end with it."""
        outer = self.values, self.outputs
        self.values = self.values.new_child(dict(values))
        self.outputs |= {t.name for t in graph.outputs}
        try:
            yield
        finally:
            self.values, self.outputs = outer

    def branch(self, graph: gs.Graph, values: Mapping[str, Held | Unknown]) -> list[Held | Unknown]:
        """The outputs of a node's graph for these inputs."""
        with self.inside(graph, values):
            self.graph(graph)
            return [self.values.get(t.name, Unknown()) for t in graph.outputs]

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
        self.values[tensor.name] = const(array, self.unique(self._label(tensor.name)))

    def _label(self, name: str) -> str:
        """How a value of the graph at hand is called in the whole."""
        return self.labels.get(name, self.prefix + name)

    def _refuse(self, node: gs.Node, name: str, why: str, help: str = "") -> None:
        version = self.versions.get(plain_domain(node.domain), self.opset)
        self.refusals.append(Unsupported(name, node.op, version, why, help))
        for tensor in node.outputs:
            self.values[tensor.name] = Unknown()

    def _node(self, node: gs.Node) -> None:
        name = node.name or next((t.name for t in node.outputs if t.name), node.op)
        op, defined = operator(node), self._definition(node)
        if defined is None and op not in CONVERTERS and (node.domain or "") not in ONNX_DOMAINS:
            return self._refuse(node, name, *_why_no_domain(node))
        args = [self.values.get(t.name) if t.name else None for t in node.inputs]
        for tensor, arg in zip(node.inputs, args, strict=True):
            if tensor.name and arg is None:
                raise EdgecError(f"node {name!r} ({node.op}): reads {tensor.name!r}, which nothing computes")
        unknown = [a for a in args if isinstance(a, Unknown)]
        if defined is None and op not in CONVERTERS and op not in CONTROL:
            return self._refuse(node, name, *self._why_not(op, node))
        if unknown:
            if reasons := [u.why for u in unknown if u.why]:
                return self._refuse(node, name, reasons[0])
            self.values.update({t.name: Unknown() for t in node.outputs})
            return None
        known = [a for a in args if not isinstance(a, Unknown)]
        try:
            if defined is not None:
                self._expand(node, name, known, defined)
            else:
                self._convert(node, self.context(node, name, known))
        except Refused as refusal:
            self._refuse(node, name, refusal.why, refusal.help)
        return None

    def _definition(self, node: gs.Node) -> Definition | None:
        """What the node's operator is defined by; None where a converter knows better, or nothing defines it."""
        op, domain = operator(node), plain_domain(node.domain)
        if op in WRITTEN and (written := WRITTEN[op](node)):
            return written
        if (op in CONVERTERS or op in CONTROL or op in NEVER) and (domain, node.op) not in self.functions:
            return None
        return definition(node, self.versions, self.functions)

    def _expand(self, node: gs.Node, name: str, args: Sequence[Held | None], defined: Definition) -> None:
        """Convert the definition of a node, in a scope of its own. What is refused there, the node is refused for."""
        if self.depth == DEEPEST or next(self.expanded) >= MOST:
            raise EdgecError(f"node {name!r} ({node.op}): definitions are nested too deeply, or too many")
        wanted = [k for k, tensor in enumerate(node.outputs) if self._read(tensor)]
        try:
            made = body(node, defined, [None if a is None else type_proto(a) for a in args], wanted, self.versions)
            inner = self._within(node, name, args, made, wanted)
            inner.graph(made.graph)
        except EdgecError as error:
            raise type(error)(f"node {name!r} ({node.op}): in its definition: {error}") from error.__cause__
        self.made |= inner.made
        for refusal in dict.fromkeys(inner.refusals):
            self._refuse(node, name, f"its definition holds {refusal.op}: {refusal.why}", refusal.help)
        for k in wanted if not inner.refusals else ():
            if made.outputs[k] not in inner.values:
                raise EdgecError(f"node {name!r} ({node.op}): nothing computes {made.outputs[k]!r} in its definition")
            self.values[node.outputs[k].name] = inner.values[made.outputs[k]]

    def _within(self, node: gs.Node, name: str, args: Sequence[Held | None], made: Body, wanted: Sequence[int]) -> Walk:
        """The walk over a node's definition, which knows its arguments and the operator sets that it names."""
        names = {inner: self._label(t.name) for inner, t in zip(made.outputs, node.outputs, strict=False) if t.name}
        values = {outside(n): self.values[n] for n in made.free if n in self.values}
        values.update((n, a) for n, a in zip(made.inputs, args, strict=False) if a is not None)
        return replace(
            self,
            opset=made.versions[""],
            values=ChainMap(values),
            refusals=[],
            outputs=frozenset(made.outputs[k] for k in wanted),
            versions=made.versions,
            origin=self.origin or name,
            depth=self.depth + 1,
            prefix=f"{next(iter(names.values()), name)}.",
            labels=names,
        )

    def _why_not(self, op: str, node: gs.Node) -> tuple[str, str]:
        if not onnx.defs.has(op, self.opset, ""):
            close = nearest(op, CONVERTERS).removeprefix("; ")
            return "is not an operator of ONNX", close if close.startswith("did") else ""
        why, help = NEVER.get(op, ("this operator is not supported", ""))
        inner = self.depth or len(self.values.maps) > 1
        return why, "" if op in DRAWN and inner else help.replace("RESULT", node.outputs[0].name)

    def context(self, node: gs.Node, name: str, args: Sequence[Held | None]) -> Context:
        """What a converter sees of a node."""
        outputs = [t.name if self._read(t) else "" for t in node.outputs]
        while args and args[-1] is None:
            args = args[:-1]
        where = f"node {name!r} ({node.op})"
        attrs = {key: plain(value, where) for key, value in node.attrs.items() if not isinstance(value, gs.Graph)}
        named = sum(bool(t.name) for t in node.outputs)
        counts = {i: self.counts[a] for i, a in enumerate(args) if isinstance(a, Value) and a in self.counts}
        sizes = {i: self.sizes[a] for i, a in enumerate(args) if isinstance(a, Value) and a in self.sizes}
        return Context(operator(node), name, self.opset, args, attrs, outputs, named, counts, sizes)

    def _convert(self, node: gs.Node, context: Context) -> None:
        try:
            op = context.op
            found = CONTROL[op](self, node, context) if op in CONTROL else converted(context)
        except (IRError, ValueError, TypeError, IndexError, KeyError, OverflowError, ArithmeticError) as error:
            text = " ".join(str(error).split())
            raise EdgecError(f"{context.where}: {text}") from error
        alone = isinstance(found, (Value, Items, Absent))  # a Value is a tuple, too
        results: Sequence[Held | Unknown | None] = [found] if alone else found  # type: ignore[list-item,assignment]
        results = self.publish(context, results, [t.name for t in node.outputs])
        for tensor, result in zip(node.outputs, results, strict=False):
            if tensor.name:
                self.values[tensor.name] = Unknown() if result is None else result

    def _read(self, tensor: gs.Tensor) -> bool:
        return bool(tensor.name) and (bool(tensor.outputs) or tensor.name in self.outputs)

    def publish(
        self, context: Context, results: Sequence[Held | Unknown | None], names: Sequence[str] = ()
    ) -> list[Held | Unknown | None]:
        """Results with a name of its own for every node that was written for them: the result's where it has one."""
        wanted: dict[Node, str] = {}
        for result, name in zip(results, names, strict=False):
            if isinstance(result, Value) and name and result.node in context.fresh:
                wanted.setdefault(result.node, name)
        new: dict[Node, Node] = {}
        for node in context.fresh:
            args = tuple(Value(new.get(a.node, a.node), a.index) for a in node.args)
            name = self.unique(self._label(wanted.get(node, node.name)))
            new[node] = replace(node, args=args, name=name, origin=(self.origin,) if self.origin else node.origin)
        self.made |= set(new.values())
        context.fresh.clear()

        def renamed(value: Value) -> Value:
            return Value(new.get(value.node, value.node), value.index)

        self._keep(context, new.values(), renamed)

        def final(value: Value) -> Value:
            return self._fixed(renamed(value))

        return [
            Items(tuple(map(final, r.members))) if isinstance(r, Items) else final(r) if isinstance(r, Value) else r
            for r in results
        ]

    def _keep(self, context: Context, nodes: Iterable[Node], renamed: Callable[[Value], Value]) -> None:
        """What is known of new values whose size depends on data, and of shapes that are computed for that reason."""
        for value, count in context.made.items():
            self.counts[renamed(value)] = kept = replace(count, value=renamed(count.value))
            self.sizes.setdefault(kept.value, of_count(kept, value.shape[kept.axis]))
        context.made.clear()
        for node in nodes:
            self.sizes.update(zip(node.results, known(node, self.sizes), strict=False))

    def _fixed(self, value: Value) -> Value:
        """A constant in place of a computed shape in which nothing depends on data."""
        sizes = self.sizes.get(value)
        if sizes is None or not is_fixed(sizes):
            return value
        made = const(sizes.astype(dtype(value.type.dtype).numpy), self.unique(value.name), value.node.origin)
        self.made.add(made.node)
        return made

    def must_be_fixed(self, value: Value, what: str) -> None:
        """Refuse a value whose size depends on data where a node that owns a graph would lose its count."""
        if count := self.counts.get(value):
            raise Refused(f"the size of {what} depends on data (result of {count.source})", "give it a fixed size")

    def input(self, t: Type, name: str) -> Value:
        """An input of a graph that a node owns."""
        return Value(Node("Input", (), (Type(t.dtype, t.shape),), {}, self.unique(self._label(name))))

    def copy(self, value: Value) -> Value:
        """The value once more, in memory of its own."""
        return build("Edgec.Layout", value, label=self.unique(f"{value.name}.copy"))

    def unique(self, name: str) -> str:
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
