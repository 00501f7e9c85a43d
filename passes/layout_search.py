"""The search behind the layout pass: one choice per kernel, the least modelled time, conversions included.

Kernels start with the cheapest choice on its own; then single kernels are changed, in order, while the total falls. The
cost of a conversion is what the registry says of an `Edgec.Layout` kernel for that value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgec.compiler import registry
from edgec.compiler.errors import EdgecError, Unsupported, UnsupportedModel
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.layout import contiguous, same_bytes, storage_bytes, turned
from edgec.compiler.op import body_of, int_attr, ints_attr, is_const, viewed
from edgec.compiler.problems import distinct, problems
from edgec.compiler.registry import Choice, Problem, choices
from edgec.compiler.session import Session
from edgec.compiler.target import Target

from .fuse import placeable, stretches

JOIN, PART, TURN = "join", "part", "turn"  # choices that the planner carries out: no kernel runs
SWEEPS = 12
MIXED_US = 0.25e-3  # per byte that is read in one layout for a result in another


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
    known = problems(g, session.target, session.threads)
    options_of = tuned(known, session)
    for node, problem in known.items():
        offers[node] = [*_placements(node, options_of[node]), *options_of[node]]
        if not offers[node]:
            refused.append(Unsupported(node.name, problem.anchor.op, 0, _no_kernel(problem)))
    if refused:
        raise UnsupportedModel(refused)
    cost = _Cost(g, found)
    for node, options in offers.items():
        found.choice[node] = options[0]
    for node, options in offers.items():  # once forward with the producers known, before the sweeps look both ways
        found.choice[node] = min(options, key=lambda c: cost.of(node, c, readers=False))
    for _ in range(SWEEPS):
        changed = False
        for node, options in offers.items():
            now = cost.of(node, found.choice[node])
            best = min(options, key=lambda c: cost.of(node, c))
            if cost.of(node, best) < now - 1e-9:
                found.choice[node], changed = best, True
        if not changed:
            break
    for node, options in offers.items():
        found.why[node] = _reason(found.choice[node], options)
    return found


def tuned(known: Mapping[Node, Problem], session: Session) -> dict[Node, list[Choice]]:
    """Every choice for each kernel, cheapest first: by measured times where there are any."""
    offers = {node: choices(problem) for node, problem in known.items()}
    if session.tuner is not None:
        session.tuner([(problem, offers[nodes[0]], len(nodes)) for problem, nodes in distinct(known)])
    if session.tunings is None:
        return offers
    return {node: session.tunings.applied(known[node], offers[node]) for node in known}


class _Cost:
    """Modelled microseconds of a choice in its surroundings."""

    def __init__(self, g: Graph, found: Assignment) -> None:
        self.found = found
        self.users = g.users()
        self.outputs = set(g.outputs)

    def of(self, node: Node, choice: Choice, readers: bool = True) -> float:
        total = choice.cost_us
        for arg, want in zip(node.args, choice.layouts_in, strict=True):
            made = self._made(arg)
            total += self._mixed(arg, made, choice) if want is None else self._converted(arg, made, want)
        if readers:
            for value, made in zip(node.results, choice.layouts_out, strict=True):
                total += self._readers(value, made)
        return total

    def _readers(self, value: Value, made: str) -> float:
        """One conversion per layout that is wanted, and what each reader pays that takes the value as it is."""
        users = [(user, self._wanted(value, user)) for user in self.users.get(value, [])]
        wanted = {want for _, want in users if want is not None} | ({""} if value in self.outputs else set())
        converted = sum(self._converted(value, made, want) for want in sorted(wanted))
        return converted + sum(self._mixed(value, made, self.found.choice[u]) for u, want in users if want is None)

    def _made(self, value: Value) -> str:
        node = value.node
        return self.found.choice[node].layouts_out[value.index] if node in self.found.choice else ""

    def _wanted(self, value: Value, user: Node) -> str | None:
        if user not in self.found.choice:
            return ""
        return self.found.choice[user].layouts_in[user.args.index(value)]

    def _converted(self, value: Value, made: str, want: str) -> float:
        have = replace(value.type, layout=made)
        if is_const(value) or same_bytes(have, want):
            return 0.0
        return self.found.conversion(have, replace(have, layout=want)).cost_us

    def _mixed(self, value: Value, made: str, reader: Choice) -> float:
        """What a reader of any layout pays for addresses that its result's layout does not share."""
        out = reader.layouts_out[0]
        if is_const(value) or made == out:
            return 0.0
        have = replace(value.type, layout=made)
        fits = not out or len(value.shape) == sum(c.isupper() for c in out)
        return 0.0 if fits and same_bytes(have, out) else storage_bytes(have) * MIXED_US


def _no_kernel(problem: Problem) -> str:
    """What each row for this operator says against it."""
    rows = [(name, r) for name, r in sorted(registry.ROWS.items()) if not r.ops or problem.anchor.op in r.ops]
    reasons = "; ".join(
        f"{name}: {why if isinstance(why := r.accepts(problem), str) else 'no tile fits'}" for name, r in rows
    )
    return f"no kernel on {problem.target.name}" + (f" ({reasons})" if reasons else "")


def _placements(kernel: Node, offers: Sequence[Choice]) -> list[Choice]:
    """Join or part in each layout in which the stretches are contiguous. Constants lie outside the arena: no parts.

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
            ok = _joins(node, layout)
        else:
            source = replace(node.args[0].type, layout=layout)
            ok = all(contiguous(source, *stretch) for stretch in stretches(node))
        if ok:
            row = JOIN if node.op == "Concat" else PART
            found.append(Choice(row, (layout,) * len(body.inputs), (layout,) * len(body.outputs), (), 0.0))
    return found


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
