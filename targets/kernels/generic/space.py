"""Loops of a generic kernel: which of them merge, which becomes the vector, how they split into tasks.

A kernel is first traced: its body is built once with one variable per loop, and every address that it forms is
looked at as a function of those variables. Neighbouring loops whose addresses advance as one loop would are merged;
the vector is the loop along which the most addresses are contiguous or constant. Then the body is built for real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import lcm, prod
from typing import Any

from tvm import sym, tirx

from edgec.compiler.ir import Type
from edgec.compiler.layout import layout, physical_shape

from ... import tir
from ...access import Place
from ...body import Body
from ...built_for import has_helium, innermost
from ...conversions import fetched, put
from ...tir import Expr, Index, Stmt

MOST_VECTORS = 8  # in one turn of a loop
TASK_WORK = 16384  # elements computed by one task, about


@dataclass(eq=False)
class Loop:
    """One dimension of the iteration space: positions `start` .. `start + extent` - 1. `fold`: it is reduced over.
    `given`: others loop over it, and set `value`."""

    extent: int
    fold: bool = False
    start: int = 0
    var: Expr = None
    value: Expr = None  # the position, less `start`, while the body is built
    given: bool = False
    merged: bool = False  # `var` stands in indices, until `Space.address` puts the group's position in its place

    def __post_init__(self) -> None:
        self.var = tirx.Var("p", "int32")
        self.value = self.var if self.extent > 1 else tir.i32(0)

    @property
    def at(self) -> Expr:
        return (self.var if self.merged else self.value) + self.start


@dataclass(frozen=True)
class Pair:
    """A dimension that two loops go over: stretches of it, and the positions of each."""

    outer: Loop
    inner: Loop

    @property
    def at(self) -> Expr:
        return self.outer.at * self.inner.extent + self.inner.at


@dataclass(eq=False)
class Group:
    """Loops that run as one. `strides`: elements between turns, per traced address; None where it is not constant."""

    loops: list[Loop]
    strides: list[int | None]

    @property
    def extent(self) -> int:
        return prod(x.extent for x in self.loops)

    @property
    def fold(self) -> bool:
        return self.loops[0].fold


@dataclass(frozen=True)
class Flat(Place):
    """A value in memory, addressed through a space."""

    space: Any = None

    def load(self, index: Index) -> Expr:
        if (lanes := innermost()) and not has_helium():  # which has loads of lanes apart
            lanes.sources.append(self.buffer)
        return self.space.read(fetched(tir.load(self.buffer, self.space.address(self.type, index)), self.type.dtype))

    def store(self, value: Expr, index: Index) -> Stmt:
        return tir.store(self.buffer, put(value, self.type.dtype), self.space.address(self.type, index, store=True))


@dataclass(eq=False)
class Space:
    """`dims`: what goes over each dimension of the output, where that is not one loop."""

    body: Body
    loops: list[Loop]
    dims: Sequence[Loop | Pair] = ()
    groups: list[Group] = field(default_factory=list)
    stores: list[bool] = field(default_factory=list)
    traced: list[Expr] = field(default_factory=list)  # the addresses of `trace`
    loads: list[Expr] | None = None  # what was read since `reading` began
    instead: dict[int, Expr] = field(default_factory=dict)  # by the number of a load: what stands in its place
    _addresses: list[Expr] | None = None

    def __post_init__(self) -> None:
        self.dims = self.dims or self.loops
        for loop in self.loops:
            self.body.limit(loop.var, loop.extent)

    def address(self, t: Type, index: Index, store: bool = False) -> Expr:
        """Offset of an element in physical memory, clamped into it where the ranges leave that open."""
        lay = layout(t.layout, len(t.shape))
        fixed: list[Any] = []
        for axis, (n, x) in enumerate(zip(t.shape, index, strict=True)):
            room = -(-n // lay.block(axis)) * lay.block(axis)
            fixed.append(x if store else tir.i32(0) if n == 1 else self._inside(x, n, room))
        flat: Any = tir.i32(0)
        for x, n in zip(Place(t, None).physical(tuple(map(_expr, fixed))), physical_shape(t) or (1,), strict=True):
            flat = flat * n + x
        flat = self.body.analyzer.simplify(flat)
        if self._addresses is not None:
            self._addresses.append(flat)
            self.stores.append(store)
        for group in self.groups:
            if len(group.loops) > 1:
                flat = self._merged(flat, group)
        return flat

    def _inside(self, x: Any, n: int, room: int) -> Any:
        if isinstance(x, int):
            return min(max(x, 0), n - 1)
        bound = self.body.analyzer.const_int_bound(x)
        return x if bound.min_value >= 0 and bound.max_value < room else self.body.within(x, 0, n - 1)

    def _merged(self, flat: Expr, group: Group) -> Expr:
        for loop in reversed(group.loops):
            step, flat = sym.detect_linear_equation(flat, [loop.var])
            if loop is group.loops[-1]:
                last = step
        return self.body.analyzer.simplify(flat + last * group.loops[-1].value)

    def reading(self, build: Callable[[], Expr], instead: dict[int, Expr] | None = None) -> tuple[Expr, list[Expr]]:
        """An expression, some of whose loads, counted as they were traced, are replaced; and all its loads."""
        self.loads, self.instead = [], instead or {}
        made, loads = build(), self.loads
        self.loads, self.instead = None, {}
        return made, loads

    def read(self, value: Expr) -> Expr:
        """What was loaded, or what stands in its place."""
        if self.loads is None:
            return value
        self.loads.append(value)
        return self.instead.get(len(self.loads) - 1, value)

    def trace(self, build: Callable[[], object], merge: bool = True) -> None:
        """Run `build` once and find the groups of loops."""
        self.groups, self.stores, self._addresses = [], [], []
        self.body.pinned.clear()
        build()
        addresses, self._addresses = self._addresses, None
        self.traced = addresses
        pinned = {v for e in self.body.pinned for v in map(_key, tirx.analysis.undefined_vars(e))}
        for loop in self.loops:
            if loop.extent == 1 or loop.given:
                continue
            strides = [self._stride(a, loop) for a in addresses]
            last = self.groups[-1] if self.groups else None
            free = merge and _key(loop.var) not in pinned
            if free and last and _key(last.loops[-1].var) not in pinned and _continues(last, loop, strides):
                last.loops.append(loop)
                last.strides = strides
                for x in last.loops:
                    x.merged = True
            else:
                self.groups.append(Group([loop], strides))

    def _stride(self, address: Expr, loop: Loop) -> int | None:
        if all(_key(v) != _key(loop.var) for v in tirx.analysis.undefined_vars(address)):
            return 0
        linear = sym.detect_linear_equation(address, [loop.var])
        step = self.body.analyzer.simplify(linear[0]) if len(linear) else None
        return int(step) if isinstance(step, tirx.IntImm) else None

    def set(self, group: Group, value: Expr) -> None:
        """From now on the body is built with `value` as the position in a group."""
        group.loops[-1].value = value

    def place(self, groups: Sequence[Group], digits: Sequence[Expr]) -> list[Stmt]:
        """Positions in several groups; the statements that name them."""
        binds = []
        for group, digit in zip(groups, digits, strict=True):
            var, bind = tir.let(digit, "d")
            self.body.limit(var, group.extent)
            self.set(group, var)
            binds.append(bind)
        return binds

    def period(self, group: Group, lanes: int) -> int:
        """Vectors after which addresses along a loop repeat, but for a constant: lanes then lie at known places."""
        if len(group.loops) > 1:
            return 1
        (loop,) = group.loops
        divisors = {d for k, a in enumerate(self.traced) if group.strides[k] is None for d in _divisors(a, loop.var)}
        count = lcm(lanes, *divisors) // lanes
        return count if count <= MOST_VECTORS else 1

    def vector_group(self, lanes: int) -> Group:
        """The group along which vectors cost least per element."""

        def cost(group: Group) -> float:
            width = min(lanes, group.extent)
            rounds = -(-group.extent // lanes)
            wasted = rounds * lanes / group.extent if group.extent > lanes else 1.0
            once = width / group.extent if group.fold else 1.0  # of a fold: its vector becomes one number at the end

            def each(stride: int | None, store: bool) -> float:
                if store and stride == 0:
                    return (1.0 + width) * once
                return 1.0 if stride in (0, 1) else 1.0 + width

            accesses = zip(group.strides, self.stores, strict=True)
            return (sum(each(s, store) for s, store in accesses) + 1) / width * wasted

        return min(reversed(self.groups), key=cost)


def _divisors(e: Expr, var: Expr) -> set[int]:
    """What is divided by in an index, or taken modulo, where that depends on a variable."""
    if not hasattr(e, "a") or not hasattr(e, "b"):
        return set()
    found = _divisors(e.a, var) | _divisors(e.b, var)
    if isinstance(e, (tirx.FloorDiv, tirx.FloorMod)) and isinstance(e.b, tirx.IntImm):
        found |= {int(e.b)} if any(_key(v) == _key(var) for v in tirx.analysis.undefined_vars(e.a)) else set()
    return found


def _key(var: Any) -> int:
    return int(var.__hash__())


def _expr(x: Any) -> Any:
    return tir.i32(x) if isinstance(x, int) else x


def _continues(group: Group, loop: Loop, strides: Sequence[int | None]) -> bool:
    if group.fold != loop.fold:
        return False
    pairs = zip(group.strides, strides, strict=True)
    return all(a is not None and b is not None and a == b * loop.extent for a, b in pairs)
