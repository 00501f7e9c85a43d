"""Convolutions as products on tensor cores: f16, bytes (`conv_int8_mma__cuda`), and f32 as tf32 where allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import epilogue_fits
from ...conv.shape import Window, conv_operands, conv_window, geometry
from .cost import best
from .shape import LEAST, MASK_BITS, ROW_KINDS, Product, Tile, choice_of, inside, kind_of, operands_fit, piece

if TYPE_CHECKING:
    from edgec.targets.tir import Expr

OPERATORS = {"int8": "Edgec.ConvInteger"}


def row_name(kind: str) -> str:
    return f"conv_{kind}_mma__cuda"


def match(problem: Problem, kind: str) -> Literal[True] | str:
    node = problem.anchor
    x, w, _ = conv_operands(node)
    if (fit := operands_fit(problem, x, w, kind)) is not True:
        return fit
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    if shape.group > 1 or len(node.types[0].shape) != 4:
        return "needs two spatial axes and one group"
    padded = not inside(shape.height) or not inside(shape.width)
    if padded and shape.height.kernel + shape.width.kernel > MASK_BITS:
        return f"a padded window has more than {MASK_BITS} rows and columns"
    return epilogue_fits(problem)


def product_of(problem: Problem) -> Product:
    """K is tap by tap all channels. Bytes of channels that are no multiple of four are padded to it in the weights."""
    w, (x, weight, _) = geometry(problem), conv_operands(problem.anchor)
    kind = kind_of(x, weight)
    attrs: Any = full_attrs(problem.anchor)
    channels, spare = w.channels_in, 0
    inputs, outputs = (piece(n * kind.bytes) for n in (w.channels_in, w.channels_out))
    if (together := rows_together(w, kind.bytes)) > inputs:
        inputs, channels = together, w.channels_in * w.width.kernel
        w = replace(w, width=replace(w.width, kernel=1))
    elif inputs < LEAST and kind.bytes == 1:
        spare = -channels % LEAST
        channels += spare
    elif in_fours(w, kind.bytes):
        inputs, spare, channels = 4 * kind.bytes, 4 - w.channels_in, 4
        w = replace(w, channels_in=channels)
    across = kind.bytes == 2 and inputs < LEAST <= outputs
    flat = w.height.plain and w.width.plain and not spare
    return Product(
        kind,
        w.batch * w.pixels,
        w.channels_out,
        w.taps * channels,
        window=None if flat else w,
        channels=channels,
        spare=spare,
        left=inputs,
        right=outputs if across else piece(w.taps * channels * kind.bytes),
        across=across,
        zero=attrs.get("zero", 0),
    )


def in_fours(w: Window, size: int) -> bool:
    """Whether pixels are to be wanted in fours of channels, so that one access brings all of a pixel."""
    return w.channels_in == 3 and size == 2 and rows_together(w, size) <= piece(w.channels_in * size)


def rows_together(w: Window, size: int) -> int:
    """Bytes that can be copied together where a row of taps is taken as one tap of more channels; 0: it cannot be."""
    if w.width.dilation > 1 or not inside(w.width) or w.width.kernel == 1:
        return 0
    pixel = w.channels_in * size
    return min(piece(pixel * n) for n in (w.width.kernel, w.width.stride, w.width.size))


def layouts(problem: Problem, p: Product) -> tuple[str, ...]:
    """Channels last, three of them in fours; filters with K side by side, or across with all outputs of one k."""
    x, weight = problem.anchor.args[:2]
    padded = f"{LEAST}i" if p.spare else ""
    wanted = {x: "NHWC4c" if p.fours else "NHWC", weight: "HWIO" if p.across else f"OHWI{padded}"}
    return tuple(wanted.get(v, "NHWC" if len(v.shape) == 4 else "") for v in problem.body.inputs)


def choice(problem: Problem, tile: Tile, cost_us: float = 0.0) -> Choice:
    p, kind = product_of(problem), problem.anchor.args[0].type.dtype
    return choice_of(row_name(ROW_KINDS[kind]), p, tile, layouts(problem, p), "NHWC", cost_us)


def offers(problem: Problem) -> Sequence[Choice]:
    return [choice(problem, tile, us) for tile, us in best(problem, product_of(problem))]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from edgec.targets import tir

    from .emit import emit as emit_product

    w = geometry(problem)
    x, weight, _ = conv_operands(problem.anchor)

    def indexed(batch: Expr, m: Expr, n: Expr) -> Any:
        image, y, column = tir.split(m, w.batch, w.height.out, w.width.out)
        return image, n, y, column

    return emit_product(problem, choice, symbol, product_of(problem), (x, weight), indexed)


def _register(kind: str) -> None:
    kernel(
        Row(
            row_name(kind),
            frozenset({OPERATORS.get(kind, "Conv")}),
            lambda p: match(p, kind),
            offers,
            emit,
            f"convolution of {kind} on tensor cores: tiles of pixels x output channels, channels last",
            frozenset({"CUDA"}),
        )
    )


for _kind in ("f16", "int8", "tf32"):
    _register(_kind)
