"""Scores of a single query: products with keys along their numbers, where lanes of queries would all but one be empty.

A tile is as many keys as a vector has lanes. Their sums become one vector.
"""

from __future__ import annotations

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common_emit import F32, put, vector
from ..lane_sums import lane_sums


def dot_scores(
    q: tuple[Buffer, Expr], k: tuple[Buffer, list[Expr]], numbers: int, scale: float, lanes: int
) -> tuple[Stmt, Buffer]:
    """Statements, and what then holds the vector of scores of all keys: `q` and `k` are buffers with the places of
    the query's and the keys' first of `numbers`, at least a vector of them."""
    keys = k[1]
    acc, alloc = tir.local((len(keys) * lanes,), F32, "dots")
    whole, rest = divmod(numbers, lanes)
    zero = tir.broadcast(tir.lit(0.0, F32), lanes)

    def step(at: Expr, done: int = 0) -> Stmt:
        """The products of one vector of numbers, but for the lanes that are `done`."""
        query = vector(q[0], lanes, q[1] + at)
        if done:
            counts = tir.ramp(0, lanes) >= tir.broadcast(tir.i32(done), lanes)
            query = tirx.Select(counts, query, zero)
        x, bind = tir.let(query, "query")
        sums = [
            put(acc, vector(acc, lanes, i * lanes) + x * vector(k[0], lanes, key + at), lanes, i * lanes)
            for i, key in enumerate(keys)
        ]
        return tir.seq(bind, sums)

    parts: list[Stmt] = [alloc, *(put(acc, zero, lanes, i * lanes) for i in range(len(keys)))]
    parts.append(tir.loop(whole, lambda n: step(n * lanes), "d"))
    if rest:  # the last vector begins in the one before it
        parts.append(step(tir.i32(numbers - lanes), lanes - rest))
    (total,), binds = lane_sums([vector(acc, lanes, i * lanes) for i in range(len(keys))], lanes)
    held, alloc_held = tir.local((lanes,), F32, "held")
    scaled = total * tir.broadcast(tir.lit(scale, F32), lanes)
    return tir.seq(parts, binds, alloc_held, put(held, scaled, lanes, 0)), held
