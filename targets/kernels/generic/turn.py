"""Square tiles of a map kernel whose argument is contiguous along one loop and whose result along another.

A tile is read in vectors along the argument's loop, transposed in registers, and written in vectors along the
result's: the result's tile, or where other arguments lie as the result does those of the arguments that do not. The
last tile of a loop overlaps the one before.

Rows of a result that lie a multiple of `CACHE_WAY` bytes apart share a set of the cache, which holds fewer lines than
a tile has: lines would be gone before the next tile completes them. There tiles are collected until there are some
lines of each row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from ... import tir
from ...built_for import has_cache, has_limits
from ...tir import Expr, Stmt
from .nest import Region, start, stretches
from .space import Group, Space

CACHE_WAY, WAYS = 4096, 8  # bytes; lines of a set
LEAST = 4  # turns of a loop, and elements of a tile's side
SHORTEST, PARTED = 8, 4.0  # bytes of NEON's shorter registers, and what vectors of fewer cost: they are widened first
REGISTER = 16  # bytes that SSE interleaves
MOST_APART = 2  # arguments whose tiles are turned each by itself
WIDE = 2  # tiles side by side along the argument's loop: a whole line of the cache
LINES = 8  # of the cache that are collected of each row of the result, where rows share its sets
LINE = 64  # bytes


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
    lanes = t.lanes
    wide = min(WIDE, t.along.extent // lanes)
    if t.crossed and t.along.extent % (wide * lanes):
        wide = 1
    sources = _sources(t, element, kind)
    tall = _collected(t, kind)

    def build(first: Expr) -> Stmt:
        if tall:
            return _by_lines(t, sources, store, first, wide, tall)

        def step(at: Expr) -> Stmt:
            return tir.seq(_tile(t, sources, store, first + w * lanes, at) for w in range(wide))

        return _steps(t, lanes, step)

    return stretches(t.space, t.along, t.across, lanes * wide, threads, build)


@dataclass(frozen=True)
class Sources:
    """What is turned, with TVM's types: the result's element, or some loads; `result` makes it of what was turned."""

    reads: list[tuple[str, Callable[[], Expr]]]
    result: Callable[[list[Expr]], Expr]


def _sources(t: Turn, element: Callable[[], Expr], kind: str) -> Sources:
    if not t.crossed:
        return Sources([(kind, element)], lambda turned: turned[0])

    def load(k: int) -> tuple[str, Callable[[], Expr]]:
        return str(t.space.reading(element)[1][k].ty.dtype), lambda: t.space.reading(element)[1][k]

    return Sources(
        [load(k) for k in t.crossed],
        lambda turned: t.space.reading(element, dict(zip(t.crossed, turned, strict=True)))[0],
    )


def _collected(t: Turn, kind: str) -> int:
    """Tiles that are collected of some rows of the result; 0 where these do not share sets of the cache."""
    size = np.dtype(kind).itemsize
    tiles = LINES * LINE // (t.lanes * size)
    apart = t.along.strides[t.space.stores.index(True)] or 0
    shared = has_cache() and apart * size % CACHE_WAY == 0 and t.along.extent >= WAYS
    whole = t.across.extent % (tiles * t.lanes) == 0 or not t.crossed
    return tiles if shared and whole and t.across.extent >= tiles * t.lanes else 0


def _steps(t: Turn, size: int, step: Callable[[Expr], Stmt]) -> Stmt:
    """`step(at)` for stretches of `size` along the result's rows."""

    def one(k: Expr) -> Stmt:
        at, bind_at = tir.let(start(k, size, t.across.extent), "across")
        t.space.body.limit(at, t.across.extent - size + 1)
        return tir.seq(bind_at, step(at))

    return tir.loop(-(-t.across.extent // size), one, "tile")


def _tile(t: Turn, sources: Sources, store: Callable[[Expr], Stmt], first: Expr, at: Expr) -> Stmt:
    """A tile of each source, turned; then the elements, in vectors as the result lies."""
    space, lanes = t.space, t.lanes
    parts: list[Stmt] = []
    tiles = []
    for kind, read in sources.reads:
        tile, alloc = tir.local((lanes * lanes,), kind, "tile")
        tiles.append(tile)
        binds, columns = _columns(t, kind, read, first, at)
        parts += [alloc, binds, [tir.store(tile, c, tir.ramp(k * lanes, lanes)) for k, c in enumerate(columns)]]
    for column in range(lanes):
        space.set(t.along, first + column)
        parts.append(_row(t, at, lanes, sources, store, [(tile, column * lanes) for tile in tiles]))
    return tir.seq(*parts)


def _by_lines(t: Turn, sources: Sources, store: Callable[[Expr], Stmt], first: Expr, wide: int, tall: int) -> Stmt:
    """All of `wide` rows of tiles: `tall` side by side are turned and kept, then their rows are written one by one."""
    space, lanes, size = t.space, t.lanes, t.lanes * tall
    kept = [tir.local((wide * lanes * size,), kind, "rows") for kind, _ in sources.reads]

    def step(at: Expr) -> Stmt:
        def tile(h: Expr) -> Stmt:
            space.body.limit(h, tall)
            parts: list[Stmt] = []
            for w in range(wide):
                for (kind, read), (rows, _) in zip(sources.reads, kept, strict=True):
                    binds, columns = _columns(t, kind, read, first + w * lanes, at + h * lanes)
                    place = w * lanes * size + h * lanes
                    parts += [
                        binds,
                        [tir.store(rows, c, tir.ramp(place + k * size, lanes)) for k, c in enumerate(columns)],
                    ]
            return tir.seq(*parts)

        def row(k: Expr) -> Stmt:
            space.body.limit(k, wide * lanes)
            space.set(t.along, first + k)
            return _row(t, at, size, sources, store, [(rows, k * size) for rows, _ in kept])

        return tir.seq(tir.loop(tall, tile, "column"), tir.loop(wide * lanes, row, "row"))

    return tir.seq([alloc for _, alloc in kept], _steps(t, size, step))


def _row(
    t: Turn, at: Expr, size: int, sources: Sources, store: Callable[[Expr], Stmt], turned: list[tuple[Any, Expr | int]]
) -> Stmt:
    """Elements of a row of the result, from what was turned: (buffer, place) of each source."""

    def out(v: Expr) -> Stmt:
        t.space.body.limit(v, size)
        t.space.set(t.across, at + v)
        return store(sources.result([tir.load(buffer, place + v) for buffer, place in turned]))

    return tir.vectorized(size, out)


def _columns(t: Turn, kind: str, read: Callable[[], Expr], first: Expr, at: Expr) -> tuple[list[Stmt], list[Expr]]:
    """(statements, the columns of the tile that they read and turn)."""
    space, lanes = t.space, t.lanes
    stage, alloc = tir.local((lanes * lanes,), kind, "tile")
    parts: list[Stmt] = [alloc]
    for row in range(lanes):
        space.set(t.across, at + row)

        def lane(v: Expr, row: int = row) -> Stmt:
            space.body.limit(v, lanes)
            space.set(t.along, first + v)
            return tir.store(stage, read(), row * lanes + v)

        parts.append(tir.vectorized(lanes, lane))
    rows = [tir.load(stage, tir.ramp(row * lanes, lanes)) for row in range(lanes)]
    binds, columns = transposed(rows, lanes, not has_limits() and np.dtype(kind).itemsize * lanes <= REGISTER)
    return [*parts, *binds], columns


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
