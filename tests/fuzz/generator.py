"""A graph and its inputs from a seed: nodes drawn one after the other, ended as an imported model is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from edgec.compiler.ir import Array, Graph, Value
from edgec.compiler.op import build, is_const

from . import recipes
from .draw import Draw, Unsuitable

_NODES = {1: 12, 2: 14, 3: 14, 4: 12, 5: 10, 6: 10, 8: 10, 10: 8, 14: 6, 20: 4}
_PATIENCE = 40  # drawings that may come to nothing before a graph is what it is


@dataclass(frozen=True)
class Drawn:
    """A graph and what to feed it."""

    graph: Graph
    feeds: dict[str, Array]


def generate(seed: int, only: Sequence[str] = ()) -> Drawn:
    """The graph of a seed; `only`: recipes to draw from (default: all)."""
    recipes.load()
    d = Draw(seed)
    d.wild = d.wild and not only
    wanted = d.weighted(_NODES)
    for _ in range(wanted + _PATIENCE):
        if len(_computed(d)) >= wanted:
            break
        name = d.choice(only) if only else _drawn_name(d)
        with suppress(Unsuitable), d.attempt():
            recipes.RECIPES[name].make(d, name)
    if not _computed(d):
        return generate(seed + 1_000_003, only)
    return _finished(d)


def _drawn_name(d: Draw) -> str:
    present = {r.family for r in recipes.RECIPES.values()}
    families = {name: w for name, w in recipes.FAMILIES.items() if name in present}
    family = d.choice(("elementwise", "maps")) if d.wild else d.weighted(families)
    table = {name: round(10 * r.weight) for name, r in recipes.RECIPES.items() if r.family == family}
    return d.weighted(table)


def _computed(d: Draw) -> list[Value]:
    return [v for v in d.values if v.node.op not in ("Input", "Const")]


def _finished(d: Draw) -> Drawn:
    """Everything that nobody reads is an output, and now and then what somebody reads; each is a value of its own."""
    made = _computed(d)
    read = {a for v in (*d.values, *d.ends) for a in v.node.args}
    outputs = [v for v in made if v not in read]
    outputs += d.shuffled([v for v in made if v in read])[: d.weighted({0: 6, 1: 3, 2: 1})]
    extra = [v for v in (*d.inputs, *outputs) if d.flag(0.02)]
    outputs = d.shuffled([*outputs, *extra, *d.ends])
    seen: set[Value] = set(d.inputs)
    results = []
    for number, value in enumerate(outputs):
        own = build("Edgec.Layout", value, label=f"y{number}.copy") if value in seen or is_const(value) else value
        seen.add(own)
        results.append(own)
    names = tuple(f"y{number}" for number in range(len(results)))
    graph = Graph("fuzz", tuple(d.inputs), tuple(results), names)
    return Drawn(graph, {v.name: d.known[v] for v in d.inputs})
