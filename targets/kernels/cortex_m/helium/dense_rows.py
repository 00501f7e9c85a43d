"""The rows of dense products of bytes on Helium: convolutions with any window, and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div, epilogue_fits, input_index
from ...conv.shape import Window, conv_window, of_group, rows_as_pixels
from .shape import BYTES, PIXELS, QUAD, Reach, beside, channels_last, dense_us, reach, window_of

KEPT = 2


def operands_fit(problem: Problem) -> Literal[True] | str:
    """True where signed bytes are multiplied that the kernel reads as they lie."""
    if any(a.type.dtype != "i8" for a in problem.anchor.args[:2]):
        return "multiplies signed bytes"
    if any(input_index(problem.body, v) < 0 for v in problem.anchor.args):
        return "reads an operand through a computation"
    return epilogue_fits(problem)


def match_conv(problem: Problem) -> Literal[True] | str:
    if (fit := operands_fit(problem)) is not True:
        return fit
    shape = conv_window(problem.anchor)
    if isinstance(shape, str):
        return shape
    w = of_group(shape)
    fours = w.group == 1 or (w.channels_in % QUAD == 0 and w.channels_out % QUAD == 0)
    return True if fours else "has groups whose channels are no multiples of 4"


def conv_window_of(problem: Problem) -> Window:
    """The window, with the channels of one group."""
    return of_group(window_of(problem))


def match_matmul(problem: Problem) -> Literal[True] | str:
    if (fit := operands_fit(problem)) is not True:
        return fit
    b = problem.anchor.args[1]
    if len(b.shape) != 2:
        return "the right operand is a stack of matrices"
    return True if full_attrs(problem.anchor)["b_zero"] == 0 else "the right operand has a zero point"


def choices_conv(problem: Problem) -> Sequence[Choice]:
    """The input's channels padded to fours, or as the model gives them, where those differ."""
    w, (x, weight, bias) = conv_window_of(problem), problem.anchor.args
    rank = len(x.shape)
    found: list[Choice] = []
    for padded in (True, False) if w.channels_in % QUAD else (True,):
        r = reach(w, ceil_div(w.channels_in, QUAD) * QUAD if padded else w.channels_in)
        packed = ("OHWI" if rank == 4 else "OWI") + (f"{r.pitch}i" if r.pitch != w.channels_in else "")
        fixed = {x: channels_last(rank, padded), weight: packed, bias: f"A{QUAD}a" if bias.type.size > 1 else ""}
        layouts = tuple(fixed[v] if v in fixed else beside(problem, v) for v in problem.body.inputs)
        found += _offers("conv_int8_mve", problem, w, r, layouts, beside(problem, problem.body.outputs[0]))
    return found


def choices_matmul(problem: Problem) -> Sequence[Choice]:
    w, right = rows_as_pixels(problem), problem.anchor.args[1]
    packed = "JK" if w.channels_in >= BYTES else f"JK{BYTES}k"
    layouts = tuple(packed if v == right else "" for v in problem.body.inputs)
    return _offers("matmul_int8_mve", problem, w, reach(w, w.channels_in), layouts, "")


def _offers(row: str, problem: Problem, w: Window, r: Reach, layouts: tuple[str, ...], out: str) -> Sequence[Choice]:
    found = []
    for pixels in PIXELS[:1] if problem.target.small else PIXELS:
        if pixels == 1 or pixels <= w.batch * w.pixels:
            us, room = w.group * dense_us(problem.target.cpu, w, r, pixels), scratch(w, r, pixels, zero_of(problem))
            found.append(Choice(row, layouts, (out,), (("mt", pixels),), us, sum(size for _, size in room)))
    return sorted(found, key=lambda c: c.cost_us)[:KEPT]


def zero_of(problem: Problem) -> int:
    attrs: Any = full_attrs(problem.anchor)
    return int(attrs.get("zero", attrs.get("a_zero", 0)))


def scratch(w: Window, r: Reach, pixels: int, zero: int) -> list[tuple[str, int]]:
    """Parts and their bytes: sums of a tile, what sums start from, windows of a tile."""
    outputs = ceil_div(w.channels_out, QUAD) * QUAD * 4
    return [
        ("sums", pixels * outputs),
        ("starts", outputs if zero else 0),
        ("patch", 0 if r.direct else pixels * r.vectors * BYTES),
    ]


def emit(window_of: Any, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .dense_emit import Dense

    return Dense(problem, choice, window_of(problem)).emit(symbol)


kernel(
    Row(
        "conv_int8_mve",
        frozenset({"Edgec.ConvInteger"}),
        match_conv,
        choices_conv,
        partial(emit, conv_window_of),
        "dense convolution of signed bytes on Helium: weights stream past a few pixels in registers",
        frozenset({"MVE"}),
    )
)
kernel(
    Row(
        "matmul_int8_mve",
        frozenset({"Edgec.MatMulInteger"}),
        match_matmul,
        choices_matmul,
        partial(emit, rows_as_pixels),
        "product of signed bytes with a constant right operand on Helium",
        frozenset({"MVE"}),
    )
)
