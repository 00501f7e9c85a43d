"""The end of an attention: what several warps found for the same queries put together, divided, written to memory."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from tvm import tirx

from .... import tir
from ....cuda.block import barrier, call, pointer, pure, result
from ....tir import Buffer, Expr, Stmt
from .stage import F32, Operand, all_of

if TYPE_CHECKING:
    from .flash import Flash


def ended(f: Flash) -> Stmt:
    """What the warps found for their keys, put together; results to memory."""
    t = f.tiles
    parts: list[Stmt] = []
    rows = f.queries()
    for r in range(len(rows)):
        for kind, fold in ((f.sums, "+"), *(((f.opened, "max"),) if f.open else ())):
            for partner in f.partners:
                other = result(F32, "ec_shfl_xor_f32", tir.load(kind, r), partner)
                mine = tir.load(kind, r)
                parts.append(tir.store(kind, mine + other if fold == "+" else pure(F32, "fmaxf", mine, other), r))
    kinds = [f.top, f.sums, *([f.opened] if f.open else [])]
    if t.wk > 1:
        size = t.wk * t.queries
        own = [
            tir.store(f.memory, tir.load(b, r), f.stats_at + i * size + f.wk * t.queries + row)
            for r, row in enumerate(rows)
            for i, b in enumerate(kinds)
        ]
        parts.append(tir.when(tirx.EQ(f.lane & max(f.partners_mask, 0), 0), tir.seq(own)))
    parts.append(barrier())
    for r, row in enumerate(rows):
        parts.append(_scaled(f, r, row))
    parts += [f.sums_out(), barrier(), _stored(f)]
    return tir.seq(parts)


def _scaled(f: Flash, r: int, row: Expr) -> Stmt:
    """A row's products times its share of all weights."""
    t = f.tiles
    zero, lowest = tir.lit(0, F32), tir.lit(-inf, F32)
    total, made = tir.local((1,), F32, "total")
    parts: list[Stmt] = [made]
    factor: Expr = tir.lit(1, F32)
    if t.wk == 1:
        parts.append(tir.store(total, tir.load(f.sums, r), 0))
        seen = tir.load(f.opened, r) if f.open else None
    else:
        size = t.wk * t.queries
        at = [f.stats_at + w * t.queries + row for w in range(t.wk)]
        top, top_made = tir.local((1,), F32, "most")
        parts += [top_made, tir.store(top, tir.load(f.memory, at[0]), 0)]
        for a in at[1:]:
            parts.append(tir.store(top, pure(F32, "fmaxf", tir.load(top, 0), tir.load(f.memory, a)), 0))
        base, bound = tir.let(tirx.Select(tirx.EQ(tir.load(top, 0), lowest), zero, tir.load(top, 0)), "base")
        parts += [bound, tir.store(total, zero, 0)]
        for a in at:
            share = f.powers(tir.load(f.memory, a) - base)
            parts.append(tir.store(total, tir.load(total, 0) + tir.load(f.memory, a + size) * share, 0))
        factor, bound = tir.let(f.powers(tir.load(f.top, r) - base), "factor")
        parts.append(bound)
        seen = None
        if f.open:
            flags = [tir.load(f.memory, a + 2 * size) for a in at]
            seen = flags[0]
            for flag in flags[1:]:
                seen = pure(F32, "fmaxf", seen, flag)
    share, bound = tir.let(factor / tir.load(total, 0), "share")
    parts.append(bound)
    if seen is None:
        return tir.seq(parts, f.shrunk(r, share))
    return tir.seq(parts, tir.when(seen > zero, f.shrunk(r, share), f.cleared(r)))


def _stored(f: Flash) -> Stmt:
    """Sums of the warps, some columns of a query at a time, to memory."""
    t, out = f.tiles, f.of["out"]
    at_once = 8 if t.half else 4
    each = t.e // at_once
    total = t.queries * each
    turns = -(-total // t.threads)

    def unit(number: Expr) -> Stmt:
        row, piece = tirx.floordiv(number, each), tirx.floormod(number, each)
        sums, made = tir.local((at_once,), F32, "sum")
        more, more_made = tir.local((4,), F32, "more")
        parts: list[Stmt] = [made, more_made]
        for w in range(t.wk):
            for j in range(0, at_once, 4):
                at = (w * t.queries + row) * t.total_pitch + piece * at_once + j
                target = (sums, j) if w == 0 else (more, 0)
                parts.append(call("ec_load16", pointer(target[0], target[1]), pointer(f.memory, at)))
                if w:
                    parts += [tir.store(sums, tir.load(sums, j + i) + tir.load(more, i), j + i) for i in range(4)]
        query, column = f.first + row, f.column + piece * at_once
        write = _write(f, out, query, column, sums, at_once)
        condition = [] if f.shape.s % t.queries == 0 else [query < f.shape.s]
        if f.shape.e % t.e:
            condition.append(column < f.shape.e)
        return tir.seq(parts, tir.when(all_of(condition), write) if condition else write)

    def turn(k: Expr) -> Stmt:
        number = k * t.threads + f.thread
        return unit(number) if total % t.threads == 0 else tir.when(number < total, unit(number))

    return tir.loop(turns, turn, "out")


def _write(f: Flash, out: Operand, query: Expr, column: Expr, sums: Buffer, at_once: int) -> Stmt:
    if out.at_once == 1:
        kind = str(out.buffer.dtype)
        stores = []
        for j in range(at_once):
            x = tir.load(sums, j)
            store = tir.store(out.buffer, x if kind == F32 else tirx.Cast(kind, x), out.at(query, column + j))
            ragged = f.shape.e % at_once
            stores.append(tir.when(column + j < f.shape.e, store) if ragged else store)
        return tir.seq(stores)
    to = pointer(out.buffer, out.at(query, column))
    if not f.tiles.half:
        return call("ec_store16", to, pointer(sums, 0))
    words, made = tir.local((4,), "uint32", "packed")
    packs = [
        tir.store(words, pure("uint32", "ec_half2_pack", tir.load(sums, 2 * j), tir.load(sums, 2 * j + 1)), j)
        for j in range(4)
    ]
    return tir.seq(made, packs, call("ec_store16", to, pointer(words, 0)))
