"""The rows of int8 convolutions over one channel on AArch64: a step multiplies neighbours in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import ceil_div
from ..conv.shape import WRITTEN, Window, geometry, segments
from .bytes import FEW, METHODS, Method
from .conv_rows import choices_of, match


def fits(method: Method, problem: Problem) -> Literal[True] | str:
    if (fit := match(method, problem)) is not True:
        return fit
    axis = geometry(problem).width
    if geometry(problem).channels_in != 1 or axis.kernel == 1 or axis.dilation > 1:
        return "needs one channel, and windows of neighbours in a row"
    if axis.size < FEW:
        return f"needs rows of {FEW} pixels"
    if axis.kernel > WRITTEN * FEW and any(s.edge for s in segments(window_of(problem).width, 1)):
        return "the window is too wide to be written out for its edges"
    return True


def window_of(problem: Problem) -> Window:
    """The window with whole fours in each row."""
    w = geometry(problem)
    kernel = ceil_div(w.width.kernel, FEW) * FEW
    return replace(w, width=replace(w.width, kernel=kernel), by_columns=True)


def choices(method: Method, problem: Problem) -> Sequence[Choice]:
    return choices_of(f"conv_int8_columns_{method.name}", method, problem, window_of(problem))


def emit(method: Method, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .columns_emit import Columns

    columns = geometry(problem).width.kernel
    return Columns(method, problem, choice, window_of(problem), columns).emit(symbol)


for _method in METHODS.values():
    if _method.each <= FEW:
        kernel(
            Row(
                f"conv_int8_columns_{_method.name}",
                frozenset({"Edgec.ConvInteger"}),
                partial(fits, _method),
                partial(choices, _method),
                partial(emit, _method),
                f"convolution of signed bytes over one channel on AArch64 by {_method.name}",
                _method.isa,
            )
        )
