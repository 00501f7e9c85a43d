"""Decides which nodes become one kernel: an anchor with the elementwise region after it, or a chain of maps.

A region is found by dominance: if every path from a kernel's result leads through one later node, and all that lies
between is elementwise and of the same shape, the whole region (x * sigmoid(x), a residual add ...) joins the kernel
and only its last value is stored. Every kernel is an `Edgec.Kernel` node whose body is a graph of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from edgec.compiler.dataflow import SINK, to_networkx
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import OPS, const_array, int_attr, ints_attr, is_const, rebuild
from edgec.compiler.ops.resize import blends
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.session import Session

from .fold import constants_inside

MOST_INPUTS = 24  # of a kernel that is fused: outputs and scratch need room among the runtime's arguments too
MOST_NODES = 64  # of a kernel that grows: its code is one expression, whose depth is the compiler's stack
# maps that read an element more than once, or leave some unread: what comes before them is not worth repeating
_REPEATING = frozenset({"Resize", "Expand", "Tile", "Gather", "GatherElements", "GatherND"})
# maps that the planner can often place without a copy: kept apart, so that it may
_PLACEABLE = frozenset({"Concat", "Slice", "Split"})
# products of bytes, whose kernels read all operands from memory: one number for all channels as well
_STORED = frozenset({"Edgec.ConvInteger", "Edgec.MatMulInteger"})
TABLE_APART = 1 << 11  # bytes that are looked up by vectors in a kernel of their own, by a map one by one
LAUNCH_BOUND = 1 << 16  # elements up to which a GPU takes as long to start a map as to run it
_HEAVY = frozenset({"contract", "window", "reduce", "other"})


@dataclass(eq=False)
class _Group:
    """Nodes of one kernel, producers first; `anchor` is its heavy node, if it has one."""

    nodes: list[Node]
    anchor: Node | None = None
    results: tuple[Value, ...] = field(default=())

    @property
    def out(self) -> Value | None:
        return self.results[0] if len(self.results) == 1 else None


@graph_pass("fuse", promise=exact, after=("canonicalize", "fold"), required=True)
def fuse(g: Graph, *, session: Session, epilogues: bool = True) -> Graph:
    """Groups nodes into kernels. `epilogues=false` makes one kernel per node (to find out which fusion is at fault)."""
    g = constants_inside(g).map(_in_parts)
    groups = _anchored(g, session if epilogues else None)
    if epilogues:
        _merge_maps(g, groups, session)
    return _build(g, groups)


def _in_parts(node: Node) -> Value | None:
    """A Concat of more values than a kernel takes, of parts that are joined first."""
    if node.op != "Concat" or len(node.args) <= MOST_INPUTS:
        return None
    parts = [node.args[k : k + MOST_INPUTS] for k in range(0, len(node.args), MOST_INPUTS)]
    names = [f"{node.name}.part{k}" for k in range(len(parts))]
    joined = [Value(replace(rebuild(node, part), name=name)) for part, name in zip(parts, names, strict=True)]
    whole = rebuild(node, joined)
    return _in_parts(whole) or Value(whole)


def _kind(node: Node) -> str:
    return OPS[node.op].kind


def _is_placed(node: Node) -> bool:
    """Whether the node says something of bytes that are there already: it needs no kernel."""
    return node.op in ("Reshape", "Edgec.Sized")


def _anchored(g: Graph, session: Session | None) -> dict[Node, _Group]:
    """One group per node that starts a kernel, grown over its elementwise region."""
    groups: dict[Node, _Group] = {}
    after = _post_dominators(g)
    outputs = set(g.outputs)
    order = list(g.nodes())
    place = {node: i for i, node in enumerate(order)}
    users = g.users()
    for node in [n for n in order if _kind(n) in _HEAVY] + [n for n in order if _kind(n) not in _HEAVY]:
        if node in groups or _kind(node) in ("source", "control") or _is_placed(node):
            continue
        group = _Group([node], node if _kind(node) in _HEAVY else None, node.results)
        groups[node] = group
        if session is not None and (widened := _widened(node, users, outputs)) and session.step("widened", node):
            group.nodes.insert(0, widened)
            groups[widened] = group
        if OPS[node.op].alone or (node.op in _PLACEABLE and placeable(node)) or _looks_up(group, [node], session):
            continue
        while session is not None and (out := group.out) is not None and out not in outputs:
            last = after.get(out.node)
            if last is None:
                break
            region = _between(out, last, users)
            joined = _joins(group, region, out, groups) and not _looks_up(group, region, session)
            if not joined or not session.step("region", last):
                break
            region.sort(key=place.__getitem__)
            group.nodes += region
            group.results = last.results
            groups.update(dict.fromkeys(region, group))
    return groups


def _looks_up(group: _Group, nodes: list[Node], session: Session | None) -> bool:
    """Whether a map would look up many bytes, where a kernel does so by vectors, and nothing else."""
    if group.anchor is not None or session is None or session.target is None or "AVX2" not in session.target.cpu.isa:
        return False
    return any(n.op == "Edgec.Table" and n.types[0].size >= TABLE_APART for n in nodes)


def _widened(node: Node, users: dict[Value, list[Node]], outputs: set[Value]) -> Node | None:
    """What makes f32 of a contraction's constant weights, where nothing else reads it: a Cast, or scales of blocks."""
    maker = node.args[1].node if node.op in ("Conv", "MatMul") else node
    if node.types[0].dtype != "f32" or not maker.args or not all(map(is_const, maker.args)):
        return None
    if maker.op != "Cast" and not (maker.op == "DequantizeLinear" and int_attr(maker, "block")):
        return None
    alone = users.get(Value(maker)) == [node] and node.args.count(Value(maker)) == 1
    return maker if alone and Value(maker) not in outputs else None


