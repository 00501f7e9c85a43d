"""The rows of integer products whose weights are zero in blocks: a vector of output channels of one group of inputs.

Tiles and layouts are those of dense products; steps whose weights are all zero are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.sparse import SparseForm, sparse_form

from ..common import byte_operations, ceil_div, spread
from ..conv.rows import in_one_row, in_windows
from ..conv.shape import Window, geometry
from ..conv.tiles import TileChoice, units
from ..cost import level_of
from ..int8.conv_rows import bytes_layout, scratch_bytes, settings_of, value_layout
from ..int8.conv_rows import match as match_dense
from ..int8.matmul_rows import geometry as product
from ..int8.matmul_rows import layout as product_layout
from ..int8.matmul_rows import match as match_product
from ..int8.tiles import BLOCK, WIDEN, Dot, dot_of, pixel_bytes, tasks, tile_choices, widened
from .rows import letters_of, weights_of

CONV, POINTWISE, MATMUL = "conv_int8_sparse_blocks", "conv_int8_pointwise_sparse_blocks", "matmul_int8_sparse_blocks"
KEPT = 2
WIDTHS = (1, 2, 3, 4)  # vectors of a block
SCATTERED = 1.1  # the inputs of steps lie apart


def match(problem: Problem) -> Literal[True] | str:
    anchor, product = problem.anchor, problem.anchor.op == "Edgec.MatMulInteger"
    fit = match_product(problem) if product else match_dense(problem)
    if fit is not True:
        return fit
    if isinstance(found := weights_of(problem, anchor.args[1]), str):
        return found
    dot = dot_of(problem.target.cpu)
    assert dot is not None
    if product:
        inner = anchor.args[0].shape[-1]
        return True if inner % dot.group == 0 else f"the inner dimension is no multiple of {dot.group}"
    shape = geometry(problem)
    if shape.group > 1 or any(a.pad or not a.inside(a.out - 1, 0) for a in (shape.height, shape.width)):
        return "needs a 1x1 window without padding"
    return True


def window_of(row: str, problem: Problem) -> Window:
    if row == MATMUL:
        return product(problem)
    return geometry(problem).flat() if row == POINTWISE else geometry(problem)


def choices(row: str, problem: Problem) -> Sequence[Choice]:
    cpu, w = problem.target.cpu, window_of(row, problem)
    dot, array = dot_of(cpu), problem.zeros(problem.anchor.args[1])
    assert dot is not None and array is not None
    lanes, pixel = cpu.lanes(32), w.channels_in if row == MATMUL else pixel_bytes(w)
    found = []
    for vectors in WIDTHS:
        if (vectors - 1) * lanes >= w.channels_out:
            break
        packed = sparse_form(array, letters_of(problem), vectors * lanes, dot.group)
        tiles = tiles_of(problem, w, dot, vectors, packed, pixel)
        for t in sorted(tiles, key=lambda t: t.cost_us)[:KEPT]:
            settings, scratch = settings_of(problem, w, t), scratch_bytes(w, dot, t, pixel)
            found.append(Choice(row, *layouts(row, problem, w, t, packed), settings, t.cost_us, scratch))
    return found


def layouts(
    row: str, problem: Problem, w: Window, t: TileChoice, packed: SparseForm
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    x, weight, _ = problem.anchor.args
    fixed = {weight: str(packed)}
    if row == MATMUL:
        return tuple(fixed.get(v) or product_layout(problem, v, t) for v in problem.body.inputs), ("",)
    fixed[x] = bytes_layout(len(x.shape), w.channels_in)
    given = tuple(fixed.get(v) or value_layout(problem, v) for v in problem.body.inputs)
    return given, (value_layout(problem, problem.body.outputs[0]),)


def tiles_of(
    problem: Problem, w: Window, dot: Dot, vectors: int, packed: SparseForm, pixel: int
) -> Iterator[TileChoice]:
    """Tiles with the cost of a product over as many inputs as a block of outputs has weights for on average, and of
    reading all of them."""
    cpu, attrs = problem.target.cpu, dict[str, Any](full_attrs(problem.anchor))
    rows = ceil_div(w.channels_out, vectors * cpu.lanes(32))
    short = replace(w, channels_in=max(1, ceil_div(packed.count, rows)) * dot.group)
    zero = attrs.get("zero", attrs.get("a_zero")) != 0
    data = float(w.batch * w.height.size * w.width.size)
    left = max(0, pixel - pixel_bytes(short))
    rate = {"near": cpu.l2_bytes_per_cycle, "middle": cpu.l3_bytes_per_cycle, "far": cpu.ram_bytes_per_cycle}
    for t in tile_choices(short, cpu, dot, byte_operations(problem), zero, problem.cold):
        if t.vectors != vectors:
            continue
        cycles = left * data / rate[level_of(cpu, pixel * data)]
        if dot.wide:
            times = units(w, t)[2] * w.batch * (1 if t.channels_first else rows)
            cycles += times * (widened(w, t, pixel) - widened(w, t, pixel_bytes(short))) / BLOCK * WIDEN
        us = t.cost_us * SCATTERED + cycles / (cpu.ghz * 1e3)
        yield replace(t, cost_us=us * spread(tasks(w, dot, t), problem.threads))


def emit(row: str, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ..int8.conv_units import emit_units
    from .int8_emit import Blocks, Rows

    x, weight, bias = problem.anchor.args
    made = (Rows if row == MATMUL else Blocks)(problem, choice, window_of(row, problem), (x, weight, bias))
    return emit_units(made, problem, choice, symbol)


def _row(name: str, op: str, match: Callable[[Problem], Literal[True] | str], summary: str) -> None:
    kernel(Row(name, frozenset({op}), match, partial(choices, name), partial(emit, name), summary))


_ZEROS = "whose weights are zero in blocks of outputs x inputs of one step: zeros are left out"
_row(CONV, "Edgec.ConvInteger", in_windows(match, POINTWISE), f"1x1 convolution of bytes {_ZEROS}")
_row(POINTWISE, "Edgec.ConvInteger", in_one_row(match), f"1x1 convolution of bytes of stride 1 {_ZEROS}")
_row(MATMUL, "Edgec.MatMulInteger", match, f"product of bytes {_ZEROS}")
