"""The search behind the layout pass: one choice per kernel, the least modelled time, conversions included.

The total is a sum of tables, one per kernel and one per value, and is made least by elimination (elimination.py). The
cost of a conversion is what the registry says of an `Edgec.Layout` kernel for that value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from math import inf, prod
from typing import TypeAlias

import numpy as np

from edgec.compiler import registry
from edgec.compiler.errors import EdgecError, Unsupported, UnsupportedModel
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.kernel_content import content
from edgec.compiler.layout import contiguous, same_bytes, storage_bytes, stretch_offset, turned
from edgec.compiler.op import body_of, int_attr, ints_attr, is_const, viewed
from edgec.compiler.problems import COLD, distinct, problems
from edgec.compiler.registry import Choice, Problem, choices, shared_offers
from edgec.compiler.session import MAX_RAM, Session
from edgec.compiler.target import Target

from .elimination import Table, least
from .fuse import placeable, stretches
from .tied import tied

JOIN, PART, TURN = "join", "part", "turn"  # choices that the planner carries out: no kernel runs
VIEWS = 4096  # combinations of layouts around one value that are looked at, at most
VECTOR_BYTES = 16  # of the widest access of a GPU
MIXED_US = 0.25e-3  # per byte that is read in one layout for a result in another
MUCH = 8192  # bytes of scratch on a microcontroller
SHARE = 1 / 16  # of the memory that was asked for elsewhere
SECTOR_BYTES = 32  # that a GPU fetches for each element whose neighbours are not wanted with it

# A choice as one of its values sees it: the layout in which the value is made, those in which it is wanted, and the
# layout of the result for which it is read as it is; None: not here.
_View: TypeAlias = tuple[str | None, tuple[str, ...], str | None]


@dataclass
class Assignment:
    """The outcome: a choice and its reason per kernel node, and the choice for any conversion."""

    target: Target
    threads: int
    choice: dict[Node, Choice] = field(default_factory=dict)
    why: dict[Node, str] = field(default_factory=dict)
    _conversions: dict[tuple[Type, str], Choice] = field(default_factory=dict)

    def conversion(self, t: Type, to: Type) -> Choice:
        """The cheapest kernel that lays a value of type `t` out as `to`."""
        key = t, to.layout
        if key not in self._conversions:
            inner = Value(Node("Input", (), (t,), {}, "a0"))
            node = Node("Edgec.Layout", (inner,), (to,), {"to": to.layout}, "to")
            problem = Problem(Graph("body", (inner,), (Value(node),)), self.target, self.threads)
            offers = [
                c for c in choices(problem) if c.layouts_out == (to.layout,) and c.layouts_in[0] in (None, t.layout)
            ]
            if not offers:
                raise EdgecError(f"no kernel lays {t} out as {to.layout or 'row-major'!r} on {self.target.name}")
            self._conversions[key] = offers[0]
        return self._conversions[key]


def search(g: Graph, session: Session) -> Assignment:
    """Choose for every `Edgec.Kernel` of the graph, for the session's target."""
    assert session.target is not None
    found = Assignment(session.target, session.threads)
    offers, refused = {}, []
    known = problems(g, session.target, session.threads, bool(session.settings.get(COLD)))
    options_of = tuned(known, session)
    for node, problem in known.items():
        offers[node] = [*_placements(node, options_of[node], problem.target), *options_of[node]]
        if not offers[node]:
            refused.append(Unsupported(node.name, problem.anchor.op, 0, _no_kernel(problem)))
    if refused:
        raise UnsupportedModel(refused)
    options = {node: lean(offer) for node, offer in offers.items()}
    best = least([len(o) for o in options.values()], _Costs(g, found, options).tables())
    found.choice = {node: o[k] for (node, o), k in zip(options.items(), best, strict=True)}
    if session.target.gpu is None:
        found.choice |= tied(found.choice, options)
    found.why = {node: _reason(found.choice[node], offer) for node, offer in offers.items()}
    return found


def tuned(known: Mapping[Node, Problem], session: Session) -> dict[Node, list[Choice]]:
    """Every choice for each kernel, cheapest first: by measured times where there are any."""
    offers = _offered(known)
    if session.tuner is not None:
        session.tuner([(problem, offers[nodes[0]], len(nodes)) for problem, nodes in distinct(known)])
    if (much := _much(session)) < inf:
        offers = {node: _frugal(found, much) for node, found in offers.items()}
    if session.tunings is None:
        return offers
    return {node: session.tunings.applied(known[node], offers[node]) for node in known}


