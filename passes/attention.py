"""Finds softmax(scale * Q K' + mask) V and makes one node of it, which reads its operands where projections left them.

What splits heads, transposes keys, takes Q, K and V out of a joint projection, repeats the heads of grouped queries or
merges the result's heads becomes strides of the node (`compiler/strides.py`): none of it is left to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from edgec.compiler.ir import Attr, Graph, Node, Value
from edgec.compiler.op import build, const, const_array, int_attr, is_const
from edgec.compiler.pipeline import close, graph_pass
from edgec.compiler.rule_match import fold
from edgec.compiler.session import Session
from edgec.compiler.strides import Axis, View, moved, refined, whole

VIEWS = frozenset({"Transpose", "Reshape", "Expand", "Split", "Slice"})
NEVER = -1e30  # a score filled with less than this weighs nothing, whatever it was before


@dataclass
class _Found:
    """A pattern: views of Q [batch, S, D], K [batch, T, D], V [batch, T, E], mask [batch, S, T], and its last value."""

    views: dict[str, View]
    scale: float
    end: Value
    out: tuple[Axis, ...]
    nodes: list[Node]


@graph_pass("attention", promise=close, after=("canonicalize", "fold"))
def attention(g: Graph, *, session: Session) -> Graph:
    """Fuse scaled dot-product attention into one node."""
    session.known_rules |= {"attention"}
    finder = _Finder(g)
    ends: dict[Node, _Found] = {}
    for node in g.nodes():
        if node.op != "MatMul" or (found := finder.find(node)) is None:
            continue
        if isinstance(found, str):
            if session.wants_why("attention"):
                session.explain("attention", node, found)
        elif session.step("attention", node):
            ends[found.end.node] = found
    new: dict[Value, Value] = {}
    for node in g.nodes():
        if node in ends:
            new[Value(node)] = _built(ends[node], new)
        else:
            made = replace(node, args=tuple(new[a] for a in node.args)) if node.args else node
            new.update(zip(node.results, made.results, strict=True))
    return g.with_values(tuple(new[v] for v in g.inputs), tuple(new[v] for v in g.outputs))


class _Finder:
    def __init__(self, g: Graph) -> None:
        self.uses = g.uses()
        self.users = g.users()
        self.outputs = set(g.outputs)
        self.masks: dict[Value, View] = {}
        self.fills: dict[tuple[Value, Value], Value] = {}

    def find(self, product: Node) -> _Found | str | None:
        """The attention that ends in this product; None where there is none, text where it cannot be fused."""
        softmax = product.args[0].node
        if (
            softmax.op != "Softmax"
            or int_attr(softmax, "axis") % len(softmax.types[0].shape) != len(softmax.types[0].shape) - 1
        ):
            return None
        if product.types[0].dtype != "f32":
            return f"computes {product.types[0].dtype}, not f32"
        if self.uses[Value(softmax)] != 1:
            return "the weights are read elsewhere"
        scores = self.scores(softmax.args[0])
        if isinstance(scores, str):
            return scores
        first, scale, mask, between = scores
        batch = product.types[0].shape[:-2]
        options = {
            "q": list(_views(first.args[0])),
            "k": [(_swapped(v), f) for v, f in _views(first.args[1])],
            "v": list(_views(product.args[1])),
        }
        if mask is not None:
            options["mask"] = [(self.mask(mask), 1.0)]
        end, out = self.end(Value(product))
        views, factor = _chosen(options, batch, 0)
        if not _shares_cuts(views, out):
            (views, factor), end, out = (
                _chosen(options, batch, -1),
                Value(product),
                _written(whole(Value(product)), product.types[0].shape),
            )
        return _Found(views, scale * factor, end, out, [first, *between, softmax, product])

    def scores(self, value: Value) -> tuple[Node, float, Value | None, list[Node]] | str:
        """The product Q K' behind a softmax, the scale and the mask on the way."""
        scale, mask, between = 1.0, None, list[Node]()
        while value.node.op != "MatMul":
            node = value.node
            if self.uses[value] != 1:
                return f"{node} has {self.uses[value]} uses"
            if node.op == "Mul" and (factor := _factor(node)) is not None:
                value, scale = factor[0], scale * factor[1]
            elif node.op in ("Add", "Where") and mask is None and scale == 1.0:
                parts = self.masked(node)
                if parts is None:
                    return f"{node} adds no mask to the scores"
                value, mask = parts
            else:
                return f"{node} stands between the scores and their softmax"
            between.append(node)
        if self.uses[value] != 1:
            return f"{value.node} has {self.uses[value]} uses"
        return value.node, scale, mask, between[::-1]

    def masked(self, node: Node) -> tuple[Value, Value] | None:
        """Scores and mask of a node that adds one, or fills scores with a number that weighs nothing."""
        shape = node.types[0].shape
        if node.op == "Add":
            pairs = (s for s in (node.args, node.args[::-1]) if s[0].shape == shape and _scores_like(s[0]))
            found = next(pairs, None)
            return None if found is None else (found[0], found[1])
        condition, scores, fill = node.args
        if scores.shape != shape or not is_const(fill) or not bool(np.all(np.less(const_array(fill), NEVER))):
            return None
        if (condition, fill) not in self.fills:
            zero = const(np.zeros((), np.float32))
            mask = build("Where", condition, zero, fill, origin=node.origin, label=node.name)
            self.fills[condition, fill] = fold(mask.node) or mask
        return scores, self.fills[condition, fill]

    def mask(self, value: Value) -> View:
        """A view of the mask in which neighbouring queries lie side by side, where it tells queries apart."""
        if value not in self.masks:
            options = [v for v, _ in _views(value, scaled=False) if _readable(v, "mask")]
            view = options[0]
            rows = view.axes[-2] if len(view.axes) > 1 else ()
            if rows and rows[0][1] not in (0, 1):
                perm = (*range(len(value.shape) - 2), len(value.shape) - 1, len(value.shape) - 2)
                turned = build("Transpose", value, origin=value.node.origin, perm=perm)
                view = _swapped(whole(fold(turned.node) or turned))
            self.masks[value] = view
        return self.masks[value]

    def end(self, value: Value) -> tuple[Value, tuple[Axis, ...]]:
        """How far views of the result can be written at once, and the strides there of [batch, S, E]."""
        view, shape = whole(value), value.shape
        found = value, _written(view, shape)
        while self.uses[value] == 1 and value not in self.outputs:
            node = self.users[value][0]
            step = moved(view, node) if node.op in ("Transpose", "Reshape") else None
            if step is None:
                break
            value, view = Value(node), step
            out = _written(view, shape)
            if len(out[-2]) <= 1 and len(out[-1]) <= 1 and (not out[-1] or out[-1][0][1] == 1):
                found = value, out
        assert found[1] is not None
        return found


