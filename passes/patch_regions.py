"""Which regions of a laid-out graph can be computed patch by patch, what each saves, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edgec.compiler.bundle.names import shortened
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.layout import contiguous, storage_bytes, stretch_offset
from edgec.compiler.macs import macs
from edgec.compiler.memory.arena import scratch_stride
from edgec.compiler.op import body_of, int_attr, is_const, viewed

from .plan_overlay import Touch, shift
from .rows_read import AXIS, CONVERSION, Demand, Rows, cut_type, rows_read, separated

DEEPEST = 12  # kernels of a region
Inner = dict[Node, tuple[Graph, Demand]]  # each kernel's body, its inputs separated, and the rows of its values


@dataclass(frozen=True)
class Region:
    """Kernels in order, of which all but the last are read inside alone, and the last one's result."""

    nodes: tuple[Node, ...]

    @property
    def result(self) -> Value:
        return Value(self.nodes[-1])

    @property
    def height(self) -> int:
        return self.result.shape[AXIS]


@dataclass(frozen=True)
class Plan:
    """A region in patches of `rows` rows of its result; estimated bytes alive while it runs, and at most in all."""

    region: Region
    rows: int
    peak: int
    whole: int
    extra: float  # multiply-accumulates that are computed again, as a share of the region's
    steps: int
    arena: tuple[str, str] = field(default=("", ""))

    @property
    def patches(self) -> list[Rows]:
        height = self.region.height
        return [Rows(start, min(start + self.rows, height)) for start in range(0, height, self.rows)]

    def said(self) -> str:
        """What was done, for people."""
        first, last = shortened([self.region.nodes[0].name, self.region.nodes[-1].name])
        height = f"{self.rows} row{'s' if self.rows > 1 else ''}"
        return (
            f"{len(self.region.nodes)} layers from {first!r} to {last!r} in {len(self.patches)} patches of {height}: "
            f"arena {self.arena[1]} instead of {self.arena[0]}, {100 * self.extra:.1f} % of their "
            "multiply-accumulates again"
        )


