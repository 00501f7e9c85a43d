"""Writes a region of kernels as patches: parts of what it reads, kernels for some rows, and one join of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgec.compiler.ir import Attr, Graph, Node, Type, Value
from edgec.compiler.layout import same_bytes
from edgec.compiler.op import body_of, is_const
from edgec.compiler.registry import Choice, Problem, choices, laid_out
from edgec.compiler.session import Session

from .patch_regions import Plan, Region, demanded, is_conversion, sliceable
from .rows_read import AXIS, Rows, cut_body, cut_type, separated


class Builder:
    """Makes patches for one target; choices of kernels are remembered."""

    def __init__(self, session: Session) -> None:
        assert session.target is not None
        self.target, self.threads = session.target, session.threads
        self.known: dict[tuple[Node, str], Choice | None] = {}

    def patched(self, g: Graph, plan: Plan) -> Graph | None:
        """The graph with the region in patches; None where no kernel computes some of its rows in these layouts."""
        parts = []
        for rows in plan.patches:
            part = self._patch(plan.region, rows)
            if part is None:
                return None
            parts.append(part)
        old = plan.region.result
        join = Node("Edgec.Join", tuple(parts), (old.type,), {"axis": AXIS}, old.node.name, old.node.origin)
        new: dict[Value, Value] = {old: Value(join)}
        for node in g.nodes():
            if node.results[0] not in new:
                args = tuple(new.get(a, a) for a in node.args)
                made = node if args == node.args else replace(node, args=args)
                new.update(zip(node.results, made.results, strict=True))
        return g.with_values(tuple(new[v] for v in g.inputs), tuple(new[v] for v in g.outputs))

    def _patch(self, region: Region, want: Rows) -> Value | None:
        """The region's result in these rows."""
        found = demanded(region, want)
        assert found is not None
        need, inner = found
        made: dict[Value, Value] = {}
        for node in region.nodes:
            source = node.args[0] if is_conversion(node) else None
            if source is not None and source not in made and not sliceable(source, need[source]):
                if (copy := self._copied(source, need[source], node.types[0].layout)) is None:
                    return None
                made[Value(node)] = copy
                continue
            args = []
            body, demand = inner[node]
            for arg, inside in zip(separated(body_of(node), node.args)[1], body.inputs, strict=True):
                rows = demand.get(inside)
                if rows is None:
                    args.append(arg)
                elif arg in made:
                    args.append(_part(made[arg], rows.within(need[arg])))
                else:
                    part = _part(arg, rows) if sliceable(arg, rows) else self._copied(arg, rows, arg.type.layout)
                    if part is None:
                        return None
                    args.append(part)
            kernel = self._kernel(node, tuple(args), _bare(cut_body(body, demand)), need[Value(node)])
            if kernel is None:
                return None
            made[Value(node)] = Value(kernel)
        return made[region.result]

    def _kernel(self, node: Node, args: tuple[Value, ...], body: Graph, rows: Rows) -> Node | None:
        """A kernel of the graph for some of its rows, which `body` computes."""
        t = cut_type(node.types[0], rows)
        choice = self._choice(node, args, body, t)
        if choice is None:
            return None
        args = tuple(_repacked(a, want) for a, want in zip(args, choice.layouts_in, strict=True))
        wanted = [a.type.layout if want is None else want for a, want in zip(args, choice.layouts_in, strict=True)]
        name = f"{node.name}.rows{rows.start}"
        attrs: dict[str, Attr] = {
            "body": _named(laid_out(body, wanted, (t.layout,)), rows),
            "row": choice.row,
            "config": choice.settings,
            "cost_us": float(choice.cost_us),
            "scratch": choice.scratch_bytes,
            "why": f"rows {rows.start} to {rows.stop - 1} of {node.types[0].shape[AXIS]}: less memory at once",
        }
        return Node("Edgec.Kernel", args, (t,), attrs, name, node.origin)

    def _copied(self, value: Value, rows: Rows, layout: str) -> Value | None:
        """Some rows of a value that do not lie in one piece, in memory of their own."""
        t = replace(cut_type(value.type, rows), layout=layout)
        inner = Value(Node("Input", (), (replace(value.type, layout=""),), {}, "a0"))
        cut = {"starts": (rows.start,), "ends": (rows.stop,), "axes": (AXIS,), "steps": (1,)}
        name = f"{value.name}.rows{rows.start}"
        body = Graph("body", (inner,), (Value(Node("Slice", (inner,), (replace(t, layout=""),), cut, name)),))
        posed = Problem(_laid(body, t), self.target, self.threads)
        offers = [c for c in choices(posed) if _fits(c, (value,), t)]
        if not offers:
            return None
        attrs: dict[str, Attr] = {
            "body": laid_out(body, (value.type.layout,), (t.layout,)),
            "row": offers[0].row,
            "config": offers[0].settings,
            "cost_us": float(offers[0].cost_us),
            "scratch": offers[0].scratch_bytes,
            "why": "its rows do not lie in one piece",
        }
        return Value(Node("Edgec.Kernel", (value,), (t,), attrs, f"{value.name}.cut{rows.start}", value.node.origin))

    def _choice(self, node: Node, args: Sequence[Value], body: Graph, t: Type) -> Choice | None:
        """The cheapest kernel for a body that takes its arguments as they lie; the row of the whole before others."""
        key = node, f"{[str(v.type) for v in body.inputs]} {t} {[n.attrs.get('pads') for n in body.nodes()]}"
        if key not in self.known:
            constants = frozenset(i for i, a in enumerate(args) if is_const(a))
            posed = [Problem(b, self.target, self.threads, constants) for b in (body, _laid(body, t))]
            offers = [c for problem in posed for c in choices(problem) if _fits(c, args, t)]
            first = min(offers, key=lambda c: (c.row != node.attrs["row"], c.cost_us), default=None)
            self.known[key] = first
        return self.known[key]


def _fits(choice: Choice, args: Sequence[Value], t: Type) -> bool:
    """Whether a choice reads what is no constant as it lies, and writes as wanted."""
    taken = all(
        want is None or is_const(a) or same_bytes(a.type, want) for a, want in zip(args, choice.layouts_in, strict=True)
    )
    return taken and same_bytes(t, choice.layouts_out[0])


def _bare(body: Graph) -> Graph:
    return laid_out(body, [""] * len(body.inputs), [""] * len(body.outputs))


def _laid(body: Graph, t: Type) -> Graph:
    return laid_out(body, [""] * len(body.inputs), (t.layout,))


def _repacked(value: Value, want: str | None) -> Value:
    """A constant in the layout that a kernel reads."""
    if not is_const(value) or value.type.layout == (want or ""):
        return value
    return Value(replace(value.node, types=(replace(value.type, layout=want or ""),)))


def _part(value: Value, rows: Rows) -> Value:
    """Some rows of a value, where they lie."""
    if rows.count == value.shape[AXIS]:
        return value
    attrs = {"axis": AXIS, "start": rows.start, "size": rows.count}
    name = f"{value.name}.rows{rows.start}"
    return Value(Node("Edgec.Part", (value,), (cut_type(value.type, rows),), attrs, name, value.node.origin))


def _named(body: Graph, rows: Rows) -> Graph:
    """The body with a result that is not called like the whole: it is another value to those who compare."""
    last = body.outputs[0].node
    return replace(body, outputs=(Value(replace(last, name=f"{last.name}.rows{rows.start}")),))
