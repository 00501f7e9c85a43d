"""From where an attention reads its operands and writes its result: chains of views as strides, as far as they go."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import const_array, is_const
from edgec.compiler.strides import Axis, View, moved, refined, whole

VIEWS = frozenset({"Transpose", "Reshape", "Expand", "Split", "Slice"})


def factor_of(node: Node) -> tuple[Value, float] | None:
    """A product with a constant number: the other factor and the number."""
    for value, other in (node.args, node.args[::-1]):
        if is_const(other) and not is_const(value) and value.shape == node.types[0].shape:
            array = const_array(other)
            if array.size and bool((array == array.flat[0]).all()):
                return value, float(array.flat[0])
    return None


def views_of(value: Value, scaled: bool = True) -> Iterator[tuple[View, float]]:
    """The value as a view of what it is made from, farthest first, and the number it is multiplied by on the way."""
    chain: list[tuple[Value, Value]] = []  # (result, what it views)
    source = value
    while True:
        if source.node.op in VIEWS:
            below = source.node.args[0]
        elif scaled and source.node.op == "Mul" and (factor := factor_of(source.node)) is not None:
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
                number *= (factor_of(result.node) or (result, 1.0))[1]
            else:
                view = view and moved(view, result.node, result.index)
        if view is not None:
            yield view, number


def readable(view: View, name: str) -> bool:
    """One stride for each of the two inner axes; the columns of V side by side."""
    inner = view.axes[-2:]
    return all(len(axis) <= 1 for axis in inner) and (name != "v" or not inner[-1] or inner[-1][0][1] == 1)


def swapped(view: View) -> View:
    return View(view.source, view.offset, (*view.axes[:-2], view.axes[-1], view.axes[-2]))


def batched(axes: tuple[Axis, ...], batch: tuple[int, ...]) -> tuple[Axis, ...]:
    """Axes under as many batch axes as the result has; an axis of one element stands for all positions."""
    axes = ((),) * (len(batch) + 2 - len(axes)) + axes
    lead = tuple(axis or (((n, 0),) if n > 1 else ()) for axis, n in zip(axes[:-2], batch, strict=True))
    return (*lead, *axes[-2:])


def chosen(
    options: dict[str, list[tuple[View, float]]], batch: tuple[int, ...], which: int
) -> tuple[dict[str, View], float]:
    """One view per operand, the farthest (0) or the nearest (-1), and the product of their factors."""
    views, number = {}, 1.0
    for name, choices in options.items():
        view, factor = [(v, f) for v, f in choices if readable(v, name)][which]
        views[name] = View(view.source, view.offset, batched(view.axes, batch))
        number *= factor
    return views, number


def shares_cuts(views: dict[str, View], out: tuple[Axis, ...]) -> bool:
    """Whether every batch axis can be cut into pieces that all operands share."""
    return all(refined([*(v.axes[k] for v in views.values()), out[k]]) is not None for k in range(len(out) - 2))


def written(view: View, shape: tuple[int, ...]) -> tuple[Axis, ...] | None:
    """Where the elements of a value of `shape` lie in a view of it: pieces per axis of the value.

    None where a piece of the view crosses an axis of the value unevenly.
    """
    pieces: list[tuple[int, int, int]] = []  # (stride in the value, elements, stride in the view)
    ends = [prod(shape[k:]) for k in range(len(shape))][::-1]
    inner = 1
    for n, stride in [piece for axis in view.axes for piece in axis][::-1]:
        while n > 1:  # neighbouring axes of the value may be one piece of the view
            here = min(n, next(end for end in ends if end > stride) // stride)
            pieces.append((stride, here, inner))
            inner, stride, n = inner * here, stride * here, n // here
    axes: list[Axis] = []
    for k, n in enumerate(shape):
        low = prod(shape[k + 1 :])
        mine = []
        for stride, count, to in pieces:
            first, last = max(stride, low), min(stride * count, low * n)
            if first < last:
                if first % stride or last % first:
                    return None
                mine.append((first, last // first, to * (first // stride)))
        axes.append(tuple((count, to) for _, count, to in sorted(mine, reverse=True)))
    return tuple(axes)


def as_it_lies(shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """The axes of a row-major value."""
    return tuple(((n, prod(shape[k + 1 :])),) if n > 1 else () for k, n in enumerate(shape))