def _joins(group: _Group, region: list[Node], out: Value, groups: dict[Node, _Group]) -> bool:
    if not region:
        return False
    for node in region:
        if _kind(node) != "elementwise" or node in groups or len(node.types) != 1 or node.types[0].shape != out.shape:
            return False
    return _fits([*group.nodes, *region])


def _fits(nodes: list[Node]) -> bool:
    """Whether so many nodes, which read so many values, may be one kernel."""
    inside = set(nodes)
    return len(nodes) <= MOST_NODES and len({a for n in nodes for a in n.args if a.node not in inside}) <= MOST_INPUTS


def _post_dominators(g: Graph) -> dict[Node, Node]:
    """The nearest later node that every path from a node to an output passes."""
    import networkx  # 0.1 s that listing passes does not need

    found = networkx.immediate_dominators(to_networkx(g, sink=True).reverse(), SINK)
    return {node: dominator for node, dominator in found.items() if node != SINK and dominator not in (SINK, None)}


def _between(out: Value, last: Node, users: dict[Value, list[Node]]) -> list[Node]:
    """All nodes on paths from `out` to `last`, `last` included."""
    seen: dict[Node, None] = {}
    stack = [out]
    while stack:
        for user in users.get(stack.pop(), []):
            if user not in seen:
                seen[user] = None
                if user is not last:
                    stack += user.results
    return list(seen)


def _merge_maps(g: Graph, groups: dict[Node, _Group], session: Session) -> None:
    """Put a chain of maps into the map kernel, or the plain reduction, that is its only reader."""
    uses, launches = g.uses(), bool(session.target and session.target.gpu)
    for node in list(g.nodes()):
        group = groups.get(node)
        if group is None:
            continue
        for arg in node.args:
            views = _views_before(arg, uses) if launches and group.anchor is None else []
            source = views[0].args[0] if views else arg
            maker = groups.get(source.node)
            if maker is None or maker is group or not _inlines(maker, source, node, group, uses):
                continue
            if _looks_up(maker, [*maker.nodes, *group.nodes], session):
                continue
            if not session.step("chain", node):
                return
            group.nodes = [*maker.nodes, *views, *group.nodes]
            groups.update(dict.fromkeys([*maker.nodes, *views], group))


def _views_before(value: Value, uses: dict[Value, int]) -> list[Node]:
    """The reshapes, producers first, that lead to a small value and that nothing else reads."""
    views: list[Node] = []
    while value.node.op == "Reshape" and uses[value] == 1 and value.type.size <= LAUNCH_BOUND:
        views.insert(0, value.node)
        value = value.node.args[0]
    return views


def _inlines(maker: _Group, arg: Value, reader: Node, group: _Group, uses: dict[Value, int]) -> bool:
    if maker.anchor is not None or maker.out != arg or uses[arg] != 1:
        return False
    if maker.nodes[-1].op in _PLACEABLE and placeable(maker.nodes[-1]):
        return False
    if OPS[maker.nodes[-1].op].alone or OPS[reader.op].alone or reader.op in _REPEATING:
        return False
    if any(blends(n) for n in maker.nodes) and _kind(reader) == "map":
        return False
    if reader.op in _PLACEABLE and placeable(reader):
        return False
    if group.anchor is not None and not (reader is group.anchor and reader.op.startswith("Reduce")):
        return False
    return _fits([*maker.nodes, *group.nodes])


