"""Which operators may read values whose size depends on data, and how each keeps the count: the table and its tools.

Such a value has the type of its largest size, and a `Count` says how much of one axis is there. A rule runs the
ordinary converter on the whole, padding included, where the entries that are there come out exactly as ONNX has them;
it puts a neutral number into the padding where that is needed, and says what is counted in the result. An operator
without a rule is refused. The rules stand in maps.py, arithmetic.py, writes.py and sizes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeAlias

import numpy as np

from ...ir import Data, Value
from ..context import Absent, Context, Items
from ..table import CONVERTERS, Count, Refused, Result

Rule: TypeAlias = Callable[[Context], Result]
KEEPS: dict[str, Rule] = {}
SHAPES: dict[str, tuple[int, ...]] = {}  # arguments that may be computed shapes (sizes.py)
_DEPTH = 6  # operators between two counts and what they are computed from
_SMALL = 64  # elements of constants that are compared one by one


def keeps(*ops: str, shapes: tuple[int, ...] = ()) -> Callable[[Rule], Rule]:
    """Enter a rule in the table under the names of ONNX operators. `shapes`: arguments that may be computed shapes."""

    def enter(rule: Rule) -> Rule:
        for op in ops:
            if op in KEEPS:
                raise ValueError(f"operator {op!r} has two rules")
            KEEPS[op], SHAPES[op] = rule, shapes
        return rule

    return enter


def converted(c: Context) -> Result:
    """What a node becomes: by its converter, by its rule where sizes depend on data, or a refusal."""
    if not c.counts and not any(index in c.sizes for index in SHAPES.get(c.op, ())):
        return CONVERTERS[c.op](c)
    if c.op not in KEEPS:
        refuse(c)
    return KEEPS[c.op](c)


def refuse(c: Context, why: str = "", index: int | None = None) -> NoReturn:
    """Say that an argument, by default the first such one, has a size that depends on data, and why that matters."""
    at = next(iter(c.counts)) if index is None else index
    name = c.arg(at).name if c.arg(at).index else c.arg(at).node.name  # a node has its first result's name
    text = f"argument {name!r}: its size depends on data (result of {c.counts[at].source})"
    help = f"end the model at {name!r} and do the rest in your program, or give it a fixed size"
    raise Refused(f"{text}{why and ', '}{why}", help)


def only(c: Context, index: int = 0) -> Count:
    """The count of one argument; no other may have one."""
    for other in c.counts:
        if other != index:
            refuse(c, index=other)
    return c.counts[index]


def alike(c: Context, indices: Sequence[int]) -> None:
    """Refuse arguments of which only some have a size that depends on data, or have different ones."""
    first = next(iter(c.counts.values()))
    for index in indices:
        n = c.counts.get(index)
        if n is None or n.axis != first.axis or not same(n.value, first.value):
            refuse(c, f"and {c.arg(index).name!r} may have another size")


def keep(c: Context, count: Count, axis: int | None = None, *, zeros: bool = False) -> Result:
    """The ordinary results, all with this count, on another axis if need be."""
    kept = replace(count, axis=count.axis if axis is None else axis, zeros=zeros and count.zeros)
    found = CONVERTERS[c.op](c)
    if isinstance(found, Value):
        return c.sized(found, kept)
    assert not isinstance(found, (Items, Absent))
    return [c.sized(v, kept) if isinstance(v, Value) else v for v in found]


# ---- Padding ----


def mask(c: Context, count: Count, x: Value) -> Value:
    """Whether an entry of `x` is there, broadcast along the other axes."""
    size = x.shape[count.axis]
    return c.reshape(c.emit("Edgec.Below", count.value, size=size), (size, *(1,) * (len(x.shape) - count.axis - 1)))


def padded(c: Context, index: int, fill: Any) -> Value:
    """An argument with a number in its padding; it takes the argument's place."""
    x, count = c.arg(index), c.counts.get(index)
    if count is None or (count.zeros and fill == 0):
        return x
    c.args[index] = c.emit("Where", mask(c, count, x), x, c.const(fill, like=x))
    return c.arg(index)


# ---- Numbers of entries ----


def number(c: Context, op: str, *args: Value | int) -> Value:
    """Arithmetic on counts."""
    return c.emit(op, *(a if isinstance(a, Value) else c.const(np.int64(a)) for a in args))


def times(c: Context, count: Count, factor: int) -> Value:
    """So many entries for each one."""
    return count.value if factor == 1 else number(c, "Mul", count.value, factor)


def same(a: Value, b: Value, depth: int = _DEPTH) -> bool:
    """Whether two values are computed alike from the same ones."""
    x, y = a.node, b.node
    if a == b:
        return True
    if depth == 0 or x.op == "Input" or (a.index, x.op) != (b.index, y.op):
        return False
    if len(x.args) != len(y.args) or x.types != y.types or x.attrs.keys() != y.attrs.keys():
        return False
    alike = all(_equal(x.attrs[key], y.attrs[key]) for key in x.attrs)
    return alike and all(same(p, q, depth - 1) for p, q in zip(x.args, y.args, strict=True))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Data) and isinstance(b, Data):
        return a is b or (a.array.size <= _SMALL and np.array_equal(a.array, b.array))
    return bool(a == b)