def _offered(known: Mapping[Node, Problem]) -> dict[Node, list[Choice]]:
    """Every choice for each kernel; equal problems are asked about once."""
    kept = shared_offers()
    found = {}
    for node, problem in known.items():
        sparse = tuple((i, id(data)) for i, data in problem.sparse)
        one = content(problem.body), problem.constants, problem.cold, sparse, problem.reach
        key = one, problem.target, problem.threads
        if key not in kept:
            kept[key] = problem, choices(problem)  # with the problem, whose data's identity is part of the key
        found[node] = kept[key][1]
    return found


def _much(session: Session) -> float:
    """From how many bytes on a kernel's scratch memory, which lies in the arena, is worth avoiding."""
    if session.target is not None and session.target.microcontroller:
        return MUCH
    asked = session.settings.get(MAX_RAM)
    return max(MUCH, SHARE * asked) if isinstance(asked, (int, float)) else inf


def _frugal(offers: list[Choice], much: float) -> list[Choice]:
    """Without those that need much scratch memory where others do with less in less than twice the time."""
    least = min((c.cost_us for c in offers if c.scratch_bytes <= much), default=inf)
    return [c for c in offers if c.scratch_bytes <= much or 2 * c.cost_us < least]


def lean(offers: Sequence[Choice]) -> list[Choice]:
    """The first, and so cheapest, of all choices with the same layouts."""
    found: dict[tuple[object, ...], Choice] = {}
    for choice in offers:
        found.setdefault((choice.layouts_in, choice.layouts_out), choice)
    return list(found.values())


class _Costs:
    """Modelled microseconds as tables: each kernel's choices, and what each value's layout forces on its readers."""

    def __init__(self, g: Graph, found: Assignment, options: Mapping[Node, Sequence[Choice]]) -> None:
        self.found, self.options = found, options
        self.number = {node: k for k, node in enumerate(options)}
        self.users = g.users()
        self.outputs = set(g.outputs)
        values = [v for node in g.nodes() for v in node.results]
        self.values = [v for v in dict.fromkeys([*g.inputs, *values]) if not is_const(v)]

    def tables(self) -> list[Table]:
        own = [Table((k,), np.array([c.cost_us for c in self.options[node]])) for node, k in self.number.items()]
        return own + [table for value in self.values for table in self.of_value(value)]

    def of_value(self, value: Value) -> list[Table]:
        """One conversion per layout that is wanted, and what each reader pays that takes the value as it is."""
        users = dict.fromkeys(self.users.get(value, []))
        always = {""} if value in self.outputs or any(u not in self.number for u in users) else set()
        maker = [value.node] if value.node in self.number else []
        readers = [u for u in users if u in self.number]
        views = {n: [self._view(value, n, choice) for choice in self.options[n]] for n in [*maker, *readers]}
        if prod(len(set(v)) for v in views.values()) <= VIEWS:
            return self._table(value, always, views)
        # Too many readers for one table: each pays for its conversion, as if no other wanted the same.
        tables = self._table(value, always, {n: views[n] for n in maker})
        return tables + [t for r in readers for t in self._table(value, set(), {n: views[n] for n in [*maker, r]})]

    def _table(self, value: Value, always: set[str], views: Mapping[Node, Sequence[_View]]) -> list[Table]:
        seen = {node: list(dict.fromkeys(v)) for node, v in views.items()}  # many choices look the same from here
        free = [node for node, s in seen.items() if len(s) > 1]
        cost = np.zeros([len(seen[node]) for node in free])
        converted, mixed = cache(partial(self._converted, value)), cache(partial(self._mixed, value))
        for where in np.ndindex(*cost.shape):
            chosen = dict(zip(free, where, strict=True))
            of_all = [s[chosen.get(node, 0)] for node, s in seen.items()]
            made = next((m for m, _, _ in of_all if m is not None), "")
            wanted = always.union(*(wants for _, wants, _ in of_all))
            cost[where] = sum(converted(made, want) for want in sorted(wanted)) + sum(
                mixed(made, out) for _, _, out in of_all if out is not None
            )
        if not free or not cost.any():
            return []
        index = [[seen[node].index(one) for one in views[node]] for node in free]
        return [Table(tuple(self.number[node] for node in free), cost[np.ix_(*index)])]

    @staticmethod
    def _view(value: Value, node: Node, choice: Choice) -> _View:
        wants = {want for arg, want in zip(node.args, choice.layouts_in, strict=True) if arg == value}
        made = choice.layouts_out[value.index] if node == value.node else None
        return made, tuple(sorted(w for w in wants if w is not None)), choice.layouts_out[0] if None in wants else None

    def _converted(self, value: Value, made: str, want: str) -> float:
        have = replace(value.type, layout=made)
        if same_bytes(have, want):
            return 0.0
        return self.found.conversion(have, replace(have, layout=want)).cost_us

    def _mixed(self, value: Value, made: str, out: str) -> float:
        """What a reader of any layout pays for addresses that its result's layout does not share."""
        if made == out:
            return 0.0
        have = replace(value.type, layout=made)
        fits = not out or len(value.shape) == sum(c.isupper() for c in out)
        if fits and same_bytes(have, out):
            return 0.0
        if (gpu := self.found.target.gpu) is not None:
            return value.type.size * SECTOR_BYTES / (gpu.l2_gbytes * 1e3)
        return storage_bytes(have) * MIXED_US


