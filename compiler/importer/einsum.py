"""Einsum by transposes, sums, products and matrix products: two operands at a time, the least result first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from ..errors import EdgecError
from ..ir import Value
from .context import Context
from .table import Result, converts

CHOSEN = 8  # operands among which the pair with the least product is looked for; more are taken from the left


@dataclass(frozen=True)
class Operand:
    """A value, and a different label for each of its axes."""

    value: Value
    labels: tuple[str, ...]

    def axes(self, labels: Sequence[str]) -> list[int]:
        return [self.labels.index(label) for label in labels]


@converts("Einsum")
def einsum(c: Context) -> Result:
    """Axes of one label are one axis; an axis of size 1 stands for all positions of its label's."""
    terms, result = _parsed(c)
    sizes: dict[str, int] = {}
    for k, term in enumerate(terms):
        for label, n in zip(term, c.arg(k).shape, strict=True):
            if sizes.setdefault(label, n) == 1:
                sizes[label] = n
            if n not in (1, sizes[label]):
                raise EdgecError(f"{c.where}: axes of sizes {sizes[label]} and {n} have one label")
    operands = [_narrowed(c, _diagonal(c, c.arg(k), term), sizes) for k, term in enumerate(terms)]
    while len(operands) > 1:
        i, j = min(combinations(range(min(len(operands), CHOSEN)), 2), key=lambda pair: _cost(operands, pair, sizes))
        a, b = operands[i], operands[j]
        operands = [o for k, o in enumerate(operands) if k not in (i, j)]
        operands.append(_product(c, a, b, {*result, *(label for o in operands for label in o.labels)}, sizes))
    last = _summed(c, operands[0], result)
    return c.transpose(last.value, last.axes(result))


def _parsed(c: Context) -> tuple[list[list[str]], list[str]]:
    """Labels of every operand's axes and of the result's. Those of an ellipsis are numbers, counted from the back."""
    equation = "".join(str(c.attr("equation", "")).split(" "))
    left, arrow, right = equation.partition("->")
    texts = left.split(",")
    if len(texts) != len(c.args):
        raise EdgecError(f"{c.where}: equation {equation!r} has {len(texts)} terms for {len(c.args)} arguments")
    terms = []
    for k, text in enumerate(texts):
        more = len(c.arg(k).shape) - len(text.replace("...", ""))
        terms.append(_labels(c, text, more if "..." in text else 0))
        if len(terms[-1]) != len(c.arg(k).shape) or more < 0:
            raise EdgecError(f"{c.where}: term {text!r} does not fit {c.arg(k).type}")
    dots = max((sum(label.isdigit() for label in term) for term in terms), default=0)
    if arrow:
        result = _labels(c, right, dots)
    else:
        every = [label for term in terms for label in term]
        once = sorted(label for label in every if every.count(label) == 1 and not label.isdigit())
        result = [*_labels(c, "...", dots), *once]
    known = {label for term in terms for label in term}
    if len(set(result)) != len(result) or not known.issuperset(result):
        raise EdgecError(f"{c.where}: the result of equation {equation!r} repeats a label, or has one of its own")
    return terms, result


def _labels(c: Context, text: str, dots: int) -> list[str]:
    before, found, after = text.partition("...")
    if not all(ch.isascii() and ch.isalpha() for ch in before + after):
        raise EdgecError(f"{c.where}: term {text!r} holds other signs than letters and '...'")
    return [*before, *(str(k) for k in reversed(range(dots)) if found), *after]


def _diagonal(c: Context, value: Value, labels: Sequence[str]) -> Operand:
    """Axes of one label become the diagonal through them: every (n + 1)th element of both laid side by side."""
    labels = list(labels)
    while repeated := next((label for label in labels if labels.count(label) > 1), None):
        first = labels.index(repeated)
        second = labels.index(repeated, first + 1)
        rest = [k for k in range(len(labels)) if k not in (first, second)]
        n, m = value.shape[first], value.shape[second]
        value = c.transpose(value, [*rest, first, second])
        labels = [*(labels[k] for k in rest), repeated]
        if n != m:
            raise EdgecError(f"{c.where}: axes of sizes {n} and {m} have one label")
        value = c.reshape(value, (*value.shape[:-2], n * n))
        if n > 1:
            value = c.emit("Slice", value, starts=(0,), ends=(n * n,), axes=(len(rest),), steps=(n + 1,))
    return Operand(value, tuple(labels))


def _narrowed(c: Context, a: Operand, sizes: dict[str, int]) -> Operand:
    """Without axes of size 1 that stand for more positions."""
    kept = [k for k, label in enumerate(a.labels) if a.value.shape[k] == sizes[label]]
    return Operand(c.reshape(a.value, [a.value.shape[k] for k in kept]), tuple(a.labels[k] for k in kept))


def _cost(operands: list[Operand], pair: tuple[int, int], sizes: dict[str, int]) -> int:
    return prod(sizes[label] for label in {*operands[pair[0]].labels, *operands[pair[1]].labels})


def _summed(c: Context, a: Operand, wanted: Collection[str]) -> Operand:
    axes = tuple(k for k, label in enumerate(a.labels) if label not in wanted)
    if not axes:
        return a
    kept = tuple(label for label in a.labels if label in wanted)
    return Operand(c.emit("ReduceSum", a.value, axes=axes, keepdims=0), kept)


def _product(c: Context, a: Operand, b: Operand, wanted: Collection[str], sizes: dict[str, int]) -> Operand:
    """Both multiplied and summed over what nothing else wants: elementwise where there is no row or column left."""
    a, b = _summed(c, a, {*wanted, *b.labels}), _summed(c, b, {*wanted, *a.labels})
    shared = [label for label in a.labels if label in b.labels]
    batch, inner = [x for x in shared if x in wanted], [x for x in shared if x not in wanted]
    rows, columns = ([x for x in o.labels if x not in shared] for o in (a, b))

    def sized(labels: Sequence[str]) -> list[int]:
        return [sizes[label] for label in labels]

    def arranged(o: Operand, *groups: list[str]) -> Value:
        return c.transpose(o.value, o.axes([label for group in groups for label in group]))

    half = c.dtype in ("f16", "bf16")
    if not inner or not (rows or columns or half):
        left = c.reshape(arranged(a, batch, rows, inner), sized(batch + rows) + [1] * len(columns) + sized(inner))
        right = c.reshape(arranged(b, batch, columns, inner), sized(batch) + [1] * len(rows) + sized(columns + inner))
        y = c.emit("Mul", left, right)
        return _summed(c, Operand(y, (*batch, *rows, *columns, *inner)), wanted)
    left = c.reshape(arranged(a, batch, rows, inner), [*sized(batch), prod(sized(rows)), prod(sized(inner))])
    right = c.reshape(arranged(b, batch, inner, columns), [*sized(batch), prod(sized(inner)), prod(sized(columns))])
    y = c.reshape(c.emit("MatMul", left, right), sized(batch + rows + columns))
    return Operand(y, (*batch, *rows, *columns))
