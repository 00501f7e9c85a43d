"""conv_int8_dsp: dense convolutions of signed bytes on Cortex-M with the DSP extension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import ceil_div, layouts_in
from ..conv.shape import Window, conv_window, geometry, of_group
from .bytes import DSP, STEP, Tile, activations, after, even, fits, largest, result_layout, unrolled
from .rescale import Plain, plain_rescale

NAME = "conv_int8_dsp"
SCRATCH = 6144  # bytes of windows, at most, where more than one pixel is computed
FEW = 3  # input channels up to which bytes are gathered one by one


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    if (fit := fits(problem, *node.args[:2])) is not True:
        return fit
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    w = of_group(shape)
    if w.group > 1 and (w.channels_in % STEP or w.channels_out % 2):
        return "has groups whose channels are no multiples of 4, or of 2 outputs"
    return True


def steps_of(w: Window) -> int:
    """Steps of a window: words of channels, or of columns where there is one channel."""
    if w.channels_in == 1:
        return w.height.kernel * ceil_div(w.width.kernel, STEP)
    return w.taps * ceil_div(w.channels_in, STEP)


def tile_of(w: Window, small: bool = False) -> Tile:
    """Fewer pixels where windows are so long that scratch would be large, or code is to be small."""
    steps = steps_of(w)
    pixels = max(p for p in ((1,) if small else (1, 2, 3)) if p == 1 or (p <= w.pixels and steps * p * 8 <= SCRATCH))
    return Tile(pixels, 2, unrolled(steps, small))


def weight_layout(w: Window, rank: int, tile: Tile) -> str:
    """In the order in which the loop reads them: [O/2][kh][kw][I/4][2 outputs][4 inputs], or 4 columns."""
    if w.channels_in == 1:
        return f"{'OHIW' if rank == 4 else 'OIW'}{tile.channels}o{STEP}w"
    return f"{'OHWI' if rank == 4 else 'OWI'}{tile.channels}o{STEP}i"


def side_by_side(w: Window, layout: str) -> bool:
    """Whether channels lie side by side without padding."""
    return layout in ("NHWC", "NWC") or (w.channels_in == 1 and not layout.endswith("c"))


def cycles(w: Window, tile: Tile, each: float, layout: str) -> float:
    steps = steps_of(w)
    gather = 1.5 * steps * STEP + 22 * w.height.kernel
    if w.channels_in <= FEW and not layout.endswith("c") and not side_by_side(w, layout):
        gather = w.height.kernel * (12 + w.width.kernel * (w.channels_in * 9 + 6))
    pairs = ceil_div(w.channels_out, tile.channels)
    work = pairs * (steps * tile.step() + 25 + tile.pixels * tile.channels * each)
    if w.group > 1:
        gather += 4.0 * w.taps
    return w.batch * w.group * ceil_div(w.pixels, tile.pixels) * (work + tile.pixels * (gather + 12))


def choices(problem: Problem) -> Sequence[Choice]:
    x, weight, _ = problem.anchor.args
    w, rank = of_group(geometry(problem)), len(x.shape)
    tile = tile_of(w, problem.target.small)
    out = result_layout(problem.body.outputs[0].type)
    plain = {4: ["NHWC", ""], 3: ["NWC", ""]}[rank] if w.channels_in <= FEW else []
    found = []
    for layout in [activations(rank), *plain]:
        layouts = layouts_in(problem, {x: layout, weight: weight_layout(w, rank, tile)}, out)
        us = cycles(w, tile, after(problem), layout) / (problem.target.cpu.ghz * 1e3)
        scratch = even(steps_of(w) * tile.pixels * 8, 8)
        found.append(Choice(NAME, layouts, (out,), (), us, scratch))
    return found


def form(problem: Problem) -> str:
    """Of kernels that differ in sizes and zero points only; "" where they are not written so."""
    w, small = of_group(geometry(problem)), problem.target.small
    tile, plain = tile_of(w, small), plain_rescale(problem, True)
    if plain is None or w.group > 1 or w.channels_in <= FEW or w.channels_out % tile.channels:
        return ""
    words, most = ceil_div(w.channels_in, STEP), words_at_once(small)
    ends = [(a.inside(0, 0), a.inside(a.out - 1, a.kernel - 1)) for a in (w.height, w.width)]
    moved = w.width.kernel * words, largest(words, most)
    shape = [replace(a, size=0, out=0) for a in (w.height, w.width)], ends, moved[1]
    if w.pointwise:
        shape, moved = ([], [], 0), (words, 0)
    copied = moved[0] % most if moved[0] >= 2 * most else moved[0]
    return f"{len(problem.anchor.args[0].shape)} {w.batch} {blocks_form(w, tile, steps_of(w), plain)} {shape} {copied}"


def blocks_form(w: Window, tile: Tile, steps: int, plain: Plain) -> str:
    """Of the loop over all channels of a tile."""
    rest = steps % tile.unroll if steps >= 2 * tile.unroll else steps
    return f"{tile} {rest} {w.pixels % tile.pixels > 0} {plain.form}"


def words_at_once(small: bool) -> int:
    """Words that one turn of a loop brings into scratch, at most."""
    return 1 if small else 4


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv_emit import Conv

    w = of_group(geometry(problem))
    zero: Any = full_attrs(problem.anchor)["zero"]
    return Conv(problem, choice, w, tile_of(w, problem.target.small), int(zero)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.ConvInteger"}),
        match,
        choices,
        emit,
        "dense convolution of signed bytes on Cortex-M by smlad",
        DSP,
        form,
    )
)
