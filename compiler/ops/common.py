"""What the operator rows share: classes of element types, inference of common forms, axis and window arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..dtypes import DTYPES, dtype, integer_limits
from ..errors import IRError
from ..ir import Type

Tensor: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = tuple[int, ...]
Infer: TypeAlias = Callable[..., tuple[Type, ...]]

FLOATS = frozenset(n for n, t in DTYPES.items() if t.is_float)
INTS = frozenset(n for n, t in DTYPES.items() if t.is_int)
SIGNED = FLOATS | {n for n in INTS if n[0] == "i"}
NUMBERS = FLOATS | INTS
BOOL = frozenset({"bool"})
ANY = frozenset(DTYPES)
ORDERED = NUMBERS | BOOL
WHOLE = frozenset(n for n, t in DTYPES.items() if t.is_whole)
NARROW = frozenset(n for n, t in DTYPES.items() if t.is_storage and not t.is_whole)


def require(t: Type, allowed: frozenset[str], what: str = "argument") -> None:
    """Refuse an element type outside `allowed`."""
    if t.dtype not in allowed:
        raise IRError(f"{what} is {t.dtype}; expected one of {', '.join(n for n in DTYPES if n in allowed)}")


def same(allowed: frozenset[str] = ANY) -> Infer:
    """Result type of the argument, for elementwise operators and others that keep the shape."""

    def infer(x: Type, **_: Any) -> tuple[Type, ...]:
        require(x, allowed)
        return (Type(x.dtype, x.shape),)

    return infer


def predicate(allowed: frozenset[str]) -> Infer:
    """bool result of the argument's shape."""

    def infer(x: Type, **_: Any) -> tuple[Type, ...]:
        require(x, allowed)
        return (Type("bool", x.shape),)

    return infer


def broadcast(*shapes: Ints) -> Ints:
    """The numpy broadcast of shapes. Sizes have no limit here."""
    rank = max(map(len, shapes))
    result = []
    for sizes in zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes), strict=True):
        others = {n for n in sizes if n != 1}
        if len(others) > 1:
            raise IRError(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
        result.append(others.pop() if others else 1)
    return tuple(result)


def equal_types(*types: Type) -> None:
    """Refuse arguments of different element types."""
    if len({t.dtype for t in types}) > 1:
        raise IRError(f"arguments are {', '.join(t.dtype for t in types)}; expected one element type")


def axis_in(axis: int, rank: int) -> int:
    """A non-negative axis; negative ones count from the back."""
    if not -rank <= axis < rank:
        raise IRError(f"axis {axis} is outside a tensor of {rank} axes")
    return axis % rank


def check_axes(axes: Sequence[int], rank: int) -> None:
    """Canonical axes are non-negative, in range and different."""
    if len(set(axes)) != len(axes) or any(not 0 <= a < rank for a in axes):
        raise IRError(f"axes {list(axes)} do not name different axes of a tensor of {rank}")


def fill(values: Ints, count: int, default: int, what: str) -> Ints:
    """An attribute with one entry per spatial axis; () stands for all `default`."""
    if not values:
        return (default,) * count
    if len(values) != count:
        raise IRError(f"{what} has {len(values)} entries; expected {count}")
    return values


def widened(x: Tensor) -> Tensor:
    """f16, bf16 and narrow floats as f32, which is where their arithmetic is done; i4 and its like as 8 bits."""
    if x.dtype == np.float16:
        return x.astype(np.float32)
    if x.dtype.isbuiltin != 2:  # numpy's own
        return x
    name = dtype_of(x)
    return x.astype(np.float32 if not DTYPES[name].is_whole else np.int8 if name[0] == "i" else np.uint8)


def dtype_of(x: Tensor) -> str:
    """Our name of an array's element type."""
    for name, row in DTYPES.items():
        if row.numpy == x.dtype:
            return name
    raise IRError(f"element type {x.dtype} is not supported")


def limits(name: str) -> tuple[float, float]:
    """Least and greatest value of an element type (infinities for floats)."""
    if name == "bool":
        return 0, 1
    return integer_limits(dtype(name)) if dtype(name).is_whole else (-np.inf, np.inf)


def reach(name: str) -> tuple[float, float]:
    """Least and greatest f64 that fit an integer type."""
    low, high = limits(name)
    return float(low), float(high) if float(high) <= high else float(np.nextafter(float(high), 0))
