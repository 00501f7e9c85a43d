"""Converters of operators that order elements: TopK."""

from __future__ import annotations

from ..errors import EdgecError
from .context import Context
from .table import Result, converts


@converts("TopK")
def top_k(c: Context) -> Result:
    """Along the last axis, other axes moved there. Results are always in order, also where they need not be."""
    given = c.ints(1, "k")
    if not c.rank:
        raise EdgecError(f"{c.where}: a scalar has no axis to select along")
    if given is None or len(given) != 1:
        raise EdgecError(f"{c.where}: k is {list(given or ())}; expected one number")
    axis = c.axis(-1)
    if not 0 <= given[0] <= c.shape[axis]:
        raise EdgecError(f"{c.where}: k is {given[0]}; axis {axis} of {c.arg().type} has {c.shape[axis]} elements")
    perm = tuple(k for k in range(c.rank) if k != axis) + (axis,)
    back = tuple(perm.index(k) for k in range(c.rank))
    found = c.emit_all("TopK", c.transpose(c.arg(), perm), k=given[0], largest=int(c.attr("largest", 1)))
    return tuple(c.transpose(y, back) for y in found)
