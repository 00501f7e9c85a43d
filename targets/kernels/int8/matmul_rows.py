"""The rows of products of bytes: `matmul_int8_packed` (right operand packed before) and `matmul_int8_dynamic`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, Literal

from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import byte_operations, epilogue_fits, input_index, spread
from ..conv.rows import config
from ..conv.shape import Axis, Window
from ..conv.tiles import TileChoice, shortest, units
from .conv_rows import KEPT, operands_fit, scratch_bytes, settings_of
from .tiles import BLOCK, VNNI, dot_of, nearly_fastest, stored, tasks, tile_choices, weight_bytes

PACKED, DYNAMIC = "matmul_int8_packed", "matmul_int8_dynamic"
PACK = 8.0  # bytes of a right operand that are packed per cycle
CACHE_WAY = 4096  # bytes


def match(problem: Problem) -> Literal[True] | str:
    b = problem.anchor.args[1]
    attrs: Any = full_attrs(problem.anchor)
    if (fit := operands_fit(problem)) is not True:
        return fit
    if len(b.shape) != 2:
        return "the right operand is a stack of matrices"
    if attrs["b_zero"]:
        return "the right operand has a zero point"
    return epilogue_fits(problem)


def match_dynamic(problem: Problem) -> Literal[True] | str:
    a, b, _ = problem.anchor.args
    if b.type.dtype == "i8" and (fit := operands_fit(problem)) is not True:
        return fit
    if a.type.dtype != "u8":
        return "multiplies u8 with bytes"
    if any(input_index(problem.body, v) < 0 for v in problem.anchor.args) or a == b:
        return "reads an operand through a computation"
    if dot_of(problem.target.cpu) is not VNNI:
        return "needs AVX512VNNI"
    return epilogue_fits(problem)


def geometry(problem: Problem) -> Window:
    """The product as a pointwise convolution: rows are pixels, K input channels, columns output channels."""
    out, inner = problem.anchor.types[0].shape, problem.anchor.args[0].shape[-1]
    rows = prod(out[:-1])
    return Window(1, inner, out[-1], Axis(1, 1), Axis(rows, rows))


def stack(problem: Problem) -> Window:
    """The same for a stack of products, each with a right operand of its own."""
    out, inner = problem.anchor.types[0].shape, problem.anchor.args[0].shape[-1]
    return Window(prod(out[:-2]), inner, out[-1], Axis(1, 1), Axis(out[-2], out[-2]))


def choices(problem: Problem) -> Sequence[Choice]:
    dot, w = dot_of(problem.target.cpu), geometry(problem)
    assert dot is not None
    attrs: Any = full_attrs(problem.anchor)
    conflict = w.channels_in % CACHE_WAY == 0  # rows of the left operand fall into one cache set

    def crowded(columns: int) -> float:
        return (1.5 if columns > 8 else 1.15 if columns > 5 else 1.0) if conflict else 1.0

    tiles = [
        replace(t, cost_us=t.cost_us * crowded(t.columns) * spread(tasks(w, dot, t), problem.threads))
        for t in tile_choices(w, problem.target.cpu, dot, byte_operations(problem), attrs["a_zero"] != 0, problem.cold)
    ]
    found = []
    for t in [shortest(w, tiles, problem.target)] if problem.target.small else nearly_fastest(w, tiles, KEPT):
        layouts = tuple(layout(problem, v, t) for v in problem.body.inputs)
        settings, scratch = settings_of(problem, w, t), scratch_bytes(w, dot, t, w.channels_in)
        found.append(Choice(PACKED, layouts, ("",), settings, t.cost_us, scratch))
    return found


def choices_dynamic(problem: Problem) -> Sequence[Choice]:
    """Units do all rows, so that columns are packed once."""
    w, cpu = stack(problem), problem.target.cpu
    attrs: Any = full_attrs(problem.anchor)
    found = []
    for t in tile_choices(w, cpu, VNNI, byte_operations(problem), attrs["a_zero"] != 0, False):
        _, tiles, spaces = units(w, t)
        if spaces > 1 or t.channels_first:
            continue
        packed = w.batch * w.channels_in * w.channels_out / PACK
        sums = w.batch * tiles * w.width.out * (w.channels_in / BLOCK + 8.0)
        us = (t.cost_us + (packed + sums) / (cpu.ghz * 1e3)) * spread(w.batch * tiles, problem.threads)
        scratch = weight_bytes(w, t) + 4 * w.width.out
        layouts = tuple("" if v == problem.anchor.args[1] else layout(problem, v, t) for v in problem.body.inputs)
        found.append(Choice(DYNAMIC, layouts, ("",), config(problem, w, t)[0], us, scratch))
    return sorted(found, key=lambda c: c.cost_us)[:KEPT]


def layout(problem: Problem, value: Value, t: TileChoice) -> str:
    """[N/32][K/4][32 columns][4] for the right operand; else row-major."""
    return f"JK{stored(geometry(problem), t)}j{t.inner}k" if value == problem.anchor.args[1] else ""


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv_units import emit_units
    from .matmul_emit import Packed

    a, b, bias = problem.anchor.args
    return emit_units(Packed(problem, choice, geometry(problem), (a, b, bias)), problem, choice, symbol)


def emit_dynamic(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv_units import emit_units
    from .matmul_emit import Dynamic

    a, b, bias = problem.anchor.args
    return emit_units(Dynamic(problem, choice, stack(problem), (a, b, bias)), problem, choice, symbol)


kernel(
    Row(
        PACKED,
        frozenset({"Edgec.MatMulInteger"}),
        match,
        choices,
        emit,
        "product of bytes with a packed right operand: register tiles of rows x column vectors",
    )
)
kernel(
    Row(
        DYNAMIC,
        frozenset({"Edgec.MatMulInteger"}),
        match_dynamic,
        choices_dynamic,
        emit_dynamic,
        "product of two stacks of matrices of bytes, whose columns are packed as they are needed",
    )
)
