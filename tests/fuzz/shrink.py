"""The smallest case that fails alike: fewer outputs, fewer nodes, smaller dimensions, plainer attributes and numbers.

Each kind of step gives smaller cases, the boldest first; a case that still fails in the same stage is the next one to
be made smaller, until no step helps or the time is over.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import IRError
from edgec.compiler.interpret import trace
from edgec.compiler.ir import Array, Attr, Graph, Node, Type, Value
from edgec.compiler.op import const, const_array, infer, row
from edgec.compiler.verify import structure

from .check import Case, Failure
from .options import Options

Test = Callable[[Case], Failure | None]


def shrink(case: Case, failure: Failure, test: Test, seconds: float = 120.0) -> tuple[Case, Failure]:
    """Make a failing case smaller. `test` gives the failure of a case, or None."""
    end = time.monotonic() + seconds
    progress = True
    while progress and time.monotonic() < end:
        progress = False
        for step in STEPS:
            for smaller in step(case):
                if time.monotonic() > end:
                    break
                found = test(smaller)
                if found is not None and _alike(found, failure):
                    case, failure, progress = smaller, found, True
                    break
            if progress:
                break
    return case, failure


def _alike(a: Failure, b: Failure) -> bool:
    """The same stage, and for exceptions the same kinds."""
    kinds = [re.findall(r"[A-Z]\w*Error", f.what) if f.trace else [] for f in (a, b)]
    return a.stage == b.stage and kinds[0] == kinds[1]


def _with(case: Case, graph: Graph, feeds: dict[str, Array] | None = None) -> Iterator[Case]:
    """The case with another graph, if that is one: inputs that nobody reads are dropped."""
    given = {**case.feeds, **(feeds or {})}
    read = {n for n in Graph(graph.name, (), graph.outputs).nodes() if n.op == "Input"}
    inputs = tuple(Value(n) for n in graph.nodes() if n in read)
    if any(v.node.op in ("Input", "Const") for v in graph.outputs):
        return
    names = tuple(name for name, _ in graph.results)
    smaller = Graph(graph.name, inputs, graph.outputs, names)
    try:
        structure(smaller)
    except IRError:
        return
    yield replace(case, graph=smaller, feeds={v.name: given[v.name] for v in inputs})


def _plainer_options(case: Case) -> Iterator[Case]:
    o = case.options
    plain = [Options(o.target), replace(o, threads=1), replace(o, through_onnx=False), replace(o, each_pass=False)]
    plain += [replace(o, bundle=False), replace(o, without=()), replace(o, rows=0)]
    plain += [replace(o, without=tuple(n for n in o.without if n != name)) for name in o.without]
    yield from (replace(case, options=other) for other in plain if other != o)


def _fewer_outputs(case: Case) -> Iterator[Case]:
    graph = case.graph
    pairs = list(graph.results)
    for keep in [[p] for p in pairs] + [[p for p in pairs if p is not out] for out in pairs]:
        if 0 < len(keep) < len(pairs):
            names, values = zip(*keep, strict=True)
            yield from _with(case, Graph(graph.name, graph.inputs, values, names))


def _earlier_outputs(case: Case) -> Iterator[Case]:
    """An argument of an output's node in its place."""
    graph = case.graph
    for place, value in enumerate(graph.outputs):
        for arg in value.node.args:
            outputs = (*graph.outputs[:place], arg, *graph.outputs[place + 1 :])
            if len(set(outputs)) == len(outputs):
                yield from _with(case, replace(graph, outputs=outputs, output_names=tuple(n for n, _ in graph.results)))


def _replaced(graph: Graph, old: Value, new: Value) -> Graph:
    def swap(node: Node) -> tuple[Value, ...] | None:
        return tuple(new if v == old else v for v in node.results) if node is old.node else None

    # the node may have been rebuilt: it is found by identity, since what comes before it does not change
    return graph.map(swap)


def _inputs_for_nodes(case: Case) -> Iterator[Case]:
    """A computed value becomes an input that holds what was computed."""
    values = trace(case.graph, case.feeds)
    for node in case.graph.nodes():
        if node.op in ("Input", "Const"):
            continue
        for value in node.results:
            name = next(n for n in (f"x{k}" for k in count()) if n not in case.feeds)
            fresh = Value(Node("Input", (), (Type(value.type.dtype, value.shape),), {}, name))
            if value not in case.graph.outputs:
                yield from _with(case, _replaced(case.graph, value, fresh), {name: values[value]})


def _bypassed(case: Case) -> Iterator[Case]:
    """A node's argument in its place, where the type is the same."""
    for node in case.graph.nodes():
        for arg in node.args:
            if len(node.types) == 1 and (arg.type.dtype, arg.shape) == (node.types[0].dtype, node.types[0].shape):
                yield from _with(case, _replaced(case.graph, Value(node), arg))


