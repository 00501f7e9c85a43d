"""Units of work of an integer convolution or matrix product: what a task is."""

from __future__ import annotations

from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import Frame, emit_kernel
from ..conv.shape import Window, conv_operands
from ..conv.tiles import units
from .conv_emit import Conv
from .tiles import tasks


def emit(problem: Problem, choice: Choice, symbol: str, w: Window) -> Emitted:
    """A convolution."""
    return emit_units(Conv(problem, choice, w, conv_operands(problem.anchor)), problem, choice, symbol)


def emit_units(conv: Conv, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    """The kernel: a task is one unit, a channel tile over one block of pixels of one image."""
    plan = conv.plan
    batch, tiles, spaces = units(conv.w, plan)

    def unit(frame: Frame, number: Expr) -> Stmt:
        wide = conv.step.dot.wide
        if wide and plan.channels_first:
            image, space = tir.split(number, batch, spaces)
            tile: Expr | None = None
        elif plan.channels_first:
            image, space, tile = tir.split(number, batch, spaces, tiles)
        else:
            image, tile, space = tir.split(number, batch, tiles, spaces)
        before = [*conv.buffers(frame), conv.widen(frame, image, space) if wide else None]
        if tile is None:
            return tir.seq(before, tir.loop(tiles, lambda t: conv.unit(frame, image, t, space), "t"))
        return tir.seq(before, conv.unit(frame, image, tile, space))

    return emit_kernel(problem, choice, symbol, tasks(conv.w, conv.step.dot, plan), unit, conv.view)
