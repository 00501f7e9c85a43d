"""Guards and helpers of the rule language: two tables, filled by decorators, so that plugins add theirs.

A guard gets the matching's `Context` and its arguments (values, or attributes and literals as plain Python) and answers
True or why not. A helper gets arrays for constants, `Value`s for computed values, plain Python for attributes, and
gives an array (which becomes a constant) or, inside braces, an attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np

from ..dtypes import dtype
from ..ir import Array, Attr, Value
from ..op import const_array, is_const

Answer: TypeAlias = "Literal[True] | str"


class Context(Protocol):
    """What guards may ask of the rewriting under way."""

    def uses(self, value: Value) -> int:
        """How often a value is read, as an output included."""
        ...


GuardFunction = Callable[..., Answer]
HelperFunction = Callable[..., Any]
GUARDS: dict[str, GuardFunction] = {}
HELPERS: dict[str, HelperFunction] = {}
G = TypeVar("G", bound=GuardFunction)
H = TypeVar("H", bound=HelperFunction)


def guard(name: str) -> Callable[[G], G]:
    """Register `fn(context, *args) -> True | why not`."""

    def register(fn: G) -> G:
        if name in GUARDS:
            raise ValueError(f"guard {name!r} is defined twice")
        GUARDS[name] = fn
        return fn

    return register


def helper(name: str) -> Callable[[H], H]:
    """Register `fn(*args) -> array or attribute`."""

    def register(fn: H) -> H:
        if name in HELPERS:
            raise ValueError(f"helper {name!r} is defined twice")
        HELPERS[name] = fn
        return fn

    return register


@guard("const")
def _const(context: Context, value: Value) -> Answer:
    """Its numbers are known."""
    return is_const(value) or "is not a constant"


@guard("one_use")
def one_use(context: Context, value: Value) -> Answer:
    """No other node reads it, and it is no output: the rewrite leaves nothing of it behind."""
    count = context.uses(value)
    return count == 1 or f"has {count} uses"


@guard("float")
def _float(context: Context, value: Value) -> Answer:
    """Of a floating-point type."""
    return dtype(value.type.dtype).is_float or f"is {value.type.dtype}, not a float"


@guard("channel")
def channel(context: Context, scale: Value, like: Value) -> Answer:
    """One number per channel (axis 1) of `like`, or a single number, in a shape that broadcasts over it."""
    rank, shape = len(like.shape), scale.shape
    padded = (1,) * (rank - len(shape)) + shape
    fits = len(shape) <= rank and all(n == 1 or (axis == 1 and n == like.shape[1]) for axis, n in enumerate(padded))
    return fits or f"has shape {list(shape)}, not one number per channel of {list(like.shape)}"


@guard("column")
def column(context: Context, scale: Value, like: Value) -> Answer:
    """One number per slice of the last axis of `like`, or a single number."""
    shape, last = scale.shape, like.shape[-1]
    fits = len(shape) <= len(like.shape) and all(n == 1 for n in shape[:-1]) and shape[-1:] in ((), (1,), (last,))
    return fits or f"has shape {list(shape)}, not one number per column of {list(like.shape)}"


@guard("uniform")
def uniform(context: Context, value: Value) -> Answer:
    """A constant that holds one number only."""
    if not is_const(value):
        return "is not a constant"
    array = const_array(value)
    return (array.size > 0 and bool((array == array.flat[0]).all())) or "holds different numbers"


@guard("near")
def near(context: Context, value: Value, number: float) -> Answer:
    """A constant that holds `number` only, to the five digits that exporters keep at least."""
    if (answer := uniform(context, value)) is not True:
        return answer
    held = float(const_array(value).flat[0])
    return abs(held - number) <= 2e-5 * abs(number) or f"holds {held}, not {number}"


@guard("inverse_count")
def inverse_count(context: Context, value: Value, folded: Value, axes: tuple[int, ...]) -> Answer:
    """A constant by which a sum over `axes` of `folded` becomes a mean: the nearest number of its type."""
    if (answer := uniform(context, value)) is not True:
        return answer
    if any(n != 1 for n in value.shape):
        return f"has shape {list(value.shape)}, which may widen the sum"
    array: Any = const_array(value)
    count = prod(folded.shape[axis] for axis in axes)
    inverse = array.dtype.type(1 / max(count, 1))
    near = abs(float(array.flat[0]) - float(inverse)) <= float(np.spacing(inverse))
    return near or f"holds {array.flat[0]}, not 1/{count}"


@guard("holds")
def holds(context: Context, value: Value, truth: int) -> Answer:
    """A constant of truth values that are all true (1) or all false (0)."""
    if not is_const(value) or value.type.dtype != "bool":
        return "is not a constant of truth values"
    return bool((const_array(value) == bool(truth)).all()) or "holds both truth values"


@guard("one_axis")
def one_axis(context: Context, axes: tuple[int, ...]) -> Answer:
    """A reduction over a single axis."""
    return len(axes) == 1 or f"{list(axes)} is not one axis"


@guard("last_axis")
def last_axis(context: Context, value: Value, axes: tuple[int, ...]) -> Answer:
    """A reduction over the last axis of `value` and no other."""
    return axes == (len(value.shape) - 1,) or f"{list(axes)} is not the last axis of {list(value.shape)}"


@guard("last_only")
def last_only(context: Context, value: Value) -> Answer:
    """A LayerNormalization of the last axis alone, with as many scales and shifts as that has elements."""
    axis, rank, wanted = value.node.attrs.get("axis", -1), len(value.shape), value.shape[-1:]
    fits = axis in (-1, rank - 1) and all(a.shape == wanted for a in value.node.args[1:])
    return fits or f"{value.node} normalizes more than the last axis"


@guard("merges")
def merges(context: Context, a: Value, b: Value) -> Answer:
    """Two constants whose combination is not larger than the larger one."""
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return f"has shape {list(a.shape)}, which does not go with {list(b.shape)}"
    return shape in (a.shape, b.shape) or f"would grow from {list(a.shape)} to {list(shape)}"


@guard("identity")
def identity(context: Context, perm: tuple[int, ...]) -> Answer:
    """A permutation that moves nothing."""
    return perm == tuple(range(len(perm))) or f"{list(perm)} moves axes"


@guard("forward")
def forward(context: Context, steps: tuple[int, ...]) -> Answer:
    """Steps of a slice that reverse no axis."""
    return all(step > 0 for step in steps) or f"{list(steps)} goes backwards"


@guard("unpadded")
def unpadded(context: Context, value: Value) -> Answer:
    """A convolution or pool without padding."""
    pads = value.node.attrs.get("pads", ())
    return not any(pads if isinstance(pads, tuple) else ()) or f"has pads {list(pads)}"  # type: ignore[arg-type]


@guard("permutes_ones")
def permutes_ones(context: Context, value: Value, perm: tuple[int, ...]) -> Answer:
    """A transpose that moves only axes of size 1 past others: the elements stay where they are."""
    kept = [axis for axis in perm if value.shape[axis] != 1]
    return kept == sorted(kept) or f"moves elements: {list(perm)} of {list(value.shape)}"


@helper("oihw")
def oihw(scale: Array, weight: Array) -> Array:
    """Numbers per output channel (or one), shaped to scale a filter [O, I, ...]."""
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


@helper("ihw")
def ihw(scale: Array, weight: Array) -> Array:
    """Numbers per second axis (or one), shaped to scale a filter [O, I, ...] of group 1, or one of ConvTranspose."""
    return scale.reshape(1, -1, *[1] * (weight.ndim - 2))


@helper("flat")
def flat(scale: Array) -> Array:
    """The same numbers along one axis."""
    return scale.reshape(-1)


@helper("along_last")
def along_last(value: Value | Array, number: float) -> Array:
    """`number` for every element of the last axis, in the type of `value`."""
    kind = value.dtype if isinstance(value, np.ndarray) else dtype(value.type.dtype).numpy
    return np.full(value.shape[-1:], number, kind)


@helper("with_ones")
def with_ones(value: Value, axes: tuple[int, ...]) -> Attr:
    """The shape of a reduction over `axes` of `value` that keeps them, with size one."""
    return tuple(1 if axis in axes else n for axis, n in enumerate(value.shape))


@helper("single")
def single(axes: tuple[int, ...]) -> Attr:
    """The only entry of a list."""
    return axes[0]


@helper("filter_sum")
def filter_sum(weight: Array, shift: Array) -> Array:
    """What adding `shift` to the input of a convolution without padding (group 1) adds to its output."""
    per_input = np.broadcast_to(shift.reshape(-1), (weight.shape[1],))
    taps: Any = weight.reshape(*weight.shape[:2], -1)
    out: Array = (taps.sum(axis=2) @ per_input).astype(weight.dtype)
    return out


@helper("compose")
def compose(first: tuple[int, ...], second: tuple[int, ...]) -> Attr:
    """The permutation that applies `first`, then `second`."""
    return tuple(first[axis] for axis in second)


@helper("larger")
def larger(a: float, b: float) -> Attr:
    """The larger of two attributes."""
    return max(a, b)


@helper("smaller")
def smaller(a: float, b: float) -> Attr:
    """The smaller of two attributes."""
    return min(a, b)


@helper("first")
def first(value: Array) -> Attr:
    """The number that a uniform constant holds."""
    item: Attr = value.flat[0].item()
    return item
