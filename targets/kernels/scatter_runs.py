"""tensor_scatter: a cache that takes runs of new elements. Where the cache dies, the runs alone are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.scatter import lines
from edgec.compiler.target import Cpu

from .cost import streamed
from .plain import Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tir import Expr, Stmt

    Run = Callable[[Expr, Expr, Expr], Stmt]  # place in the cache, place in the update, length


def _cycles(node: Node, cpu: Cpu) -> float:
    moved = 2.0 * sum(a.type.size * dtype(a.type.dtype).bytes for a in node.args[:2])
    return streamed(cpu, moved).cycles(cpu)


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    """A task: what lies before the axis of the runs is one block."""
    from .. import tir
    from .plain_lines import copied

    attrs: Any = full_attrs(t.node)
    shape, cpu = t.node.types[0].shape, t.problem.target.cpu
    axis = attrs["axis"] % len(shape)
    blocks, size, rest = lines(shape, axis)
    count = t.node.args[1].shape[axis]
    out, cache, update = t.out(), t.line(0), t.line(1)

    def task(block: Expr) -> Stmt:
        sample = tir.split(block, shape[0], blocks // shape[0])[0]
        first, name = tir.let(t.line(2).load(sample), "write")
        base = block * (size * rest)

        def run(to: Expr, source: Expr, length: Expr) -> Stmt:
            return copied(cpu, out, base + to * rest, update, (block * count + source) * rest, length * rest)

        begin = t.unless_over(0, copied(cpu, out, base, cache, base, size * rest))
        return tir.seq(begin, name, (_circular if attrs["mode"] == "circular" else _linear)(first, size, count, run))

    return blocks, task


def _linear(first: Expr, size: int, count: int, run: Run) -> Stmt:
    """What lies before the cache or after it is left out."""
    from tvm import tirx

    from .. import tir

    wide = str(first.ty.dtype)
    inside = tirx.max(tirx.min(first, tir.lit(size, wide)), tir.lit(-count, wide))
    near, name_near = tir.let(tirx.Cast("int32", inside), "near")
    skipped, name_skipped = tir.let(tirx.max(0 - near, 0), "skipped")
    length = tirx.max(tirx.min(near + count, size) - (near + skipped), 0)
    return tir.seq(name_near, name_skipped, run(near + skipped, skipped, length))


def _circular(first: Expr, size: int, count: int, run: Run) -> Stmt:
    """What does not fit before the end goes on at the begin."""
    from tvm import tirx

    from .. import tir

    wide = str(first.ty.dtype)
    start, name = tir.let(tirx.Cast("int32", tirx.floormod(first, tir.lit(size, wide))), "start")
    length, bind = tir.let(tirx.min(size - start, count), "length")
    return tir.seq(name, bind, run(start, tir.i32(0), length), run(tir.i32(0), length, count - length))


plain("tensor_scatter", ["TensorScatter"], _code, _cycles, "runs of elements into a cache", flat=True)
