"""The row of dense f32 convolutions on plain multiply-add units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import epilogue_fits, f32, in_memory, input_index
from ...conv.shape import Window, conv_operands, conv_window, geometry
from .cost import product_us
from .tile import Product, settings, tiles

NAME = "conv_f32_simt__cuda"
KEPT = 4  # candidates per layout of the input


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    if problem.target.gpu is None:
        return "needs a GPU"
    x, w, _ = conv_operands(node)
    if not f32(x.type, w.type, node.types[0]):
        return "computes f32"
    if input_index(problem.body, x) < 0 or input_index(problem.body, w) < 0:
        return "reads an operand through a computation"
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    if shape.group != 1:
        return "knows no groups"
    return epilogue_fits(problem)


def product_of(w: Window) -> Product:
    return Product(1, w.batch * w.pixels, w.channels_out, w.taps * w.channels_in)


def choices(problem: Problem) -> Sequence[Choice]:
    gpu = problem.target.gpu
    assert gpu is not None
    w = geometry(problem)
    product = product_of(w)
    x, weight, _ = conv_operands(problem.anchor)
    flat = len(x.shape) == 3
    last = "NWC" if flat else "NHWC"
    filters = ("WIO" if flat else "HWIO") + ("4o" if w.channels_out % 4 else "")
    found = []
    for layout in [last] + ([""] if w.channels_in % 4 else []):
        offers = []
        for tile in tiles(product, gpu):
            us = product_us(problem, product, tile)
            fixed = {x: layout, in_memory(problem, weight): filters}
            layouts = tuple(
                fixed.get(v, last if v.shape == problem.anchor.types[0].shape else "") for v in problem.body.inputs
            )
            offers.append(Choice(NAME, layouts, (last,), settings(product, tile), us, product.scratch(tile)))
        found += sorted(offers, key=lambda c: c.cost_us)[:KEPT]
    return found


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv_emit import emit

    return emit(problem, choice, symbol)


kernel(
    Row(
        NAME,
        frozenset({"Conv"}),
        match,
        choices,
        emit,
        "dense f32 convolution: a product of pixels by filters, in register tiles fed through shared memory",
        frozenset({"CUDA"}),
    )
)