def _no_kernel(problem: Problem) -> str:
    """What each row for this operator says against it; rows for any operator are asked where there are no others."""
    here = [(n, r) for n, r in sorted(registry.ROWS.items()) if problem.target.gpu is not None or "CUDA" not in r.isa]
    rows = [(n, r) for n, r in here if problem.anchor.op in r.ops] or [(n, r) for n, r in here if not r.ops]
    reasons = "; ".join(
        f"{name}: {why if isinstance(why := r.accepts(problem), str) else 'no tile fits'}" for name, r in rows
    )
    return f"no kernel on {problem.target.name}" + (f" ({reasons})" if reasons else "")


def _placements(kernel: Node, offers: Sequence[Choice], target: Target) -> list[Choice]:
    """Join or part in each layout in which the stretches are contiguous. Constants lie outside the arena: no parts.
    On a GPU, whose vector accesses must be aligned, stretches begin at multiples of one.

    A transpose needs no copy where its result's layout names the axes in the order in which they lie.
    """
    body = body_of(kernel)
    nodes = [n for n in body.nodes() if n.op not in ("Input", "Const")]
    if len(nodes) == 1 and nodes[0].op == "Transpose" and not is_const(viewed(kernel.args[0])):
        perm = ints_attr(nodes[0], "perm")
        after, before = turned(perm), turned(tuple(perm.index(axis) for axis in range(len(perm))))
        ways = [("", after), (before, "")] if after else []
        return [Choice(TURN, (one,), (other,), (), 0.0) for one, other in ways]
    if len(nodes) != 1 or nodes[0].op not in ("Concat", "Slice", "Split") or not placeable(nodes[0]):
        return []
    node = nodes[0]
    if node.op != "Concat" and is_const(viewed(kernel.args[0])):
        return []
    found = []
    for layout in dict.fromkeys(c.layouts_out[0] for c in offers):
        if node.op == "Concat":
            ok, whole, starts = _joins(node, layout), node.types[0], _starts(node)
        else:
            whole, starts = node.args[0].type, [(axis, start) for axis, start, _ in stretches(node)]
            ok = all(contiguous(replace(whole, layout=layout), *stretch) for stretch in stretches(node))
        if ok and target.gpu:
            ok = all(stretch_offset(replace(whole, layout=layout), *s) % VECTOR_BYTES == 0 for s in starts)
        if ok:
            row = JOIN if node.op == "Concat" else PART
            found.append(Choice(row, (layout,) * len(body.inputs), (layout,) * len(body.outputs), (), 0.0))
    return found


def _starts(node: Node) -> list[tuple[int, int]]:
    """Axis and first element of each part of a concatenation."""
    axis = int_attr(node, "axis") % len(node.types[0].shape)
    sizes = [arg.shape[axis] for arg in node.args]
    return [(axis, sum(sizes[:k])) for k in range(len(sizes))]


def _joins(node: Node, layout: str) -> bool:
    axis = int_attr(node, "axis")
    whole = replace(node.types[0], layout=layout)
    start = 0
    for arg in node.args:
        size = arg.shape[axis]
        if not contiguous(whole, axis % len(whole.shape), start, size):
            return False
        start += size
    return True


def _reason(choice: Choice, options: Sequence[Choice]) -> str:
    if choice.row in (JOIN, PART, TURN):
        return "placed by the planner: no copy"
    others = [c for c in options if c.row != choice.row]
    if not others:
        return "the only row that fits"
    return f"{_time(choice)} against {_time(others[0])} for {others[0].row}"


def _time(choice: Choice) -> str:
    return f"{choice.cost_us:.1f} us{' measured' if choice.measured else ''}"
