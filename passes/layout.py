"""Chooses a kernel row and memory layouts for every kernel, packs constants, and inserts the conversions that are left.

The choice is global: a row's cost counts together with the conversions that its layouts force on its neighbours, and
the least sum over the whole graph is found (layout_search.py). Constants take any layout for free: they are packed
when the library is written. Concatenations and splits of whole stretches become placements without a copy.
"""

from __future__ import annotations

from dataclasses import replace

from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Attr, Graph, Node, Type, Value
from edgec.compiler.layout import same_bytes
from edgec.compiler.op import OPS, body_of, int_attr, is_const, viewed
from edgec.compiler.ops.control import first_outer
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.registry import Choice, laid_out
from edgec.compiler.session import Session
from edgec.compiler.verify import fault, stage_rule

from .fuse import stretches
from .layout_search import JOIN, PART, TURN, Assignment, search


@graph_pass("layout", promise=exact, needs=("fuse",), required=True)
def layout(g: Graph, *, session: Session) -> Graph:
    """Every `Edgec.Kernel` gets its row, tile and layouts; needs a target."""
    if session.target is None:
        raise EdgecError("pass layout: needs a target; give --target")
    return _Rewrite(search(g, session)).graph(g)


def check_layouts(g: Graph) -> None:
    """Every kernel reads each argument in the layout in which it lies, and the user sees row-major outputs."""
    for node in g.nodes():
        if node.op == "Edgec.Kernel":
            if not node.attrs["row"]:
                raise fault(g, node, "no kernel row is chosen")
            for arg, inner in zip(node.args, body_of(node).inputs, strict=True):
                if not same_bytes(arg.type, inner.type.layout):
                    raise fault(g, node, f"reads {arg.name!r} as {inner.type}, but it lies as {arg.type}")
    for name, value in g.results:
        if not same_bytes(value.type, ""):
            raise fault(g, value.node, f"output {name!r} is not row-major but {value.type}")


stage_rule("layout", check_layouts)


