"""TensorIR of decision trees: the way down, and the votes of a leaf."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs

from .. import floats, tir
from ..scalar import SCALAR
from ..tir import Expr, Stmt
from .plain import Tensors


def walked(t: Tensors, row: Expr, first: Expr, width: int) -> Stmt:
    """Leaves of `width` trees, from number `first` on; a tree that is at its leaf waits for the others."""
    x, features, splits, children, roots = (t.line(k) for k in range(5))
    at, alloc = tir.local((width,), "int32", "at")
    missing = bool(full_attrs(t.node)["missing"])

    def down(v: Expr) -> Stmt:
        here = tir.load(at, v)
        node = tirx.max(here, 0)
        feature = features.load(node)
        value = x.load(row * t.node.args[0].shape[1] + (tirx.max(feature, -1 - feature) if missing else feature))
        first_way = value <= splits.load(node)
        if missing:
            first_way = tirx.Or(first_way, tirx.And(floats.is_nan(value), feature < 0))
        child = children.load(node * 2 + tirx.Select(first_way, tir.i32(0), tir.i32(1)))
        # named, so that it is read before the selection: inside, TVM would simplify away what keeps the node in range
        return tir.store(at, floats.bind(child, lambda child: tirx.Select(here < 0, here, child)), v)

    return tir.seq(
        alloc,
        tir.vectorized(width, lambda v: tir.store(at, roots.load(first + v), v)),
        tir.repeat(
            tir.across("smax", tir.load(at, tir.ramp(0, width))) >= 0,
            tir.vectorized(width, down),
        ),
        tir.vectorized(width, lambda v: tir.store(t.scratch[0], -1 - tir.load(at, v), first + v)),
    )


def counted(t: Tensors, row: Expr, tree: Expr) -> Stmt:
    """The votes of the leaf that a tree has ended at."""
    starts, targets, weights, out = t.line(5), t.line(6), t.line(7), t.out()
    attrs: Any = full_attrs(t.node)
    leaf, name = tir.let(tir.load(t.scratch[0], tree), "leaf")
    begin, name_begin = tir.let(starts.load(leaf), "begin")

    def vote(k: Expr) -> Stmt:
        place, bind = tir.let(begin + k, "vote")
        target, bind_target = tir.let(targets.load(place), "target")
        at, new = row * attrs["count"] + target, weights.load(place)
        if attrs["fold"] == "SUM":
            return tir.seq(bind, bind_target, out.store(out.load(at) + new, at))
        seen = t.scratch[1]
        fold = SCALAR["Min" if attrs["fold"] == "MIN" else "Max"]
        merged = tirx.Select(tir.load(seen, target) > 0, fold(out.load(at), new), new)
        return tir.seq(bind, bind_target, out.store(merged, at), tir.store(seen, tir.i32(1), target))

    return tir.seq(name, name_begin, tir.loop(starts.load(leaf + 1) - begin, vote, "vote"))
