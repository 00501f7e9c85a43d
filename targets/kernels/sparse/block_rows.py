"""The rows of f32 products whose weights are zero in blocks: a vector of output channels of one input, or more.

Tiles and layouts are those of dense products; steps whose weights are all zero are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.sparse import SparseForm, sparse_form

from ..common import blocked_layout, ceil_div, epilogue_fits, layouts_in, operations, vectors_fit
from ..conv.rows import balanced, config, in_one_row, in_windows
from ..conv.shape import Window, conv_operands, conv_window, geometry
from ..conv.tiles import TileChoice, tile_choices
from ..matmul_rows import geometry as product
from .rows import letters_of, weights_of

CONV, POINTWISE, MATMUL = "conv_f32_sparse_blocks", "conv_f32_pointwise_sparse_blocks", "matmul_f32_sparse_blocks"
KEPT = 2
WIDTHS = (1, 2)  # vectors of a block
SCATTERED = 1.1  # the inputs of steps lie apart


def match(problem: Problem) -> Literal[True] | str:
    anchor = problem.anchor
    x, weight = anchor.args[:2]
    if (fit := vectors_fit(problem, x, weight)) is not True:
        return fit
    if anchor.op == "MatMul" and len(weight.shape) != 2:
        return "needs a matrix of weights"
    if isinstance(found := weights_of(problem, weight), str):
        return found
    if anchor.op == "Conv":
        shape = conv_window(anchor)
        if isinstance(shape, str):
            return shape
        if shape.group > 1 or any(a.pad or not a.inside(a.out - 1, 0) for a in (shape.height, shape.width)):
            return "needs a 1x1 window without padding"
    return epilogue_fits(problem)


def window_of(row: str, problem: Problem) -> Window:
    if row == MATMUL:
        return product(problem, packed=True)
    return geometry(problem).flat() if row == POINTWISE else geometry(problem)


def choices(row: str, problem: Problem) -> Sequence[Choice]:
    cpu, w = problem.target.cpu, window_of(row, problem)
    lanes, rank = cpu.lanes(32), len(problem.anchor.types[0].shape)
    x, weight = problem.anchor.args[:2]
    array = problem.zeros(weight)
    assert array is not None
    blocked = "" if row == MATMUL else blocked_layout(rank, lanes)
    plain = [] if row == MATMUL else ["", "NHWC"] if rank == 4 else [""]
    found = []
    for vectors in WIDTHS if w.channels_out > lanes else WIDTHS[:1]:
        packed = sparse_form(array, letters_of(problem), vectors * lanes)
        stored = w.channels_in if blocked == "" else ceil_div(w.channels_in, lanes) * lanes
        tiles = tiles_of(problem, w, vectors, packed, stored)
        for t in sorted(tiles, key=lambda t: t.cost_us)[:KEPT]:
            for layout in [blocked, *plain]:
                fixed = {x: layout, weight: str(packed)}
                layouts = (
                    tuple(fixed.get(v, "") for v in problem.body.inputs)
                    if row == MATMUL
                    else layouts_in(problem, fixed, blocked)
                )
                us = t.cost_us * (SCATTERED if layout == blocked else SCATTERED**2)
                found.append(Choice(row, layouts, (blocked,), config(problem, w, t)[0], us))
    return found


def tiles_of(problem: Problem, w: Window, vectors: int, packed: SparseForm, stored: int) -> Iterator[TileChoice]:
    """Tiles with the cost of a product over as many inputs as a block of outputs has weights for on average."""
    cpu = problem.target.cpu
    rows = ceil_div(w.channels_out, vectors * cpu.lanes(32))
    short = replace(w, channels_in=max(1, ceil_div(packed.count, rows)))
    tiles = tile_choices(short, cpu, operations(problem), stored, lambda _: short.channels_in, problem.cold)
    kept = (replace(t, inner=1) for t in tiles if t.vectors == vectors and t.passes == 1)
    return balanced(w, kept, problem.threads)


def emit(row: str, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ..conv.units import emit_units
    from .block_emit import Blocks, Rows

    made = (Rows if row == MATMUL else Blocks)(problem, choice, window_of(row, problem), conv_operands(problem.anchor))
    return emit_units(made, problem, choice, symbol)


def _row(name: str, op: str, match: Callable[[Problem], Literal[True] | str], summary: str) -> None:
    kernel(Row(name, frozenset({op}), match, partial(choices, name), partial(emit, name), summary))


_ZEROS = "whose weights are zero in blocks of output channels: zeros are left out"
_row(CONV, "Conv", in_windows(match, POINTWISE), f"1x1 convolution {_ZEROS}")
_row(POINTWISE, "Conv", in_one_row(match), f"1x1 convolution of stride 1 {_ZEROS}")
_row(MATMUL, "MatMul", match, f"matrix product {_ZEROS}")
