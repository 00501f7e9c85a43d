"""ngrams: counts of known n-grams. Runs of tokens are looked up in sorted tables, without branches; a task is a row."""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, Any

from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.ngrams import tables
from edgec.compiler.target import Cpu

from .plain import Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tir import Expr, Stmt


def _cycles(node: Node, cpu: Cpu) -> float:
    attrs: Any = full_attrs(node)
    shape = node.args[0].shape
    rows, tokens = (shape[0] if len(shape) == 2 else 1), shape[-1]
    each: float = sum(
        (1 if length == 1 else attrs["skips"] + 1) * tokens * (10.0 + 6.0 * ceil(log2(count + 1)))
        for length, count, *_ in tables(attrs["grams"])
    )
    return rows * (each + node.types[0].shape[-1] / max(1, cpu.lanes(32)))


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .. import tir
    from .plain_lines import filled

    attrs: Any = full_attrs(t.node)
    shape, size = t.node.args[0].shape, attrs["size"]

    def task(row: Expr) -> Stmt:
        begin = filled(t.problem.target.cpu, t.out(), row * size, tir.lit(0, "float32"), size)
        counts = [
            _counted(t, row * shape[-1], row * size, table, apart)
            for table in tables(attrs["grams"])
            for apart in range(1, 2 if table[0] == 1 else attrs["skips"] + 2)
        ]
        return tir.seq(begin, counts)

    return (shape[0] if len(shape) == 2 else 1), task


def _counted(t: Tensors, base: Expr, to: Expr, table: tuple[int, int, int, int], apart: int) -> Stmt:
    """Every run of one length whose tokens stand `apart`."""
    from .. import tir

    length, _, _, first = table
    tokens, out = t.node.args[0].shape[-1], t.out()
    starts = tokens - apart * (length - 1)

    def one(start: Expr) -> Stmt:
        pairs = [tir.let(_i64(t.line(0).load(base + start + j * apart)), "token") for j in range(length)]
        gram = [token for token, _ in pairs]
        at, found, search = _searched(t, gram, table)
        place, name = tir.let(to + t.line(2).load(first + at), "place")
        count = tir.seq(name, out.store(out.load(place) + tir.lit(1, "float32"), place))
        return tir.seq([bind for _, bind in pairs], search, tir.when(found, count))

    return tir.loop(starts, one, "start") if starts > 0 else tir.seq()


def _i64(x: Expr) -> Expr:
    from tvm import tirx

    return tirx.Cast("int64", x)


def _searched(t: Tensors, gram: list[Expr], table: tuple[int, int, int, int]) -> tuple[Expr, Expr, Stmt]:
    """(number in the table, whether it is there, statements): halves of what is left, of known size."""
    from tvm import tirx

    from .. import tir

    length, count, first, _ = table
    pool, left = t.line(1), count
    at, alloc = tir.local((1,), "int32", "at")
    here = tir.load(at, 0)
    steps = [alloc, tir.store(at, tir.i32(0), 0)]

    def known(k: Expr, j: int) -> Expr:
        return pool.load(first + k * length + j)

    def below(k: Expr) -> Expr:
        """Whether n-gram `k` of the table comes before the one that is looked for."""
        less: Any = known(k, length - 1) < gram[-1]
        for j in reversed(range(length - 1)):
            less = tirx.Or(known(k, j) < gram[j], tirx.And(tirx.EQ(known(k, j), gram[j]), less))
        return less

    while left > 1:
        half = left // 2
        steps.append(tir.store(at, here + tirx.Select(below(here + (half - 1)), tir.i32(half), tir.i32(0)), 0))
        left -= half
    same: Any = tirx.EQ(known(here, 0), gram[0])
    for j in range(1, length):
        same = tirx.And(same, tirx.EQ(known(here, j), gram[j]))
    return here, same, tir.seq(steps)


plain("ngrams", ["TfIdfVectorizer"], _code, _cycles, "counts of known runs of tokens", flat=True)