def _chosen(
    options: dict[str, list[tuple[View, float]]], batch: tuple[int, ...], which: int
) -> tuple[dict[str, View], float]:
    """One view per operand, the farthest (0) or the nearest (-1), and the product of their factors."""
    views, number = {}, 1.0
    for name, choices in options.items():
        view, factor = [(v, f) for v, f in choices if _readable(v, name)][which]
        views[name] = View(view.source, view.offset, _batched(view.axes, batch))
        number *= factor
    return views, number


def _shares_cuts(views: dict[str, View], out: tuple[Axis, ...]) -> bool:
    """Whether every batch axis can be cut into pieces that all operands share."""
    return all(refined([*(v.axes[k] for v in views.values()), out[k]]) is not None for k in range(len(out) - 2))


def _factor(node: Node) -> tuple[Value, float] | None:
    """A product with a constant number: the other factor and the number."""
    for value, other in (node.args, node.args[::-1]):
        if is_const(other) and not is_const(value) and value.shape == node.types[0].shape:
            array = const_array(other)
            if array.size and bool((array == array.flat[0]).all()):
                return value, float(array.flat[0])
    return None


def _scores_like(value: Value) -> bool:
    while value.node.op == "Mul" and (factor := _factor(value.node)) is not None:
        value = factor[0]
    return value.node.op == "MatMul"


