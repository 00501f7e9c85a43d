"""The rule of every memory plan, checked by playing the schedule: what a step reads, nobody has written over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.memory.arena import scratch_stride
from edgec.compiler.op import OPS, int_attr, ints_attr, is_const, viewed
from edgec.compiler.ops.control import FLAGS, graphs_of
from edgec.compiler.verify import fault

from .in_place import replaceable
from .plan_overlay import ALIASES

Span = tuple[int, int]


def check_plan(g: Graph, kept: Sequence[Value] = ()) -> None:
    """Raise `IRError` at the first step that reads or writes what it must not. `kept`: inputs that stay to the end."""
    valid: dict[Value, list[Span]] = {Value(v.node): [] for v in g.inputs}  # what of them was written over
    order = list(g.nodes())
    last = {arg: node for node in order for arg in node.args}
    last |= dict.fromkeys((*kept, *g.outputs, *(a for v in g.outputs for a in v.node.args)), order[-1])
    for node in order:
        if node.op in ("Input", "Const"):
            continue
        for arg in node.args:
            if node.op not in ALIASES and not is_const(viewed(arg)) and (arg not in valid or valid[arg]):
                raise fault(
                    g, node, f"reads {arg.name!r}, whose bytes {_show(span(arg))} were written over before this step"
                )
        if node.op == "Edgec.Kernel":
            _write(g, node, valid)
        elif OPS[node.op].kind == "control":
            for inner in graphs_of(node).values():
                check_plan(inner, inner.inputs)
            _write(g, node, valid)
        lost = [one for arg in node.args[:1] for one in valid.get(arg, [])] if node.op in ALIASES else []
        for value in node.results:
            if not is_const(viewed(value)):
                valid[value] = [one for one in lost if _meet(one, span(value))]
        for value in (*node.args, *node.results):
            if last.get(value, node) is node and node is not order[-1]:
                valid.pop(value, None)  # nothing reads it any more
    for value in kept:
        if valid[value]:
            raise fault(g, value.node, "was written over before the end of the graph that reads it again")
    for name, value in g.results:
        if any(_meet(span(v), span(value)) for v in kept):
            raise fault(
                g, value.node, f"output {name!r} lies in an input of this graph, which changes before it is read"
            )
        count = value.node.args[1:] if value.node.op == "Edgec.Sized" else ()
        if any(valid.get(v) for v in (value, *count)):
            raise fault(g, value.node, f"output {name!r} was written over before the end")


def _write(g: Graph, node: Node, valid: dict[Value, list[Span]]) -> None:
    written = [span(v) for v in node.results]
    held = list(_scratch(node))
    for one in held:
        for value in (*node.args, *node.results):
            if not is_const(viewed(value)) and _meet(one, span(value)):
                raise fault(g, node, f"scratch {_show(one)} lies over {value.name!r}, {_show(span(value))}")
    for arg in node.args:
        for target in written:
            over = not is_const(viewed(arg)) and _meet(span(arg), target)
            if over and (span(arg) != target or arg not in _replaceable(node)):
                raise fault(g, node, f"result {_show(target)} lies over argument {arg.name!r}, {_show(span(arg))}")
    for value, lost in valid.items():
        lost += [target for target in (*written, *held) if _meet(span(value), target)]


def span(value: Value) -> Span:
    """The arena bytes of a value: [start, end)."""
    start = ints_attr(value.node, "arena")[value.index]
    return start, start + storage_bytes(value.type)


def _replaceable(node: Node) -> list[Value]:
    return replaceable(node, node.results[0]) if node.op == "Edgec.Kernel" else []


def _scratch(node: Node) -> Iterator[Span]:
    """The scratch of all workers, or all that the graphs of a control node write beside their inputs."""
    if OPS[node.op].kind == "control":
        yield int_attr(node, "scratch_at"), int_attr(node, "scratch_at") + (FLAGS if node.op == "Loop" else 0)
        for graph in graphs_of(node).values():
            for inner in graph.nodes():
                if inner.op not in ("Input", "Const"):
                    yield from (span(v) for v in inner.results if not _outside(v, graph))
                    yield from _scratch(inner)
        return
    if node.op != "Edgec.Kernel":
        return
    size, at, workers = (int_attr(node, key) for key in ("scratch", "scratch_at", "workers"))
    if size:
        yield at, at + scratch_stride(size) * workers


def _outside(value: Value, graph: Graph) -> bool:
    """Whether a value of a nested graph is its input, or a part of it, or a constant."""
    while value.node.op in ("Edgec.View", "Edgec.Turn", "Edgec.Part"):
        value = value.node.args[0]
    return value in graph.inputs or is_const(value)


def _meet(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _show(s: Span) -> str:
    return f"bytes {s[0]}..{s[1] - 1}"
