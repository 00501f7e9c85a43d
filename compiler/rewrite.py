"""Rewriting a graph to a fixpoint by rules, written in a `.rules` file or in Python.

Sweeps run producers first. At each node the rules for its operator are tried in order, and again on what the first
that applies puts there; sweeps repeat until one changes nothing. Counts of uses stay exact throughout.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .errors import IRError
from .ir import Graph, Node, Value
from .rules.language import Rule
from .rules.match import adopt, apply
from .session import Session


@dataclass(frozen=True)
class PythonRule:
    """`fn(value, context)` gives what stands for `value`, None where it does not fit, or text: why it refuses."""

    name: str
    roots: frozenset[str]
    fn: Callable[[Value, Sweep], Value | str | None]


AnyRule = Rule | PythonRule


def python_rule(*roots: str) -> Callable[[Callable[[Value, Sweep], Value | str | None]], PythonRule]:
    """Make a function a rule for nodes of the operators `roots` (none: all), named like the function."""

    def make(fn: Callable[[Value, Sweep], Value | str | None]) -> PythonRule:
        return PythonRule(fn.__name__, frozenset(roots), fn)

    return make


def rewrite(graph: Graph, rules: Sequence[AnyRule], session: Session | None = None, fuel: int = 0) -> Graph:
    """Apply the rules until none applies. `fuel` bounds the number of rewrites (0: 1000 and 50 per node).

    Rules that do not settle by then are an `IRError` that names the last rewrites.
    """
    session = session or Session()
    session.known_rules |= {rule.name for rule in rules}
    graph = replace(graph, output_names=tuple(name for name, _ in graph.results))
    fuel = fuel or 1000 + 50 * sum(1 for _ in graph.nodes())
    matched: set[str] = set()
    used = 0
    while True:
        sweep = Sweep(graph, _Index(rules), session, fuel - used, matched)
        graph = sweep.run()
        used += sweep.rewrites
        if not sweep.rewrites:
            break
    for rule in rules:
        if session.wants_why(rule.name) and rule.name not in matched:
            session.why(f"{rule.name}: its pattern fits nowhere")
    return graph


class _Index:
    """Rules by root operator, in order."""

    def __init__(self, rules: Sequence[AnyRule]) -> None:
        self.everywhere = [r for r in rules if not r.roots]
        self.rules = rules
        self.table: dict[str, list[AnyRule]] = {}

    def of(self, op: str) -> list[AnyRule]:
        if op not in self.table:
            self.table[op] = [r for r in self.rules if not r.roots or op in r.roots]
        return self.table[op]


class Sweep:
    """One walk over the graph. Rules see it as their context: `uses` counts readers as rewritten so far."""

    def __init__(self, graph: Graph, index: _Index, session: Session, fuel: int, matched: set[str]) -> None:
        self.graph = graph
        self.index = index
        self.session = session
        self.fuel = fuel
        self.matched = matched
        self.rewrites = 0
        self.pending: Mapping[Value, int] = graph.uses()
        self.count: defaultdict[Value, int] = defaultdict(int)
        self.live: set[Node] = set()

    def uses(self, value: Value) -> int:
        return self.count[value]

    def run(self) -> Graph:
        new: dict[Value, Value] = {}
        for old in self.graph.nodes():
            args = tuple(new[a] for a in old.args)
            node = old if args == old.args else replace(old, args=args)
            self.live.add(node)  # its arguments' counts have included it since they were made
            results = self.settle(node) if len(node.types) == 1 and node.op != "Input" else node.results
            for was, now in zip(old.results, results, strict=True):
                new[was] = now
                self.count[now] += self.pending.get(was, 0)
        return self.graph.with_values(
            tuple(new[v] for v in self.graph.inputs), tuple(new[v] for v in self.graph.outputs)
        )

    def settle(self, node: Node) -> tuple[Value]:
        """Rewrite one node until no rule applies to it."""
        value = Value(node)
        while (made := self.once(value)) is not None:
            known = made.node in self.live
            self.acquire(made.node)
            self.count[made] += 1  # held while the old one goes
            self.release(value.node)
            self.count[made] -= 1
            value = made
            if known or len(made.node.types) != 1 or made.node.op == "Input":
                break
        return (value,)

    def once(self, value: Value) -> Value | None:
        for rule in self.index.of(value.node.op):
            made = self.attempt(rule, value)
            if made is None or made == value:
                continue
            if not self.session.step(rule.name, value.node):
                return None
            self.rewrites += 1
            if self.rewrites > self.fuel:
                last = "; ".join(map(str, self.session.steps[-4:]))
                raise IRError(f"graph @{self.graph.name}: the rules do not settle; the last rewrites: {last}")
            return made
        return None

    def attempt(self, rule: AnyRule, value: Value) -> Value | None:
        def refused(reason: str) -> None:
            self.matched.add(rule.name)
            if self.session.wants_why(rule.name):
                self.session.explain(rule.name, value.node, reason)

        made: Value | str | None
        if isinstance(rule, Rule):
            try:
                made = apply(rule, value, self, refused)
            except Exception as error:
                error.add_note(f"in rule {rule.name!r} ({rule.where}) at {value.node}")
                raise
        else:
            made = rule.fn(value, self)
            if isinstance(made, Value):
                made = adopt(made, value)
        if isinstance(made, str):
            refused(made)
            return None
        if made is not None:
            self.matched.add(rule.name)
        return made

    def acquire(self, root: Node) -> None:
        """Count the reads of new nodes."""
        stack = [root]
        while stack:
            node = stack.pop()
            if node not in self.live:
                self.live.add(node)
                for arg in node.args:
                    self.count[arg] += 1
                    stack.append(arg.node)

    def release(self, root: Node) -> None:
        """Take back the reads of a node that nothing reads any more, and of what it alone kept."""
        stack = [root]
        while stack:
            node = stack.pop()
            if node in self.live and node.op != "Input" and not any(self.count[r] for r in node.results):
                self.live.discard(node)
                for arg in node.args:
                    self.count[arg] -= 1
                    stack.append(arg.node)


def names(rules: Iterable[AnyRule]) -> list[str]:
    """Names of rules, in order."""
    return [rule.name for rule in rules]