def plans(g: Graph, threads: int, budget: int, rows: int = 0, layers: int = 0) -> list[Plan]:
    """Regions and heights, the one that is best for a budget of bytes first: those with which everything is estimated
    to fit by what they compute again, then all others by what they need. `rows`, `layers`: only those, the first that
    there is first."""
    live = _Live(g, threads)
    found = []
    for region in regions(g):
        if layers and len(region.nodes) != layers:
            continue
        if not rows and not any(live.bytes[live.step[node]] > budget for node in region.nodes):
            continue
        for height in [rows] if rows else sorted({-(-region.height // n) for n in range(2, region.height + 1)}):
            plan = _estimated(region, height, live)
            if plan is not None:
                found.append(plan)
    if rows:
        return sorted(found, key=lambda p: (live.step[p.region.nodes[0]], -len(p.region.nodes)))
    return sorted(found, key=lambda p: (max(p.whole - budget, 0), max(p.peak - budget, 0), p.extra, p.steps))


def regions(g: Graph) -> Iterator[Region]:
    """Two kernels or more, in the order of the graph."""
    order = [n for n in g.nodes() if n.op not in ("Const", "Input")]
    users, outputs = g.users(), set(g.outputs)
    for first in range(len(order)):
        for end in range(first, min(first + DEEPEST, len(order))):
            if not _has_rows(order[end]):
                break
            nodes = tuple(order[first : end + 1])
            inside = set(nodes)
            alone = all(
                set(users.get(Value(n), [])) <= inside and Value(n) not in outputs and users.get(Value(n))
                for n in nodes[:-1]
            )
            if alone and len(nodes) > 1:
                yield Region(nodes)


def _has_rows(node: Node) -> bool:
    return node.op == "Edgec.Kernel" and len(node.types) == 1 and len(node.types[0].shape) in (3, 4)


def demanded(region: Region, want: Rows) -> tuple[dict[Value, Rows], Inner] | None:
    """The rows of each value in and before the region that `want` of its result takes, and what the bodies say."""
    need: dict[Value, Rows] = {region.result: want}
    inner: Inner = {}
    for node in reversed(region.nodes):
        body, args = separated(body_of(node), node.args)
        read = rows_read(body, need[Value(node)])
        if isinstance(read, str):
            return None
        inner[node] = body, read
        for arg, inside in zip(args, body.inputs, strict=True):
            rows = read.get(inside)
            if rows is None:
                if arg.node in region.nodes:
                    return None  # all of it for some rows: no patch
            elif is_const(viewed(arg)):
                return None
            else:
                need[arg] = rows.joined(need.get(arg))
    return need, inner


def sliceable(value: Value, rows: Rows) -> bool:
    """Whether these rows are one stretch of the value's memory."""
    return contiguous(value.type, AXIS, rows.start, rows.count)


def is_conversion(node: Node) -> bool:
    """Whether a kernel only lays its argument out in another way."""
    return body_of(node).outputs[0].node.op == CONVERSION and body_of(node).outputs[0].node.args[0].node.op == "Input"


def _placed(region: Region, need: dict[Value, Rows]) -> bool:
    """Whether rows of what the region makes lie in one piece; what it reads is copied where they do not."""
    return all(sliceable(value, need[value]) for value in map(Value, region.nodes))


def _estimated(region: Region, rows: int, live: _Live) -> Plan | None:
    plan = Plan(region, rows, 0, 0, 0.0, 0)
    if not 0 < rows < region.height:
        return None
    work = {node: macs(body_of(node)) or node.types[0].size for node in region.nodes}
    again = peak = 0.0
    over = _Overlay(region, live)
    for want in plan.patches:
        found = demanded(region, want)
        if found is None or not _placed(region, found[0]):
            return None
        need = found[0]
        again += sum(work[n] * need[Value(n)].count / n.types[0].shape[AXIS] for n in region.nodes)
        peak = max(peak, _band_peak(region, need))
        over.add(need, want)
    whole = sum(work.values())
    steps = (len(plan.patches) - 1) * len(region.nodes)
    inside = live.around(region) + int(peak) - over.saved()
    return Plan(region, rows, inside, max(inside, live.elsewhere(region)), again / whole - 1, steps)


def _band_peak(region: Region, need: dict[Value, Rows]) -> int:
    """Bytes of rows alive at once within a patch, the result apart."""
    last = {arg: i for i, node in enumerate(region.nodes) for arg in node.args}
    inside = {Value(node) for node in region.nodes}
    direct = {node.args[0] for node in region.nodes if is_conversion(node)}
    copied = [v for v, rows in need.items() if v not in inside | direct and not sliceable(v, rows)]
    alive = {v: storage_bytes(cut_type(v.type, need[v])) for v in copied}
    peak = 0
    for i, node in enumerate(region.nodes):
        value = Value(node)
        if value != region.result:
            alive[value] = storage_bytes(cut_type(value.type, need[value]))
        peak = max(peak, sum(alive.values()) + scratch_stride(int_attr(node, "scratch")))
        alive = {v: size for v, size in alive.items() if last[v] > i}
    return peak


class _Overlay:
    """Whether the result can lie over the value that the region alone reads (plan_overlay.py)."""

    def __init__(self, region: Region, live: _Live) -> None:
        self.region, self.reads, self.writes = region, list[Touch](), list[Touch]()
        inside = {Value(node) for node in region.nodes}
        sources = {a for n in region.nodes for a in n.args if a not in inside and not is_const(viewed(a))}
        end = live.step[region.nodes[-1]]
        ending = [v for v in sources if live.span[_owner(v)][1] <= end]
        self.source = ending[0] if len(ending) == 1 else None

    def add(self, need: dict[Value, Rows], want: Rows) -> None:
        """One more patch: what it reads and then writes."""
        step = len(self.writes)
        if self.source is None or self.source not in need or not sliceable(self.source, need[self.source]):
            self.source = None
            return
        late = self.source in self.region.nodes[-1].args
        self.reads.append(_touch(self.source, need[self.source], 2 * step + late))
        self.writes.append(_touch(self.region.result, want, 2 * step + 1))

    def saved(self) -> int:
        """Bytes that both take less together."""
        if self.source is None:
            return 0
        by = shift(self.reads, self.writes, 16)
        one, other = storage_bytes(self.source.type), storage_bytes(self.region.result.type)
        return max(one + other - max(one + by, other), 0)


def _touch(value: Value, rows: Rows, step: int) -> Touch:
    start = stretch_offset(value.type, AXIS, rows.start)
    return Touch(step, start, start + storage_bytes(cut_type(value.type, rows)))


class _Live:
    """Lifetimes of the values of a graph that have memory of their own, over its kernels."""

    def __init__(self, g: Graph, threads: int) -> None:
        nodes = list(g.nodes())
        kernels = [n for n in nodes if n.op not in ("Const", "Input")]
        self.step = {node: i for i, node in enumerate(kernels)}
        self.span: dict[Value, tuple[int, int]] = {}
        last: dict[Value, int] = {_owner(v): len(kernels) for v in g.outputs}
        for node in kernels:
            for arg in node.args:
                last[_owner(arg)] = max(last.get(_owner(arg), 0), self.step[node])
        for node in nodes:
            for value in node.results:
                if _owner(value) == value and not is_const(value):
                    first = self.step.get(node, 0)
                    self.span[value] = first, max(first, last.get(value, first))
        self.bytes = [0] * (len(kernels) + 1)
        for value, (first, end) in self.span.items():
            for i in range(first, min(end, len(kernels)) + 1):
                self.bytes[i] += storage_bytes(value.type)
        for node, i in self.step.items():
            if node.op == "Edgec.Kernel":
                self.bytes[i] += scratch_stride(int_attr(node, "scratch")) * threads

    def around(self, region: Region) -> int:
        """Bytes that stay while a region runs: its result, what it reads, and what is read after it."""
        first, end = self.step[region.nodes[0]], self.step[region.nodes[-1]]
        inside = {Value(n) for n in region.nodes[:-1]}
        return sum(
            storage_bytes(value.type)
            for value, (begin, last) in self.span.items()
            if value not in inside and begin <= end and last >= first
        )

    def elsewhere(self, region: Region) -> int:
        """The most bytes alive in any step outside a region."""
        steps = {self.step[node] for node in region.nodes}
        return max((size for i, size in enumerate(self.bytes) if i not in steps), default=0)


def _owner(value: Value) -> Value:
    """The value whose bytes this one shows."""
    while value.node.op in ("Edgec.View", "Edgec.Turn", "Edgec.Part", "Edgec.Sized"):
        value = value.node.args[0]
    return value