class _Rewrite:
    """Applies an assignment. `new` maps old values to new ones, whose types carry the layout in which they are made."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.new: dict[Value, Value] = {}
        self.converted: dict[tuple[Value, str], Value] = {}
        self.joined: set[Value] = set()

    def graph(self, g: Graph) -> Graph:
        for node in g.nodes():
            self.new.update(zip(node.results, self._node(node), strict=True))
        outputs = tuple(self._output(self._as(self.new[v], "")) for v in g.outputs)
        return g.with_values(tuple(self.new[v] for v in g.inputs), outputs)

    def _output(self, value: Value) -> Value:
        """Outputs have memory of their own: one that is a constant, or lies in an input, is copied."""
        source = value
        while source.node.op in ("Edgec.View", "Edgec.Turn", "Edgec.Part"):
            source = source.node.args[0]
        return self._copy(value, value.type) if is_const(source) or source.node.op == "Input" else value

    def _node(self, node: Node) -> tuple[Value, ...]:
        if node.op in ("Input", "Const"):
            return node.results
        if OPS[node.op].kind == "control":
            return self._control(node)
        if node.op == "Edgec.Sized":
            return replace(node, args=tuple(self._output(self._as(self.new[a], "")) for a in node.args)).results
        if node.op == "Edgec.View":
            return replace(node, args=(self._as(self.new[node.args[0]], ""),)).results
        choice = self.assignment.choice[node]
        if choice.row == JOIN:
            return self._join(node, choice)
        if choice.row == PART:
            return self._part(node, choice)
        if choice.row == TURN:
            return self._turn(node, choice)
        args = tuple(self._argument(self.new[a], want) for a, want in zip(node.args, choice.layouts_in, strict=True))
        return _placed(node, args, choice, self.assignment.why[node]).results

    def _control(self, node: Node) -> tuple[Value, ...]:
        """Its arguments are row-major, and what its graphs read lies in the arena."""
        args = [self._as(self.new[a], "") for a in node.args]
        first = first_outer(node)
        args[first:] = [self._copy(a, a.type) if is_const(viewed(a)) else a for a in args[first:]]
        return replace(node, args=tuple(args)).results

    def _argument(self, value: Value, want: str | None) -> Value:
        return value if want is None else self._as(value, want)

    def _as(self, value: Value, want: str) -> Value:
        """The value in another layout: a repacked constant, the value itself, or the result of a conversion."""
        if value.type.layout == want or (not is_const(value) and same_bytes(value.type, want)):
            return value
        key = value, want
        if key not in self.converted:
            t = replace(value.type, layout=want)
            if is_const(value):
                self.converted[key] = Value(replace(value.node, types=(t,)))
            else:
                self.converted[key] = self._copy(value, t)
        return self.converted[key]

    def _copy(self, value: Value, t: Type) -> Value:
        """A kernel that writes the value again, laid out as `t` says."""
        choice = self.assignment.conversion(value.type, t)
        inner = Value(Node("Input", (), (value.type,), {}, "a0"))
        body = Graph("body", (inner,), (Value(Node("Edgec.Layout", (inner,), (t,), {"to": t.layout}, "to")),))
        name = f"{value.name}_as_{t.layout or 'rows'}"
        node = Node("Edgec.Kernel", (value,), (t,), {"body": body}, name, value.node.origin)
        why = "another layout is wanted by its reader" if value.type != t else "its reader wants it in another place"
        return Value(_placed(node, (value,), choice, why))

    def _join(self, node: Node, choice: Choice) -> tuple[Value, ...]:
        body_node = body_of(node).outputs[0].node
        parts, want = [], choice.layouts_out[0]
        for arg in self._outer(node, body_node):
            part = self._as(self.new.get(arg, arg), want)
            if _maker(part) in self.joined or not _movable(part):
                part = self._copy(part, replace(part.type, layout=want))
            self.joined.add(_maker(part))
            parts.append(part)
        t = replace(node.types[0], layout=want)
        attrs = {"axis": int_attr(body_node, "axis") % len(t.shape)}
        return Node("Edgec.Join", tuple(parts), (t,), attrs, node.name, node.origin).results

    def _part(self, node: Node, choice: Choice) -> tuple[Value, ...]:
        body_node = body_of(node).outputs[0].node
        source = self._as(self.new[node.args[0]], choice.layouts_in[0] or "")
        values = []
        for value, (axis, start, size) in zip(node.results, stretches(body_node), strict=True):
            t = replace(value.type, layout=choice.layouts_out[0])
            attrs = {"axis": axis, "start": start, "size": size}
            values.append(Value(Node("Edgec.Part", (source,), (t,), attrs, value.name, node.origin)))
        return tuple(values)

    def _turn(self, node: Node, choice: Choice) -> tuple[Value, ...]:
        source = self._as(self.new[node.args[0]], choice.layouts_in[0] or "")
        t = replace(node.types[0], layout=choice.layouts_out[0])
        attrs = {"perm": body_of(node).outputs[0].node.attrs["perm"], "to": t.layout}
        return Node("Edgec.Turn", (source,), (t,), attrs, node.name, node.origin).results

    @staticmethod
    def _outer(node: Node, body_node: Node) -> tuple[Value, ...]:
        """What the kernel's single body node reads, in order: arguments, and constants of one element."""
        inputs = body_of(node).inputs
        return tuple(a if is_const(a) else node.args[inputs.index(a)] for a in body_node.args)


def _movable(value: Value) -> bool:
    """Whether the planner may choose where the value lies: no input, no constant, no stretch of something else."""
    return _maker(value).node.op in ("Edgec.Kernel", "Edgec.Join")


def _maker(value: Value) -> Value:
    """The value whose bytes views and turns show."""
    while value.node.op in ("Edgec.View", "Edgec.Turn"):
        value = value.node.args[0]
    return value


def _placed(node: Node, args: tuple[Value, ...], choice: Choice, why: str) -> Node:
    """The kernel with its choice written into attributes, node types and body types.

    The body says how the kernel reads; an argument may have another layout of the same bytes.
    """
    wanted = [a.type.layout if want is None else want for a, want in zip(args, choice.layouts_in, strict=True)]
    body = laid_out(body_of(node), wanted, choice.layouts_out)
    types = tuple(replace(t, layout=lay) for t, lay in zip(node.types, choice.layouts_out, strict=True))
    attrs: dict[str, Attr] = {
        "body": body,
        "row": choice.row,
        "config": choice.settings,
        "cost_us": float(choice.cost_us),
        "scratch": choice.scratch_bytes,
        "why": why,
    }
    return replace(node, args=args, types=types, attrs=attrs)
