"""Rebuilds a graph without some of its channels: weights and all parameters are cut, and attributes that count
channels corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Attr, Graph, Node, Value
from ...layers import constant
from ...op import const, int_attr, ints_attr, rebuild
from ...ops.common import Tensor
from ..repair.repair import Refit
from .flow import cuts
from .groups import Coupling, Slices, kept_places

_Attrs = Callable[[Coupling, Node, Tensor], dict[str, Attr]]


@dataclass(frozen=True)
class Cut:
    """A graph without some channels; `nodes` are its nodes by those that they come from."""

    graph: Graph
    nodes: Mapping[Node, Node]


def without(known: Coupling, gone: Tensor) -> Cut:
    """The graph without the channels whose numbers are `gone`; whole classes of them must be."""
    graph = known.graph
    new: dict[Value, Value] = {}
    nodes: dict[Node, Node] = {}
    for old in graph.nodes():
        args = [new[a] for a in old.args]
        for place, slices in known.params.get(old, {}).items():
            args[place] = _cut(old.args[place], slices, gone)
        attrs = _ATTRS[old.op](known, old, gone) if old.op in _ATTRS else {}
        attrs = {k: v for k, v in attrs.items() if old.attrs.get(k) != v}
        if old.op == "Gather" and old.args[1] == args[1]:
            args[1] = _index(known, old, gone)
        node = old if tuple(args) == old.args and not attrs else rebuild(old, args, **attrs)
        nodes[old] = node
        new.update(zip(old.results, node.results, strict=True))
    made = graph.with_values(tuple(new[v] for v in graph.inputs), tuple(new[v] for v in graph.outputs))
    return Cut(made, nodes)


def refits_of(known: Coupling, cut: Cut, gone: Tensor) -> list[Refit]:
    """Every layer behind the first cut, with the value that it computed before."""
    found, touched = [], set[Node]()
    for old in known.graph.nodes():
        new = cut.nodes[old]
        if new is old and not any(a.node in touched for a in old.args):
            continue
        touched.add(old)
        layer = known.layers.get(old)
        if layer is not None:
            channels = known.of.get(Value(old))
            kept = kept_places(channels, gone) if channels is not None else None
            whole = kept is None or channels is None or len(kept) == len(channels.numbers)
            if channels is None or whole or channels.axis == _result_axis(old):
                found.append(Refit(new, Value(old), None if whole or kept is None else tuple(map(int, kept))))
    return found


def _result_axis(node: Node) -> int:
    return len(node.types[0].shape) - 1 if node.op == "MatMul" else 1


def _cut(value: Value, slices: Slices, gone: Tensor) -> Value:
    array = constant(value)
    assert array is not None
    cut = array
    for axis, numbers in slices:
        if gone[numbers].any():
            cut = np.take(cut, np.flatnonzero(~gone[numbers]), axis)
    return value if cut is array else const(np.ascontiguousarray(cut), value.node.name, value.node.origin)


def _sized(key: str) -> _Attrs:
    """An attribute that is the result's shape."""

    def attrs(known: Coupling, node: Node, gone: Tensor) -> dict[str, Attr]:
        found = known.of.get(Value(node))
        sizes = list(ints_attr(node, key))
        if found is not None:
            sizes[found.axis] = len(kept_places(found, gone))
        return {key: tuple(sizes)}

    return attrs


def _grouped(known: Coupling, node: Node, gone: Tensor) -> dict[str, Attr]:
    layer = known.layers.get(node)
    if layer is None or not layer.depthwise or layer.inputs is None:
        return {}
    return {"group": len(kept_places(layer.inputs, gone))}


def _padded(known: Coupling, node: Node, gone: Tensor) -> dict[str, Attr]:
    x, made, pads = known.of.get(node.args[0]), known.of.get(Value(node)), list(ints_attr(node, "pads"))
    if x is not None and made is not None:
        front, back = pads[x.axis], len(made.numbers) - pads[x.axis + len(pads) // 2]
        pads[x.axis] = int((~gone[made.numbers[:front]]).sum())
        pads[x.axis + len(pads) // 2] = int((~gone[made.numbers[back:]]).sum())
    return {"pads": tuple(pads)}


def _split(known: Coupling, node: Node, gone: Tensor) -> dict[str, Attr]:
    x, axis = known.of.get(node.args[0]), int_attr(node, "axis") % len(node.args[0].shape)
    if x is None or x.axis != axis:
        return {}
    return {"split": tuple(len(kept_places(known.of[v], gone)) if v in known.of else 0 for v in node.results)}


def _sliced(known: Coupling, node: Node, gone: Tensor) -> dict[str, Attr]:
    x, made = known.of.get(node.args[0]), known.of.get(Value(node))
    if x is None or made is None:
        return {}
    starts, ends = list(ints_attr(node, "starts")), list(ints_attr(node, "ends"))
    for k, (axis, start, end, step) in enumerate(cuts(node)):
        if axis == x.axis:
            chosen = np.arange(len(x.numbers))[start : None if end < 0 else end : step]
            places = (np.cumsum(~gone[x.numbers]) - 1)[chosen[~gone[x.numbers[chosen]]]]
            starts[k], ends[k] = int(places[0]), int(places[-1]) + (1 if step > 0 else -1)
    return {"starts": tuple(starts), "ends": tuple(ends)}


def _index(known: Coupling, node: Node, gone: Tensor) -> Value:
    """The index of a Gather along channels."""
    x, index = known.of.get(node.args[0]), node.args[1]
    if x is None or Value(node) not in known.of or x.axis != int_attr(node, "axis") % len(node.args[0].shape):
        return index
    places = constant(index)
    assert places is not None
    places = places % len(x.numbers)
    kept = (np.cumsum(~gone[x.numbers]) - 1)[places[~gone[x.numbers[places]]]]
    return const(kept.astype(places.dtype), index.node.name, index.node.origin)


_ATTRS: dict[str, _Attrs] = {
    **dict.fromkeys(("Reshape", "Expand"), _sized("shape")),
    "Resize": _sized("sizes"),
    **dict.fromkeys(("Conv", "ConvTranspose"), _grouped),
    "Pad": _padded,
    "Split": _split,
    "Slice": _sliced,
}


def removed(known: Coupling, classes: Sequence[Tensor]) -> Tensor:
    """Which numbers go with some classes."""
    gone = np.zeros(known.count, bool)
    for numbers in classes:
        gone[numbers] = True
    return gone
