"""Square tiles of a map kernel whose argument is contiguous along one loop and whose result along another.

A tile is read in vectors along the argument's loop, transposed in registers, and written in vectors along the
result's: the result's tile, or where other arguments lie as the result does those of the arguments that do not. The
last tile of a loop overlaps the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from ... import tir
from ...built_for import has_limits
from ...tir import Expr, Stmt
from .nest import Region, start, stretches
from .space import Group, Space

LEAST = 4  # turns of a loop, and elements of a tile's side
SHORTEST, PARTED = 8, 4.0  # bytes of NEON's shorter registers, and what vectors of fewer cost: they are widened first
REGISTER = 16  # bytes that SSE interleaves
MOST_APART = 2  # arguments whose tiles are turned each by itself
WIDE = 2  # tiles side by side along the argument's loop: a whole line of the cache


@dataclass(frozen=True)
class Turn:
    """`along`: the loop along which arguments are contiguous; `across`: that of the result. `crossed`: the numbers of
    the loads that are turned each by itself; none: the result is."""

    space: Space
    along: Group
    across: Group
    lanes: int
    crossed: tuple[int, ...] = ()


def turn(space: Space, lanes: int, size: int = 4) -> Turn | None:
    """How to tile a traced space, if its arguments and its result lie across each other and vectors fit both loops;
    `size`: bytes of an element."""
    if lanes < LEAST or lanes & (lanes - 1) or sum(space.stores) != 1:
        return None
    store = space.stores.index(True)
    loads = [k for k in range(len(space.stores)) if k != store]
    across = next((g for g in space.groups if g.strides[store] == 1), None)
    if across is None or across.extent < LEAST or across.fold:
        return None

    crossed = [k for k in loads if across.strides[k] not in (0, 1)]

    def fits(g: Group, turned: list[int]) -> bool:
        whole = g.extent >= LEAST and g is not across and not g.fold and g.strides[store] is not None
        known = whole and all(g.strides[k] is not None for k in loads)
        return known and all(g.strides[k] in (0, 1) for k in turned) and any(g.strides[k] == 1 for k in crossed)

    found = [g for g in space.groups if fits(g, loads)]
    apart = () if found else tuple(loads.index(k) for k in crossed)
    found = found or [g for g in space.groups if fits(g, crossed)]
    if not crossed or not found or len(apart) > MOST_APART:
        return None
    along = max(found, key=lambda g: min(g.extent, lanes))
    sides = [lanes >> k for k in range(lanes.bit_length()) if LEAST <= lanes >> k <= min(along.extent, across.extent)]
    if apart:  # an argument may lie where the result does: no element is computed twice
        sides = [side for side in sides if not along.extent % side and not across.extent % side]
    if not sides:
        return None
    more = {side: 1.0 if side * size >= SHORTEST or not has_limits() else PARTED for side in sides}
    side = min(sides, key=lambda side: _work(along, side, more[side]) * _work(across, side, more[side]))
    return Turn(space, along, across, side, apart)


def _work(group: Group, side: int, more: float) -> float:
    """Elements of tiles of a side that cover a loop; small ones cost `more` of each."""
    return -(-group.extent // side) * (side + more)


def turned(
    t: Turn, element: Callable[[], Expr], store: Callable[[Expr], Stmt], threads: int, kind: str = "float32"
) -> Region:
    """`element()` is the result's element, of TVM's type `kind`, at the space's position; `store(x)` writes x there."""
    space, lanes = t.space, t.lanes
    wide = min(WIDE, t.along.extent // lanes)
    if t.crossed and t.along.extent % (wide * lanes):
        wide = 1
    steps = -(-t.across.extent // lanes)

    def build(first: Expr) -> Stmt:
        def step(k: Expr) -> Stmt:
            at, bind_at = tir.let(start(k, lanes, t.across.extent), "across")
            space.body.limit(at, t.across.extent - lanes + 1)
            places = [first + w * lanes for w in range(wide)]
            if t.crossed:
                return tir.seq(bind_at, [_tile_of_arguments(t, place, at, element, store) for place in places])
            return tir.seq(bind_at, [_tile(t, place, at, element, store, kind) for place in places])

        return tir.loop(steps, step, "tile")

    return stretches(space, t.along, t.across, lanes * wide, threads, build)


def _tile(
    t: Turn, first: Expr, at: Expr, element: Callable[[], Expr], store: Callable[[Expr], Stmt], kind: str
) -> Stmt:
    space, lanes = t.space, t.lanes
    stage, alloc = tir.local((lanes * lanes,), kind, "tile")
    parts: list[Stmt] = [alloc]
    for row in range(lanes):
        space.set(t.across, at + row)

        def lane(v: Expr, row: int = row) -> Stmt:
            space.body.limit(v, lanes)
            space.set(t.along, first + v)
            return tir.store(stage, element(), row * lanes + v)

        parts.append(tir.vectorized(lanes, lane))
    rows = [tir.load(stage, tir.ramp(row * lanes, lanes)) for row in range(lanes)]
    zipped = not has_limits() and np.dtype(kind).itemsize * lanes <= REGISTER
    binds, columns = transposed(rows, lanes, zipped)
    parts += binds
    result, alloc = tir.local((lanes * lanes,), kind, "tile")
    parts.append(alloc)
    parts += [tir.store(result, column, tir.ramp(k * lanes, lanes)) for k, column in enumerate(columns)]
    for column in range(lanes):
        space.set(t.along, first + column)

        def out(v: Expr, column: int = column) -> Stmt:
            space.body.limit(v, lanes)
            space.set(t.across, at + v)
            return store(tir.load(result, column * lanes + v))

        parts.append(tir.vectorized(lanes, out))
    return tir.seq(parts)


def _tile_of_arguments(
    t: Turn, first: Expr, at: Expr, element: Callable[[], Expr], store: Callable[[Expr], Stmt]
) -> Stmt:
    """A tile of each argument that lies across, turned; then the elements, in vectors as the result lies."""
    space, lanes = t.space, t.lanes
    parts: list[Stmt] = []
    tiles: dict[int, Any] = {}
    for k in t.crossed:
        kind = str(space.reading(element)[1][k].ty.dtype)
        stage, alloc = tir.local((lanes * lanes,), kind, "tile")
        tiles[k], alloc_turned = tir.local((lanes * lanes,), kind, "tile")
        parts += [alloc, alloc_turned]
        for row in range(lanes):
            space.set(t.across, at + row)

            def lane(v: Expr, row: int = row, k: int = k, stage: Any = stage) -> Stmt:
                space.body.limit(v, lanes)
                space.set(t.along, first + v)
                return tir.store(stage, space.reading(element)[1][k], row * lanes + v)

            parts.append(tir.vectorized(lanes, lane))
        rows = [tir.load(stage, tir.ramp(row * lanes, lanes)) for row in range(lanes)]
        binds, columns = transposed(rows, lanes, not has_limits() and np.dtype(kind).itemsize * lanes <= REGISTER)
        parts += binds
        parts += [tir.store(tiles[k], column, tir.ramp(n * lanes, lanes)) for n, column in enumerate(columns)]
    for column in range(lanes):
        space.set(t.along, first + column)

        def out(v: Expr, column: int = column) -> Stmt:
            space.body.limit(v, lanes)
            space.set(t.across, at + v)
            held = {k: tir.load(tile, column * lanes + v) for k, tile in tiles.items()}
            return store(space.reading(element, held)[0])

        parts.append(tir.vectorized(lanes, out))
    return tir.seq(parts)


def transposed(rows: list[Expr], lanes: int, zipped: bool = False) -> tuple[list[Stmt], list[Expr]]:
    """The columns of a square of vectors: by exchanging halves, quarters ... of pairs (Eklundh, 1972), or `zipped` by
    interleaving rows of both halves as often, for which SSE has an instruction and NEON two."""
    binds: list[Stmt] = []

    def name(value: Expr) -> Expr:
        var, bind = tir.let(value, "r")
        binds.append(bind)
        return var

    def mixed(a: Expr, b: Expr, order: list[int]) -> Expr:
        return name(tirx.Shuffle([a, b], [tir.i32(j) for j in order]))

    named = [name(row) for row in rows]
    half, step = lanes // 2, 1
    while step < lanes:
        if zipped:
            orders = [[start + j // 2 + j % 2 * lanes for j in range(lanes)] for start in (0, half)]
            named = [mixed(named[k], named[k + half], order) for k in range(half) for order in orders]
        else:
            low = [j if not j & step else lanes + (j ^ step) for j in range(lanes)]
            high = [j ^ step if not j & step else lanes + j for j in range(lanes)]
            for k in range(lanes):
                if not k & step:
                    a, b = named[k], named[k + step]
                    named[k], named[k + step] = mixed(a, b, low), mixed(a, b, high)
        step *= 2
    return binds, named