def placeable(node: Node) -> bool:
    """Whether a Concat, Slice or Split touches whole contiguous stretches: every axis before its own has size one."""
    if node.op == "Slice":
        axes, steps = ints_attr(node, "axes"), ints_attr(node, "steps")
        moving = [a for a in axes if node.types[0].shape[a] != node.args[0].shape[a]]
        if len(moving) > 1 or any(s != 1 for s in steps):
            return False
        axis = moving[0] if moving else 0
    else:
        axis = int_attr(node, "axis") % len(node.types[0].shape)
    return all(n == 1 for n in node.args[0].shape[:axis])


def stretches(node: Node) -> list[tuple[int, int, int]]:
    """(axis, start, size) of each result of a Slice or Split that takes whole stretches of one axis."""
    if node.op == "Slice":
        for axis, start in zip(ints_attr(node, "axes"), ints_attr(node, "starts"), strict=True):
            if node.types[0].shape[axis] != node.args[0].shape[axis]:
                return [(axis, start, node.types[0].shape[axis])]
        return [(0, 0, node.types[0].shape[0])]
    axis = int_attr(node, "axis") % len(node.types[0].shape)
    found, start = [], 0
    for t in node.types:
        found.append((axis, start, t.shape[axis]))
        start += t.shape[axis]
    return found


def _build(g: Graph, groups: dict[Node, _Group]) -> Graph:
    """Replace each group by an `Edgec.Kernel` at the place of its last node, and each Reshape by a view."""
    new: dict[Value, Value] = {}
    names: dict[str, int] = {}
    for node in g.nodes():
        if (group := groups.get(node)) is not None:
            if node is not group.nodes[-1]:
                continue
            made = _kernel(group, new, names)
            new.update(zip(group.results, made.results, strict=True))
        elif node.op == "Edgec.Sized":
            new[Value(node)] = Value(replace(node, args=tuple(new[a] for a in node.args)))
        elif _is_placed(node):
            args = tuple(new[a] for a in node.args)
            view = Node("Edgec.View", args, node.types, {"shape": node.types[0].shape}, node.name, node.origin)
            new[Value(node)] = Value(view)
        else:
            made = replace(node, args=tuple(new[a] for a in node.args)) if node.args else node
            new.update(zip(node.results, made.results, strict=True))
    return g.with_values(tuple(new[v] for v in g.inputs), tuple(new[v] for v in g.outputs))


def _kernel(group: _Group, new: dict[Value, Value], names: dict[str, int]) -> Node:
    inside, head = set(group.nodes), group.anchor or group.nodes[-1]
    read = dict.fromkeys(a for n in group.nodes for a in n.args if a.node not in inside)
    stored = set(head.args) if head.op in _STORED else set[Value]()
    outer = [a for a in read if OPS[head.op].alone or a in stored or not _literal(a)]
    body = make_body(group.nodes, outer, group.results)
    label = unique(head.name or head.op, names)
    origin = tuple(dict.fromkeys(o for n in group.nodes for o in n.origin))
    types = tuple(v.type for v in group.results)
    return Node("Edgec.Kernel", tuple(new[a] for a in outer), types, {"body": body}, label, origin)


def _literal(value: Value) -> bool:
    """Constants of one element stay inside the body, as literals of the code."""
    return is_const(value) and const_array(value).size == 1


def make_body(nodes: Iterable[Node], outer: list[Value], results: tuple[Value, ...]) -> Graph:
    """A graph of `nodes` whose inputs stand for the outer values."""
    inputs = [Value(Node("Input", (), (v.type,), {}, f"a{i}")) for i, v in enumerate(outer)]
    inner: dict[Value, Value] = dict(zip(outer, inputs, strict=True))
    for node in nodes:
        copy = replace(node, args=tuple(inner.get(a, a) for a in node.args))
        inner.update(zip(node.results, copy.results, strict=True))
    return Graph("body", tuple(inputs), tuple(inner[v] for v in results))


def unique(name: str, names: dict[str, int]) -> str:
    """The name, numbered from its second use on."""
    count = names[name] = names.get(name, 0) + 1
    return name if count == 1 else f"{name}_{count}"
