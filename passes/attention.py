"""Finds softmax(scale * Q K' + mask) V and makes one node of it, which reads its operands where projections left them.

What splits heads, transposes keys, takes Q, K and V out of a joint projection, repeats the heads of grouped queries or
merges the result's heads becomes strides of the node (`compiler/strides.py`): none of it is left to run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import dropwhile
from typing import Any

import numpy as np

from edgec.compiler.ir import Attr, Graph, Node, Value
from edgec.compiler.op import build, const, const_array, int_attr, is_const
from edgec.compiler.pipeline import close, graph_pass
from edgec.compiler.rules.match import fold
from edgec.compiler.session import Session
from edgec.compiler.strides import Axis, View, moved, refined, whole

from .attention_views import as_it_lies, chosen, factor_of, readable, shares_cuts, swapped, views_of, written
from .attention_zeros import hides_rows, zeroed

NEVER = -1e30  # a score filled with less than this weighs nothing, whatever it was before


@dataclass
class _Scores:
    """What stands before a softmax: the product Q K', its scale and cap, the mask that is added, the nodes between."""

    product: Node
    scale: float
    cap: float
    mask: Value | None
    between: list[Node]


@dataclass
class _Found:
    """A pattern: views of Q [batch, S, D], K [batch, T, D], V [batch, T, E], mask [batch, S, T], and its last value."""

    views: dict[str, View]
    scores: _Scores
    zero_masked: bool
    end: Value
    out: tuple[Axis, ...]
    product: Node


@graph_pass("attention", promise=close, after=("canonicalize", "fold"))
def attention(g: Graph, *, session: Session) -> Graph:
    """Fuses scaled dot-product attention into one node."""
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
    if not ends:
        return g
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
        weights = product.args[0]
        guard = zeroed(weights.node)
        softmax = (weights if guard is None else guard.weights).node
        if (
            softmax.op != "Softmax"
            or int_attr(softmax, "axis") % len(softmax.types[0].shape) != len(softmax.types[0].shape) - 1
        ):
            return None
        if product.types[0].dtype != "f32":
            return f"computes {product.types[0].dtype}, not f32"
        if self.uses[weights] != 1 or self.uses[Value(softmax)] != (1 if guard is None else guard.reads):
            return "the weights are read elsewhere"
        scores = self.scores(softmax.args[0])
        if isinstance(scores, str):
            return scores
        if guard is not None and guard.mask not in (None, scores.mask):
            return "other rows are made zero than those that the mask leaves nothing of"
        batch = product.types[0].shape[:-2]
        options = {
            "q": list(views_of(scores.product.args[0])),
            "k": [(swapped(v), f) for v, f in views_of(scores.product.args[1])],
            "v": list(views_of(product.args[1])),
        }
        if scores.mask is not None:
            options["mask"] = [(self.mask(scores.mask), 1.0)]
        end, out = self.end(Value(product))
        views, factor = chosen(options, batch, 0)
        if not shares_cuts(views, out):
            (views, factor), end = chosen(options, batch, -1), Value(product)
            out = as_it_lies(product.types[0].shape)
        between = [*scores.between, softmax, *([] if guard is None else guard.nodes)]
        scores = replace(scores, scale=scores.scale * factor, between=between)
        hidden = guard is not None and scores.mask is not None and hides_rows(scores.mask)
        return _Found(views, scores, hidden, end, out, product)

    def scores(self, value: Value) -> _Scores | str:
        """What leads from a product Q K' to a softmax."""
        scale, cap, mask, between, rank = 1.0, 0.0, None, list[Node](), len(value.shape)
        while value.node.op != "MatMul":
            node = value.node
            if self.uses[value] != 1:
                return f"{node} has {self.uses[value]} uses"
            if node.op == "Mul" and (factor := factor_of(node)) is not None:
                value, scale = factor[0], scale * factor[1]
            elif node.op == "Tanh" and not cap and scale:
                value, scale, cap = node.args[0], 1.0, scale
            elif node.op in ("Add", "Where") and not cap:
                parts = self.masked(node)
                if parts is None:
                    return f"{node} adds no mask to the scores"
                value, mask = parts[0], _sum(mask, _times(_of_rank(parts[1], rank), scale))
            elif node.op == "Reshape" and _but_ones(value) == _but_ones(node.args[0]):
                value = node.args[0]
            else:
                return f"{node} stands between the scores and their softmax"
            between.append(node)
        if self.uses[value] != 1:
            return f"{value.node} has {self.uses[value]} uses"
        if len(value.shape) != rank:
            return f"{value.node} has another rank than its softmax"
        return _Scores(value.node, scale, cap, mask, between[::-1])

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
            self.fills[condition, fill] = _emitted("Where", condition, zero, fill)
        return scores, self.fills[condition, fill]

    def mask(self, value: Value) -> View:
        """A view of the mask in which neighbouring queries lie side by side, where it tells queries apart."""
        if value not in self.masks:
            options = [v for v, _ in views_of(value, scaled=False) if readable(v, "mask")]
            view = options[0]
            rows = view.axes[-2] if len(view.axes) > 1 else ()
            if rows and rows[0][1] not in (0, 1):
                perm = (*range(len(value.shape) - 2), len(value.shape) - 1, len(value.shape) - 2)
                turned = build("Transpose", value, origin=value.node.origin, perm=perm)
                view = swapped(whole(fold(turned.node) or turned))
            self.masks[value] = view
        return self.masks[value]

    def end(self, value: Value) -> tuple[Value, tuple[Axis, ...]]:
        """How far views of the result can be written at once, and the strides there of [batch, S, E]."""
        view, shape = whole(value), value.shape
        found = value, as_it_lies(shape)
        while self.uses[value] == 1 and value not in self.outputs:
            node = self.users[value][0]
            step = moved(view, node) if node.op in ("Transpose", "Reshape") else None
            if step is None:
                break
            value, view = Value(node), step
            out = written(view, shape)
            if out and len(out[-2]) <= 1 and len(out[-1]) <= 1 and (not out[-1] or out[-1][0][1] == 1):
                found = value, out
        return found


