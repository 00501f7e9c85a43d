"""Maps between planes and pixels of a few channels: vectors of the planes are woven into one stretch of pixels, or a
stretch is parted into vectors of the planes. The last stretch of a loop overlaps the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from ... import tir
from ...tir import Expr, Stmt
from .nest import Region, stretches
from .space import Group, Space

MOST = 3  # channels; tiles of more are squares (turn.py)


@dataclass(frozen=True)
class Weave:
    """`along`: the loop over pixels; `across`: that over channels. `parts`: pixels come in, and planes go out."""

    space: Space
    along: Group
    across: Group
    lanes: int
    parts: bool


def weave(space: Space, lanes: int) -> Weave | None:
    """How to weave or part a traced space, if its arguments are planes and its result pixels or the other way round."""
    if lanes < 2 or sum(space.stores) != 1:
        return None
    store = space.stores.index(True)
    loads = [k for k in range(len(space.stores)) if k != store]
    for across in space.groups:
        few, pixels = across.extent, (across.extent, 1)  # strides of pixels and channels where pixels lie together
        if not 2 <= few <= MOST or across.fold:
            continue
        for along in space.groups:
            if along is across or along.fold or along.extent < lanes:
                continue
            strides = [(along.strides[k], across.strides[k]) for k in loads]
            result = along.strides[store], across.strides[store]
            planes = [s[0] in (0, 1) for s in strides]
            if result == pixels and all(planes) and any(s[0] == 1 and s[1] not in (0, 1) for s in strides):
                return Weave(space, along, across, lanes, False)
            if result[0] == 1 and result[1] not in (0, 1, None) and strides and all(s == pixels for s in strides):
                return Weave(space, along, across, lanes, True)
    return None


def woven(w: Weave, element: Callable[[], Expr], store: Callable[[Expr], Stmt], threads: int, kind: str) -> Region:
    """`element()` is the result's element, of TVM's type `kind`, at the space's position; `store(x)` writes x there."""
    space, lanes, few = w.space, w.lanes, w.across.extent

    def planes(first: Expr, fn: Callable[[Expr], Stmt]) -> list[Stmt]:
        """`fn(place)` of the elements of a vector of each channel."""
        parts = []
        for c in range(few):

            def lane(v: Expr, c: int = c) -> Stmt:
                space.body.limit(v, lanes)
                space.set(w.along, first + v)
                return fn(v + c * lanes)

            space.set(w.across, tir.i32(c))
            parts.append(tir.vectorized(lanes, lane))
        return parts

    def pixels(first: Expr, fn: Callable[[Expr], Stmt]) -> list[Stmt]:
        """`fn(place)` of the elements of as many pixels, one behind the other."""

        def lane(v: Expr) -> Stmt:
            space.body.limit(v, few * lanes)
            space.set(w.along, first + tirx.floordiv(v, few))
            space.set(w.across, tirx.floormod(v, few))
            return fn(v)

        return [tir.vectorized(few * lanes, lane)]

    def build(first: Expr) -> Stmt:
        stage, alloc = tir.local((few * lanes,), kind, "from")
        result, alloc_result = tir.local((few * lanes,), kind, "to")
        read, write = (pixels, planes) if w.parts else (planes, pixels)
        return tir.seq(
            alloc,
            alloc_result,
            read(first, lambda v: tir.store(stage, element(), v)),
            [tir.store(result, x, tir.ramp(k * lanes, lanes)) for k, x in enumerate(_mixed(w, stage))],
            write(first, lambda v: store(tir.load(result, v))),
        )

    return stretches(space, w.along, w.across, lanes, threads, build)


def _mixed(w: Weave, stage: tir.Buffer) -> list[Expr]:
    lanes, few = w.lanes, w.across.extent
    vectors = [tir.load(stage, tir.ramp(k * lanes, lanes)) for k in range(few)]

    def source(place: int) -> int:
        major, minor = divmod(place, lanes if w.parts else few)
        return minor * few + major if w.parts else minor * lanes + major

    return [tirx.Shuffle(vectors, [tir.i32(source(k * lanes + v)) for v in range(lanes)]) for k in range(few)]
