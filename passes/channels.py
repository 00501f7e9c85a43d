"""Finds out what chains of reshapes, transposes and slices do to channels: often they only select some of them.

A channel shuffle is written as Reshape, Transpose, Reshape, and needs row-major memory at each step. As one
`Edgec.Select`, which names the channels that it takes from one or more values, it can run in any layout. Selections of
selections become one: nothing in between is written.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import prod

import numpy as np

from edgec.compiler.ir import Array, Graph, Node, Value
from edgec.compiler.op import build, evaluate, int_attr, ints_attr
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.rewrite import Sweep, python_rule, rewrite
from edgec.compiler.session import Session

MOVES = frozenset({"Reshape", "Transpose", "Slice"})
LONGEST = 6  # nodes of a chain
LARGEST = 1 << 22  # elements whose way through a chain is followed
MOST_SOURCES = 4  # values that one selection reads: beyond, its vectors are put together from too many


@graph_pass("channels", promise=exact, after={"canonicalize": "it brings maps to one form"})
def channels(graph: Graph, *, session: Session) -> Graph:
    """Chains of maps that only move channels become selections of channels."""
    return rewrite(graph, [chain_selects, select_of_maps, slice_of_select], session)


@python_rule("Reshape", "Slice")
def chain_selects(value: Value, sweep: Sweep) -> Value | str | None:
    """The longest chain before a value, with a transpose in it, through which each channel stays in one piece."""
    if value.type.dtype != "f32" or len(value.shape) not in (3, 4) or 0 in value.shape:
        return None
    chain: list[Node] = []
    found: tuple[Value, tuple[int, ...], int] | None = None
    node = value.node
    while node.op in MOVES and len(chain) < LONGEST:
        chain.append(node)
        source = node.args[0]
        alike = len(source.shape) == len(value.shape) and _plane(source) == _plane(value)
        if alike and any(n.op == "Transpose" for n in chain) and source.type.size <= LARGEST:
            index = _followed(source, chain)
            found = (source, index, len(chain)) if index else found
        node = source.node
    if found is None:
        return None
    source, index, length = found
    return _select((source,), index, value.node, *chain[:length])


def _plane(value: Value) -> tuple[int, ...]:
    return (value.shape[0], *value.shape[2:])


def _followed(source: Value, chain: list[Node]) -> tuple[int, ...] | None:
    """The channel of `source` in each channel at the chain's end (its first node); None where elements move alone."""
    numbers = np.arange(source.type.size, dtype=np.int64)
    array: Array = numbers.reshape(source.shape)
    for node in reversed(chain):
        (array,) = evaluate(node, [array])
    pixels = prod(source.shape[2:])
    index = array[0].reshape(array.shape[1], -1)[:, 0] // max(pixels, 1)
    if index.max() >= source.shape[1]:
        return None  # of another image
    expected = np.take(numbers.reshape(source.shape), index, axis=1)
    return tuple(int(c) for c in index) if np.array_equal(expected, array) else None


@python_rule("Edgec.Select")
def select_of_maps(value: Value, sweep: Sweep) -> Value | str | None:
    """A selection reads through concatenations of channels and through other selections."""
    node = value.node
    for place, arg in enumerate(node.args):
        inner = arg.node
        joins = inner.op == "Concat" and int_attr(inner, "axis") % len(value.shape) == 1
        if not joins and inner.op != "Edgec.Select":
            continue
        starts = [0, *accumulate(a.shape[1] for a in node.args)]
        own = ints_attr(inner, "index") if inner.op == "Edgec.Select" else range(arg.shape[1])
        sources = (*node.args[:place], *inner.args, *node.args[place + 1 :])
        more = sum(a.shape[1] for a in inner.args) - arg.shape[1]
        index = []
        for c in ints_attr(node, "index"):
            if c < starts[place]:
                index.append(c)
            elif c < starts[place + 1]:
                index.append(starts[place] + own[c - starts[place]])
            else:
                index.append(c + more)
        merged = _select(sources, tuple(index), node, inner)
        if len(merged.node.args) <= MOST_SOURCES:
            return merged
    return None


@python_rule("Slice")
def slice_of_select(value: Value, sweep: Sweep) -> Value | str | None:
    """A slice of selected channels selects fewer."""
    node, inner = value.node, value.node.args[0].node
    if inner.op != "Edgec.Select" or ints_attr(node, "axes") != (1,):
        return None
    own = ints_attr(inner, "index")
    (start,), (step,) = ints_attr(node, "starts"), ints_attr(node, "steps")
    index = tuple(own[start + k * step] for k in range(value.shape[1]))
    return _select(inner.args, index, node, inner)


def _select(sources: tuple[Value, ...], index: tuple[int, ...], node: Node, *merged: Node) -> Value:
    """The selection from those sources that it reads, each once; one that takes a whole source is that source."""
    starts = [0, *accumulate(a.shape[1] for a in sources)]
    place = [int(np.searchsorted(starts, c, side="right")) - 1 for c in index]
    used = list(dict.fromkeys(sources[p] for p in sorted(set(place))))
    begin = dict(zip(used, [0, *accumulate(a.shape[1] for a in used)], strict=False))
    new = tuple(begin[sources[p]] + c - starts[p] for p, c in zip(place, index, strict=True))
    if len(used) == 1 and new == tuple(range(used[0].shape[1])):
        return used[0]
    origin = tuple(dict.fromkeys(o for n in (*reversed(merged), node) for o in n.origin))
    if len(used) == 1 and all(b - a == 1 for a, b in pairwise(new)):
        bounds = {"starts": (new[0],), "ends": (new[-1] + 1,), "axes": (1,), "steps": (1,)}
        return build("Slice", used[0], origin=origin, label=node.name, **bounds)
    return build("Edgec.Select", *used, origin=origin, label=node.name, index=new)