def _scores_like(value: Value) -> bool:
    """Whether masks and factors lead back to a product; of two such arguments the first counts as the scores."""
    while value.node.op in ("Mul", "Tanh", "Add", "Where", "Reshape"):
        node, below = value.node, None
        if node.op == "Mul":
            below = (factor_of(node) or (None,))[0]
        elif node.op == "Reshape":
            below = node.args[0] if _but_ones(value) == _but_ones(node.args[0]) else None
        elif node.op == "Tanh":
            below = node.args[0]
        elif node.op == "Where":
            below = node.args[1]
        else:
            below = next((a for a in node.args if a.shape == value.shape and _scores_like(a)), None)
        if below is None:
            return False
        value = below
    return value.node.op == "MatMul"


def _but_ones(value: Value) -> tuple[int, ...]:
    """The shape without ones in front: windows may come as the only image's, or by themselves."""
    return tuple(dropwhile(lambda n: n == 1, value.shape))


def _of_rank(mask: Value, rank: int) -> Value:
    """The mask with at most so many axes; those that it then lacks are ones in front."""
    return mask if len(mask.shape) <= rank else _emitted("Reshape", mask, shape=mask.shape[-rank:])


def _times(mask: Value, scale: float) -> Value:
    """The mask of scores that are scaled after it is added."""
    return mask if scale == 1.0 else _emitted("Mul", mask, const(np.asarray(scale, np.float32)))


def _sum(mask: Value | None, more: Value) -> Value:
    return more if mask is None else _emitted("Add", mask, more)


def _emitted(op: str, *args: Value, shape: tuple[int, ...] | None = None) -> Value:
    """A new node, or the constant that it computes."""
    attrs: dict[str, Any] = {} if shape is None else {"shape": shape}
    made = build(op, *args, origin=args[0].node.origin, **attrs)
    return fold(made.node) or made


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
    first, product, scores = found.scores.product, found.product, found.scores
    sizes = (first.types[0].shape[-2], first.types[0].shape[-1], first.args[0].shape[-1], product.types[0].shape[-1])
    where: dict[str, Attr] = {n: (views[n].offset, *strides[n]) for n in names}
    sources = [_new(views[n].source, new) for n in names]
    origin = tuple(dict.fromkeys(o for node in (first, *scores.between, product) for o in node.origin))
    return build(
        "Edgec.Attention",
        *sources,
        origin=origin,
        label=found.end.node.name,
        batch=tuple(batch),
        sizes=sizes,
        scale=scores.scale,
        **({"cap": scores.cap} if scores.cap else {}),
        **({"zero_masked": 1} if found.zero_masked else {}),
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