def _default_attributes(case: Case) -> Iterator[Case]:
    for old in case.graph.nodes():
        for key in old.attrs:
            if old.op != "Const" and key in row(old.op).attrs:
                attrs = {k: v for k, v in old.attrs.items() if k != key}
                yield from _rebuilt(case, {old: attrs})
        for key, value in old.attrs.items():
            if isinstance(value, tuple) and value and all(type(v) is int for v in value) and old.op != "Const":
                for plain in (0, 1):
                    if set(value) != {plain}:
                        yield from _rebuilt(case, {old: {**old.attrs, key: (plain,) * len(value)}})


def _rebuilt(case: Case, attrs: dict[Node, dict[str, Attr]], arrays: dict[Node, Array] | None = None) -> Iterator[Case]:
    """The graph with other attributes, or other arrays of its inputs and constants; types are inferred again."""
    new: dict[Value, Value] = {}
    feeds: dict[str, Array] = {}
    arrays = arrays or {}
    try:
        for node in case.graph.nodes():
            if node.op == "Input":
                array = arrays.get(node, case.feeds[node.name])
                made = replace(node, types=(Type(node.types[0].dtype, array.shape),))
                feeds[node.name] = array
            elif node.op == "Const":
                made = const(arrays[node], node.name).node if node in arrays else node
            else:
                args = tuple(new[a] for a in node.args)
                changed = attrs.get(node, dict(node.attrs))
                types = infer(node.op, [a.type for a in args], changed)
                made = Node(node.op, args, types, changed, node.name)
            new.update(zip(node.results, made.results, strict=True))
    except (IRError, ValueError):
        return
    graph = case.graph.with_values(tuple(new[v] for v in case.graph.inputs), tuple(new[v] for v in case.graph.outputs))
    yield from _with(case, replace(graph, output_names=tuple(n for n, _ in case.graph.results)), feeds)


def _smaller_dimensions(case: Case) -> Iterator[Case]:
    """One size everywhere: in the shapes of inputs and constants, and in attributes."""
    sources = [n for n in case.graph.nodes() if n.op in ("Input", "Const")]
    sizes = {n for node in sources for n in node.types[0].shape if n > 1}
    sizes |= {n for node in case.graph.nodes() for t in node.types for n in t.shape if n > 1}
    for size in sorted(sizes, reverse=True):
        for new in sorted({1, 2, size // 2, size - 1} - {size}):
            if not 0 < new < size:
                continue
            arrays = {n: _cut(_array(case, n), size, new) for n in sources}
            attrs = {n: _renumbered(n, size, new) for n in case.graph.nodes() if n.op not in ("Input", "Const")}
            yield from _rebuilt(case, {}, arrays)
            yield from _rebuilt(case, attrs, arrays)
    for node in sources:
        for axis, n in enumerate(node.types[0].shape):
            for new in sorted({1, n // 2, n - 1}):
                if 0 < new < n:
                    yield from _rebuilt(case, {}, {node: np.take(_array(case, node), range(new), axis)})


def _array(case: Case, node: Node) -> Array:
    return case.feeds[node.name] if node.op == "Input" else const_array(Value(node))


def _cut(array: Array, size: int, new: int) -> Array:
    return array[tuple(slice(new if n == size else n) for n in array.shape)]


def _renumbered(node: Node, size: int, new: int) -> dict[str, Attr]:
    def swap(value: Attr) -> Attr:
        if isinstance(value, tuple):
            return tuple(new if type(v) is int and v == size else v for v in value)
        return value

    return {k: swap(v) for k, v in node.attrs.items()}


def _plainer_numbers(case: Case) -> Iterator[Case]:
    """Zeros, ones, or rounded numbers in inputs and constants."""
    for node in case.graph.nodes():
        if node.op not in ("Input", "Const"):
            continue
        array = _array(case, node)
        kind = dtype(node.types[0].dtype).numpy
        options = [np.zeros(array.shape, kind), np.ones(array.shape, kind)]
        if dtype(node.types[0].dtype).is_float:
            with np.errstate(all="ignore"):
                options.append(np.round(array.astype(np.float64)).astype(kind))
        for plain in options:
            if not np.array_equal(plain, array) and not (array.size and np.array_equal(array, np.ones_like(array))):
                yield from _rebuilt(case, {}, {node: plain})


STEPS: tuple[Callable[[Case], Iterator[Case]], ...] = (
    _plainer_options,
    _fewer_outputs,
    _inputs_for_nodes,
    _earlier_outputs,
    _bypassed,
    _smaller_dimensions,
    _default_attributes,
    _plainer_numbers,
)