def _views(value: Value, scaled: bool = True) -> Iterator[tuple[View, float]]:
    """The value as a view of what it is made from, farthest first, and the number it is multiplied by on the way."""
    chain: list[tuple[Value, Value]] = []  # (result, what it views)
    source = value
    while True:
        if source.node.op in VIEWS:
            below = source.node.args[0]
        elif scaled and source.node.op == "Mul" and (factor := _factor(source.node)) is not None:
            below = factor[0]
        else:
            break
        chain.append((source, below))
        source = below
    for start in range(len(chain), -1, -1):
        view: View | None = whole(chain[start - 1][1] if start else value)
        number = 1.0
        for result, _ in reversed(chain[:start]):
            if result.node.op == "Mul":
                number *= (_factor(result.node) or (result, 1.0))[1]
            else:
                view = view and moved(view, result.node, result.index)
        if view is not None:
            yield view, number


def _readable(view: View, name: str) -> bool:
    """One stride for each of the two inner axes; the columns of V side by side."""
    inner = view.axes[-2:]
    return all(len(axis) <= 1 for axis in inner) and (name != "v" or not inner[-1] or inner[-1][0][1] == 1)


def _swapped(view: View) -> View:
    return View(view.source, view.offset, (*view.axes[:-2], view.axes[-1], view.axes[-2]))


def _batched(axes: tuple[Axis, ...], batch: tuple[int, ...]) -> tuple[Axis, ...]:
    """Axes under as many batch axes as the result has; an axis of one element stands for all positions."""
    axes = ((),) * (len(batch) + 2 - len(axes)) + axes
    lead = tuple(axis or (((n, 0),) if n > 1 else ()) for axis, n in zip(axes[:-2], batch, strict=True))
    return (*lead, *axes[-2:])


def _written(view: View, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Where the elements of a value of `shape` lie in a view of it: pieces per axis of the value."""
    pieces: list[tuple[int, int, int]] = []  # (stride in the value, elements, stride in the view)
    inner = 1
    for n, stride in [piece for axis in view.axes for piece in axis][::-1]:
        pieces.append((stride, n, inner))
        inner *= n
    axes: list[Axis] = []
    for k, n in enumerate(shape):
        low = prod(shape[k + 1 :])
        mine = sorted((p for p in pieces if low <= p[0] < low * n), reverse=True)
        axes.append(tuple((count, to) for _, count, to in mine))
    return tuple(axes)


def _built(found: _Found, new: dict[Value, Value]) -> Value:
    """The node. Batch axes whose pieces differ between operands are cut into pieces that all of them share."""
    views, names = found.views, list(found.views)
    batch: list[int] = []
    strides: dict[str, list[int]] = {name: [] for name in [*names, "out"]}
    for k in range(len(found.out) - 2):
        pieces = refined([*(views[name].axes[k] for name in names), found.out[k]])
        assert pieces is not None
        batch += [n for n, _ in pieces[-1]]
        for name, axis in zip(strides, pieces, strict=True):
            strides[name] += [stride for _, stride in axis]
    for name, axes in [*((n, views[n].axes) for n in names), ("out", found.out)]:
        strides[name] += [axis[0][1] if axis else 0 for axis in axes[-2:]]
    first, product = found.nodes[0], found.nodes[-1]
    sizes = (first.types[0].shape[-2], first.types[0].shape[-1], first.args[0].shape[-1], product.types[0].shape[-1])
    where: dict[str, Attr] = {n: (views[n].offset, *strides[n]) for n in names}
    sources = [_new(views[n].source, new) for n in names]
    origin = tuple(dict.fromkeys(o for node in found.nodes for o in node.origin))
    return build(
        "Edgec.Attention",
        *sources,
        origin=origin,
        label=found.end.node.name,
        batch=tuple(batch),
        sizes=sizes,
        scale=found.scale,
        shape=found.end.shape,
        out=tuple(strides["out"]),
        **where,
    )


def _new(value: Value, new: dict[Value, Value]) -> Value:
    """The value in the rebuilt graph; what this pass made stands on old values and is rebuilt here."""
    if value not in new:
        node = value.node
        made = replace(node, args=tuple(_new(a, new) for a in node.args)) if node.args else node
        new.update(zip(node.results, made.results, strict=True))
    return new[value]
