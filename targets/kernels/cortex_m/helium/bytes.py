"""Rows of what only moves bytes on Helium: tables, looked up in sixteen places at once, and joined channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Literal

from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...generic.choice import quads_last
from .shape import BYTES, QUAD

if TYPE_CHECKING:
    from ....tir import Buffer, Expr, Stmt

TABLE, CONCAT = "table_int8_mve", "concat_int8_mve"
GATHER = 20.0  # cycles to look sixteen bytes up
PIECE = 14.0  # cycles to begin a stretch of channels


def alone(problem: Problem) -> Literal[True] | str:
    """True where one operator reads the body's inputs and makes the only output."""
    nodes = [n for n in problem.body.nodes() if n.op != "Input"]
    if len(nodes) != 1 or nodes[0].args != problem.body.inputs or len(problem.body.outputs) != 1:
        return "does this and nothing else"
    return True if problem.anchor.types[0].size else "has no elements"


def choices_table(problem: Problem) -> Sequence[Choice]:
    t, cpu = problem.anchor.types[0], problem.target.cpu
    layouts = ["", quads_last(len(t.shape))] if len(t.shape) in (3, 4) else [""]
    found = []
    for text in dict.fromkeys([t.layout] if t.layout else layouts):
        us = storage_bytes(replace(t, layout=text)) / BYTES * GATHER / (cpu.ghz * 1e3) + 0.2
        found.append(Choice(TABLE, (text, ""), (text,), (), us))
    return found


def emit_table(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from tvm import tirx

    from .... import abi, tir
    from ....conversions import stored
    from ...common_emit import put, vector
    from .vector import looked_up

    x, _ = problem.body.inputs
    out = problem.body.outputs[0].type
    count, signed = storage_bytes(out), x.type.dtype == "i8"
    params = [("x", stored(x.type.dtype), (count,)), ("table", stored(out.dtype), (256,))]
    params.append(("out", stored(out.dtype), (count,)))

    def body(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
        data, numbers, target = buffers

        def many(k: Expr) -> Stmt:
            return put(target, looked_up(numbers, vector(data, BYTES, k * BYTES), signed), BYTES, k * BYTES)

        def one(k: Expr) -> Stmt:
            place = tirx.Cast("int32", tir.load(data, k)) + (128 if signed else 0)
            return tir.store(target, tir.load(numbers, place), k)

        whole, rest = divmod(count, BYTES)
        loops = [
            tir.loop(whole, many, "k") if whole else None,
            tir.loop(rest, lambda k: one(whole * BYTES + k), "k") if rest else None,
        ]
        return tir.tasks(begin, end, lambda _: tir.seq(loops), 1)

    return Emitted(abi.kernel(symbol, params, body, pointer_bits=problem.target.pointer_bits), 1)


def match_concat(problem: Problem) -> Literal[True] | str:
    if (fit := alone(problem)) is not True:
        return fit
    out, parts = problem.anchor.types[0], [v.type for v in problem.body.inputs]
    if out.dtype not in ("i8", "u8") or len(out.shape) not in (3, 4):
        return "joins bytes of three or four axes"
    if int(str(full_attrs(problem.anchor)["axis"])) % len(out.shape) != 1:
        return "joins channels"
    if len(set(problem.body.inputs)) != len(problem.body.inputs) or any(t.size == 0 for t in parts):
        return "joins one value with itself, or with nothing"
    return True if all(t.shape[1] % QUAD == 0 for t in parts[:-1]) else f"channels are no multiples of {QUAD}"


def choices_concat(problem: Problem) -> Sequence[Choice]:
    out, cpu = problem.anchor.types[0], problem.target.cpu
    pixels, text = out.size // out.shape[1], quads_last(len(out.shape))
    cycles = sum(PIECE + 5.0 * v.shape[1] / BYTES for v in problem.body.inputs)
    parts = (text,) * len(problem.body.inputs)
    return [Choice(CONCAT, parts, (text,), (), pixels * cycles / (cpu.ghz * 1e3) + 0.2)]


def emit_concat(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .... import abi, tir
    from ....access import parameter

    out, inputs = problem.body.outputs[0].type, problem.body.inputs
    pixels = out.shape[0] * prod(out.shape[2:])
    sizes = [storage_bytes(v.type) // pixels for v in inputs]
    params = [*(parameter(f"a{k}", v.type) for k, v in enumerate(inputs)), parameter("out", out)]

    def body(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
        flat = [tir.flat(buffer) for buffer in buffers]
        target = flat[-1][0]

        def pixel(p: Expr) -> Stmt:
            def piece(source: Buffer, size: int, first: int) -> Stmt:
                def one(i: Expr) -> Stmt:
                    return tir.store(target, tir.load(source, p * size + i), p * sum(sizes) + first + i)

                return tir.loop(size, one, "i")

            return tir.seq(piece(flat[k][0], size, sum(sizes[:k])) for k, size in enumerate(sizes))

        loop = tir.tasks(begin, end, lambda _: tir.loop(pixels, pixel, "p"), 1)
        return tir.seq([declared for _, declared in flat], loop)

    return Emitted(abi.kernel(symbol, params, body, pointer_bits=problem.target.pointer_bits), 1)


kernel(
    Row(
        TABLE,
        frozenset({"Edgec.Table"}),
        alone,
        choices_table,
        emit_table,
        "bytes through a table on Helium, sixteen at a time",
        frozenset({"MVE"}),
    )
)
kernel(
    Row(
        CONCAT,
        frozenset({"Concat"}),
        match_concat,
        choices_concat,
        emit_concat,
        "channels of bytes joined pixel by pixel on Helium",
        frozenset({"MVE"}),
    )
)
