"""Gives every value an offset in one arena: lifetimes over the schedule, sharing, then packing (memory/arena.py).

Values that share a buffer form one cluster: views and parts of their source, the members of a join, and an
elementwise result that takes the place of an argument which nobody reads later.

The graphs of an If or a Loop are planned first, each for itself; together they get one block of the outer arena while
their node runs. Their inputs lie outside: where the node's arguments lie, and for a Loop's turn and carried values
where its results do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.layout import storage_bytes, stretch_offset
from edgec.compiler.memory.arena import EFFORT, scratch_stride
from edgec.compiler.memory.regions import Region, holding
from edgec.compiler.memory.spread import spread
from edgec.compiler.op import OPS, int_attr, is_const, viewed
from edgec.compiler.ops.control import FLAGS, graphs_of, inputs_of
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.program import Allocation, Arena
from edgec.compiler.session import BRIEF, Session
from edgec.compiler.traffic import bytes_read
from edgec.compiler.unfit import largest, ram_help
from edgec.compiler.units import show_bytes
from edgec.compiler.verify import stage_rule

from .in_place import replaceable
from .plan_check import check_plan
from .plan_overlay import Cluster, buffer_of, overlaid

SCRATCH = "scratch"

stage_rule("plan", check_plan)


@graph_pass("plan", promise=exact, needs=("layout",), required=True, nested=False)
def plan_memory(g: Graph, *, session: Session, in_place: bool = True, align: int = 0) -> Graph:
    """Writes arena offsets (bytes) into the attribute `arena` of every node, one per result. `align`: bytes to whose
    multiples buffers begin; 0: as the target has it."""
    align = align or (session.target.spacing if session.target else 64)
    effort = 0 if session.settings.get(BRIEF) else EFFORT
    schedule = Schedule(g, in_place, session.threads, align, rooms=rooms_of(session), effort=effort)
    if schedule.packed.missing:
        raise EdgecError(unfit(schedule, session))
    session.arena = schedule.arena()
    planned = schedule.apply({}, 0)
    check_plan(planned)  # at every level of the verifier: a wrong plan gives wrong answers without a sign
    return planned


def rooms_of(session: Session) -> list[Region]:
    """The RAM regions of the target for arenas, the cheapest to read first; none: memory of any size."""
    if session.target is None or session.target.gpu:
        return []
    return holding(session.target.memory, "arena")


def unfit(schedule: Schedule, session: Session) -> str:
    """Why the arena does not fit the RAM regions, in one line."""
    arena = schedule.arena()
    types = {t.dtype for node in schedule.nodes for t in node.types if node.op == "Edgec.Kernel"}
    have = ", ".join(f"{room.name} {show_bytes(room.size)}" for room in rooms_of(session))
    short = f"{show_bytes(schedule.packed.missing)} more than fits into {have}"
    hint = f"{largest(arena.map)}; {ram_help(types)}, larger regions (--memory)"
    return f"memory: the arena of {schedule.g.name} takes {short}; {hint}"


class Schedule:
    """Steps in graph order, clusters alive over them, and where these lie. `nested`: the graph of a control node;
    `rooms`: the RAM regions, the cheapest first."""

    def __init__(
        self,
        g: Graph,
        in_place: bool,
        threads: int,
        align: int,
        nested: bool = False,
        rooms: Sequence[Region] = (),
        effort: int = EFFORT,
    ) -> None:
        self.g = g
        self.threads = threads
        self.effort = effort
        self.nested = nested
        self.nodes = list(g.nodes())
        self.step = {node: i for i, node in enumerate(n for n in self.nodes if _runs(n))}
        self.steps = len(self.step)
        self.last: dict[Value, int] = dict.fromkeys(g.outputs, self.steps)
        for node in reversed(self.nodes):  # readers first: a view's readers are readers of its source
            step = self.step.get(node)
            seen = step if step is not None else max(self.last.get(v, 0) for v in node.results)
            for arg in node.args:
                self.last[arg] = max(self.last.get(arg, 0), seen)
        self.cluster: dict[Value, Cluster] = {}
        self.scratch: list[tuple[Node, Cluster]] = []
        self.inner: dict[Node, dict[str, Schedule]] = {}
        for node in self.nodes:
            if OPS[node.op].kind == "control":
                self._control(node, in_place, align)
            else:
                self._add(node, in_place)
        self.order = [c for c in dict.fromkeys(self.cluster.values()) if not c.outside] + [c for _, c in self.scratch]
        self._pack(rooms, align)

    def _pack(self, rooms: Sequence[Region], align: int) -> None:
        """Place all clusters; some lie over the value that they are computed from, where that takes less."""
        reads = self._reads() if len(rooms) > 1 else dict.fromkeys(self.order, 0.0)
        alone = [[(c, 0)] for c in self.order]
        over = overlaid(self.order, self._joins(), self.nodes, self.step, align) if self.effort else alone
        ways = [alone, *([over] if over != alone else [])]
        found = []
        for units in ways:
            sums = [sum(reads[c] for c, _ in unit) for unit in units]
            found.append(spread([buffer_of(unit) for unit in units], sums, rooms, align, self.effort))
        best = min(range(len(ways)), key=lambda k: (found[k].missing, found[k].bytes))
        self.units, self.packed = ways[best], found[best]
        offsets = zip(self.units, self.packed.offsets, strict=True)
        self.base = {c: at + by for unit, at in offsets for c, by in unit}

    def _joins(self) -> list[Cluster]:
        return list({self.cluster[Value(n)]: None for n in self.nodes if n.op == "Edgec.Join"})

    def _add(self, node: Node, in_place: bool) -> None:
        if node.op == "Const":
            return
        if node.op == "Input":
            self._own(Value(node), 0, name=node.name)
            if self.nested:
                cluster = self.cluster[Value(node)]
                cluster.last, cluster.pinned, cluster.outside = self.steps, True, True
        elif node.op in ("Edgec.View", "Edgec.Turn", "Edgec.Sized"):
            self._share(Value(node), node.args[0], 0)
        elif node.op == "Edgec.Part":
            source = replace(node.args[0].type, layout=node.types[0].layout)  # the same bytes, perhaps in other blocks
            at = stretch_offset(source, int_attr(node, "axis"), int_attr(node, "start"))
            self._share(Value(node), node.args[0], at)
        elif node.op == "Edgec.Join":
            self._join(node)
        else:
            step = self.step[node]
            for value in node.results:
                target = self._replaced(node, value) if in_place else None
                if target is not None:
                    self._share(value, target, 0)
                    self.cluster[value].last = max(step, self.last.get(value, step))
                else:
                    self._own(value, step, name=value.name)
            if scratch := int_attr(node, "scratch"):
                cluster = Cluster(
                    {}, scratch_stride(scratch) * self.threads, step, step, True, f"{node.name}.{SCRATCH}"
                )
                self.scratch.append((node, cluster))

    def _control(self, node: Node, in_place: bool, align: int) -> None:
        """Results of its own, and a block for whichever graph runs."""
        step = self.step[node]
        for value in node.results:
            self._own(value, step, name=value.name)
        self.inner[node] = {
            key: Schedule(g, in_place, self.threads, align, nested=True, effort=self.effort)
            for key, g in graphs_of(node).items()
        }
        size = max(inner.packed.bytes for inner in self.inner[node].values()) + _flags(node)
        self.scratch.append((node, Cluster({}, size, step, step, True, f"{node.name}.{SCRATCH}")))

    def _own(self, value: Value, step: int, name: str) -> None:
        last = max(step, self.last.get(value, step))
        self.cluster[value] = Cluster({value: 0}, storage_bytes(value.type), step, last, name=name)

    def _share(self, value: Value, source: Value, offset: int) -> None:
        if is_const(viewed(source)):
            return
        cluster = self.cluster[source]
        cluster.offsets[value] = cluster.offsets[source] + offset
        cluster.last = max(cluster.last, self.last.get(value, 0))
        self.cluster[value] = cluster

    def _join(self, node: Node) -> None:
        """Move the members' clusters into one that spans them all."""
        axis = int_attr(node, "axis")
        value = Value(node)
        whole = Cluster({value: 0}, storage_bytes(value.type), self.steps, self.last.get(value, 0), True, node.name)
        start = 0
        for part in node.args:
            old = self.cluster[part]
            base = stretch_offset(value.type, axis, start) - old.offsets[part]
            for member, offset in old.offsets.items():
                whole.offsets[member] = base + offset
                self.cluster[member] = whole
            whole.first, whole.last = min(whole.first, old.first), max(whole.last, old.last)
            start += part.shape[axis]
        self.cluster[value] = whole

    def _replaced(self, node: Node, value: Value) -> Value | None:
        """The argument whose buffer the result takes over."""
        free = replaceable(node, value)
        return next((a for a in free if self._dies_here(a, node) and not self._read_elsewhere(a, node, free)), None)

    def _read_elsewhere(self, value: Value, node: Node, free: list[Value]) -> bool:
        """Whether another argument lies in the same buffer (a view or a part) and is not read elementwise too."""
        cluster = self.cluster[value]
        others = [a for a in node.args if a != value and self.cluster.get(a) is cluster]
        return any(a not in free or cluster.offsets[a] != cluster.offsets[value] for a in others)

    def _dies_here(self, value: Value, node: Node) -> bool:
        """Whether nothing in the value's buffer is read after this step, so that the step may write over it."""
        cluster = self.cluster.get(value)
        return (
            cluster is not None
            and not cluster.pinned
            and cluster.last <= self.step[node]
            and cluster.offsets[value] == 0
            and cluster.bytes == storage_bytes(value.type)
        )

    def _reads(self) -> dict[Cluster, float]:
        """Bytes of each cluster that an inference reads and writes."""
        count = dict.fromkeys(self.order, 0.0)
        scratch = dict(self.scratch)
        for node in self.nodes:
            if node.op != "Edgec.Kernel":
                continue
            read, written, worked = bytes_read(node)
            for value, size in zip((*node.args, *node.results), (*read, *written), strict=True):
                if self.cluster.get(value) in count:
                    count[self.cluster[value]] += size
            if node in scratch:
                count[scratch[node]] += worked
        return count

    def arena(self) -> Arena:
        """The plan as people and manifests read it."""
        rows = []
        for unit, at in zip(self.units, self.packed.offsets, strict=True):
            whole = buffer_of(unit)
            rows.append(Allocation(whole.name, at, whole.bytes, whole.first, whole.last))
            if whole.until > whole.last:
                rows.append(Allocation(unit[1][0].name, at, whole.kept, whole.last + 1, whole.until))
        rows.sort(key=lambda a: (a.first, a.offset))
        return Arena(self.packed.bytes, self.packed.lower_bound, tuple(rows), self.packed.banks)

    def apply(self, outside: Mapping[Value, int], start: int) -> Graph:
        """The graph with offsets, in an arena that begins at `start`; `outside` says where nested inputs lie."""
        base = {c: start + at for c, at in self.base.items()}
        base |= {self.cluster[value]: at for value, at in outside.items()}
        at = {value: base[c] + c.offsets[value] for value, c in self.cluster.items()}
        scratch = {node: base[c] for node, c in self.scratch}
        new: dict[Value, Value] = {}
        for node in self.nodes:
            made = node
            if node.op != "Const" and node.results[0] in at:
                attrs = {**node.attrs, "arena": tuple(at[v] for v in node.results)}
                if node in self.inner:
                    attrs |= {"scratch_at": scratch[node], **self._graphs(node, at, scratch[node] + _flags(node))}
                elif node in scratch:
                    attrs |= {"scratch_at": scratch[node], "workers": self.threads}
                made = replace(node, args=tuple(new[a] for a in node.args), attrs=attrs)
            new.update(zip(node.results, made.results, strict=True))
        return self.g.with_values(tuple(new[v] for v in self.g.inputs), tuple(new[v] for v in self.g.outputs))

    def _graphs(self, node: Node, at: Mapping[Value, int], start: int) -> dict[str, Graph]:
        """The graphs of a control node in its block."""
        places = inputs_of(node)
        return {
            key: inner.apply({v: at[place] for v, place in zip(inner.g.inputs, places, strict=True)}, start)
            for key, inner in self.inner[node].items()
        }


def _flags(node: Node) -> int:
    return FLAGS if node.op == "Loop" else 0


def _runs(node: Node) -> bool:
    return node.op == "Edgec.Kernel" or OPS[node.op].kind == "control"
