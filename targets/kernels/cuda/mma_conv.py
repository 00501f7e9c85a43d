"""The row `conv_f16_mma__cuda`: convolutions of f16 with channels last, as products on tensor cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import epilogue_fits, input_index
from ..conv_shape import Window, conv_operands, conv_window, geometry
from .mma_cost import best
from .mma_shape import F16, LEAST, MASK_BITS, MOST, Product, Tile, choice_of, piece
from .mma_shape import tile_of as tile_of

if TYPE_CHECKING:
    from edgec.targets.tir import Expr

NAME = "conv_f16_mma__cuda"


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    x, w, _ = conv_operands(node)
    if problem.target.gpu is None:
        return "needs a GPU"
    if any(t.dtype != "f16" for t in (x.type, w.type, node.types[0])):
        return "computes f16"
    if any(input_index(problem.body, v) < 0 for v in (x, w)) or x == w:
        return "reads an operand through a computation"
    return window_fits(problem)


def window_fits(problem: Problem) -> Literal[True] | str:
    """What every convolution on tensor cores asks for."""
    node = problem.anchor
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    if shape.group > 1 or len(node.types[0].shape) != 4:
        return "needs two spatial axes and one group"
    if shape.height.kernel + shape.width.kernel > MASK_BITS:
        return f"the window is larger than {MASK_BITS} rows and columns"
    if any(v.type.size >= MOST for v in (*problem.body.inputs, *problem.body.outputs)):
        return "has tensors of 2**31 elements"
    return epilogue_fits(problem)


def product_of(problem: Problem) -> Product:
    w = geometry(problem)
    flat = w.height.plain and w.width.plain
    channels, outputs = (piece(n * F16.bytes) for n in (w.channels_in, w.channels_out))
    across = channels < LEAST <= outputs
    return Product(
        F16,
        w.batch * w.pixels,
        w.channels_out,
        w.taps * w.channels_in,
        window=None if flat else w,
        channels=w.channels_in,
        left=channels,
        right=outputs if across else channels,
        across=across,
    )


def layouts(problem: Problem, across: bool) -> tuple[str, ...]:
    """Channels last; filters with K side by side, or across with all outputs of one k."""
    weight = problem.anchor.args[1]
    filters = "HWIO" if across else "OHWI"
    return tuple(filters if v == weight else "NHWC" if len(v.shape) == 4 else "" for v in problem.body.inputs)


def choice(problem: Problem, tile: Tile, cost_us: float = 0.0) -> Choice:
    p = product_of(problem)
    return choice_of(NAME, p, tile, layouts(problem, p.across), "NHWC", cost_us)


def offers(problem: Problem) -> Sequence[Choice]:
    return [choice(problem, tile, us) for tile, us in best(problem, product_of(problem))]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from edgec.targets import tir

    from .mma_emit import emit as emit_product

    w: Window = geometry(problem)
    x, weight, _ = conv_operands(problem.anchor)

    def indexed(batch: Expr, m: Expr, n: Expr) -> Any:
        image, y, column = tir.split(m, w.batch, w.height.out, w.width.out)
        return image, n, y, column

    return emit_product(problem, choice, symbol, product_of(problem), (x, weight), indexed)


kernel(
    Row(
        NAME,
        frozenset({"Conv"}),
        match,
        offers,
        emit,
        "convolution of f16 on tensor cores: tiles of pixels x output channels, channels last",
        frozenset({"CUDA"}),
    )
)
