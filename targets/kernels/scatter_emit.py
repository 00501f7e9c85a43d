"""TensorIR of scatters: a copy, then updates in order, each checked against the rows that its task has."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.op import full_attrs

from .. import tir
from ..conversions import narrow, widen
from ..scalar import SCALAR
from ..tir import Expr, Stmt
from .plain import Tensors
from .plain_lines import Line, copied, filled, swept
from .scatter_rows import Rows

Task = Callable[[Expr], Stmt]
_FUNCTIONS = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}
_LOGIC = {"add": "Or", "mul": "And", "max": "Or", "min": "And"}


def whole_rows(t: Tensors, rows: Rows, parts: int) -> tuple[int, Task]:
    """A task: some rows of one block."""
    chunk = -(-rows.rows // parts)
    parts = -(-rows.rows // chunk)
    out, updates, cpu = t.out(), t.line(2), t.problem.target.cpu

    def task(number: Expr) -> Stmt:
        block, part = tir.split(number, rows.outer, parts)
        first, name_first = tir.let(part * chunk, "first")
        last, name_last = tir.let(tirx.min(first + chunk, rows.rows), "last")
        base = block * rows.rows

        def update(m: Expr) -> Stmt:
            row, found = _row(t, rows, block, m)
            at, source = (base + row) * rows.size, (block * rows.count + m) * rows.size
            width = 1 if rows.size == 1 else out.lanes(cpu)
            write = swept(rows.size, width, lambda j: _merged(t, out, at + j, updates, source + j))
            return tir.seq(found, tir.when(tirx.And(row >= first, row < last), write))

        held = last - first if parts > 1 else rows.rows
        begin = _begin(t, (base + first) * rows.size, held * rows.size)
        return tir.seq(name_first, name_last, begin, tir.loop(rows.count, update, "m"))

    return rows.outer * parts, task


def elements(t: Tensors, rows: Rows, parts: int) -> tuple[int, Task]:
    """A task: a block, or a stretch of the axis after the scattered one in it. Each element has an index."""
    shape, axis = t.node.types[0].shape, _axis(t)
    inner = shape[axis + 1] if rows.size > 1 else 1
    chunk = -(-inner // min(parts, inner))
    parts = -(-inner // chunk)
    rest = rows.size // inner

    def task(number: Expr) -> Stmt:
        block, part = tir.split(number, rows.outer, parts)
        first, name_first = tir.let(part * chunk, "first")
        width, name_width = tir.let(tirx.min(inner - first, chunk), "width")

        def begin(row: Expr) -> Stmt:
            return _begin(t, (block * rows.rows + row) * rows.size + first * rest, width * rest)

        whole = _begin(t, block * rows.rows * rows.size, rows.rows * rows.size)
        return tir.seq(
            name_first,
            name_width,
            whole if parts == 1 else tir.loop(rows.rows, begin, "row"),
            _element_updates(t, rows, block, first, width, parts > 1),
        )

    return rows.outer * parts, task


def _element_updates(t: Tensors, rows: Rows, block: Expr, first: Expr, width: Expr, cut: bool) -> Stmt:
    """Loops over the updates of a block whose position on the axis after the scattered one is in a stretch."""
    shape, axis = t.node.types[0].shape, _axis(t)
    indices, updates, out = t.node.args[1].shape, t.node.args[2].shape, t.out()
    before = tir.split(block, *shape[:axis])[-axis:] if axis else ()
    inside: Any = None
    for at, n, m in zip(before, updates[:axis], shape[:axis], strict=True):
        if n < m:
            inside = at < n if inside is None else tirx.And(inside, at < n)

    def nest(place: tuple[Any, ...]) -> Stmt:
        k = len(place)
        if k == len(shape):
            return one(place)
        if k == axis + 1 and cut:
            count = tirx.max(tirx.min(updates[k] - first, width), 0)
            return tir.loop(count, lambda x: nest((*place, first + x)), "inner")
        return tir.loop(updates[k], lambda x: nest((*place, x)), "m" if k == axis else "inner")

    def one(place: tuple[Any, ...]) -> Stmt:
        row, found = _counted(t.line(1), _offset(place, indices), rows.rows)
        at = _offset((*place[:axis], row, *place[axis + 1 :]), shape)
        write = _merged(t, out, at, t.line(2), _offset(place, updates))
        return tir.seq(found, tir.when(row < rows.rows, write))

    loops = nest(tuple(before))
    return loops if inside is None else tir.when(inside, loops)


def _axis(t: Tensors) -> int:
    axis: Any = full_attrs(t.node)["axis"]
    return int(axis % len(t.node.types[0].shape))


def _offset(place: tuple[Any, ...], shape: tuple[int, ...]) -> Expr:
    """Of a row-major tensor; axes of size one are read at zero."""
    at: Any = tir.i32(0)
    for k, (x, n) in enumerate(zip(place, shape, strict=True)):
        at = at + x * prod(shape[k + 1 :]) if n != 1 else at
    return at


def _begin(t: Tensors, start: Expr, count: Expr | int) -> Stmt:
    """What the result holds before the updates: the data, unless they lie there, or their one element."""
    cpu, data, out = t.problem.target.cpu, t.line(0), t.out()
    if full_attrs(t.node)["shape"]:
        return filled(cpu, out, start, data.load(0), count)
    return t.unless_over(0, copied(cpu, out, start, data, start, count))


def _counted(indices: Line, at: Expr, size: int) -> tuple[Expr, Stmt]:
    """(position, statements that find it): an index from the front, `size` where there is no such position."""
    raw, bind = tir.let(indices.load(at), "index")
    position = tirx.Select(raw < 0, raw + size, raw)
    inside = tirx.And(position >= 0, position < size)
    cell = tir.Cell("int32", "found")  # TVM would put the selection into every use, which doubles with each index
    keep = cell.set(tirx.Cast("int32", tirx.Select(inside, position, tir.lit(size, str(raw.ty.dtype)))))
    found, name = tir.let(cell.now, "at")
    return found, tir.seq(bind, cell.made, keep, name)


def _row(t: Tensors, rows: Rows, block: Expr, m: Expr) -> tuple[Expr, Stmt]:
    """(row that an update addresses, statements that find it); the number of rows where there is none."""
    indices, shape = t.node.args[1].shape, t.node.types[0].shape
    if t.node.op != "ScatterND":
        axis = _axis(t)
        place = (*(tir.split(block, *shape[:axis])[-axis:] if axis else ()), m, *(0 for _ in shape[axis + 1 :]))
        return _counted(t.line(1), _offset(place, indices), rows.rows)
    depth = indices[-1]
    parts: list[Stmt] = []
    row: Any = None
    inside: Any = None
    for k in range(depth):
        at, found = _counted(t.line(1), m * depth + k, shape[k])
        parts.append(found)
        there = at < shape[k]
        inside = there if k == 0 else tirx.And(inside, there)
        row = at if k == 0 else row * shape[k] + at
    if depth == 1:
        return row, tir.seq(parts)
    result, bind = tir.let(tirx.Select(inside, row, tir.i32(rows.rows)), "row")
    return result, tir.seq(parts, bind)


def _merged(t: Tensors, out: Line, at: Expr, updates: Line, source: Expr) -> Stmt:
    """An update stored, or folded into what is there."""
    reduction, name = str(full_attrs(t.node)["reduction"]), out.dtype
    new = updates.load(source)
    if reduction == "none":
        return out.store(new, at)
    if name == "bool":
        return out.store(SCALAR[_LOGIC[reduction]](out.load(at), new), at)
    value = SCALAR[_FUNCTIONS[reduction]](widen(out.load(at)), widen(new))
    return out.store(narrow(value, dtype(name).tvm), at)
