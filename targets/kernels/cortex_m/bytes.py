"""What int8 kernels for the DSP extension of Cortex-M share: which operands they read, how weights lie. No TVM.

A tile of pixels x channels stays in registers. Data are widened to 16 bits into scratch, less their zero point, once
for all output channels: a window of each pixel of the tile; places outside of the image are zeros there. A step takes
four bytes of each channel's weights, widened as they are loaded, and two words of each pixel. A row alone of a matrix
is taken as bytes instead, for four columns at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Problem

from ..common import after_anchor, ceil_div, epilogue_fits, input_index

STEP = 4  # products of a pixel and a channel in a step
PARAMETERS = ("Edgec.Table", "QuantizeLinear", "DequantizeLinear")  # whose other arguments are addressed otherwise
DSP = frozenset({"DSP", "FPU"})  # both: sums are rescaled in f32


def operands_fit(problem: Problem, x: Value, w: Value) -> Literal[True] | str:
    """True where the operands are signed bytes that the kernel reads as they lie."""
    if not problem.target.triple.startswith("thumb"):
        return "is for Cortex-M"
    if x.type.dtype != "i8" or w.type.dtype != "i8":
        return "multiplies signed bytes"
    if any(input_index(problem.body, v) < 0 for v in (x, w)):
        return "reads an operand through a computation"
    return True


def fits(problem: Problem, x: Value, w: Value) -> Literal[True] | str:
    """The same of a convolution, whose pixels can be counted through."""
    if (fit := operands_fit(problem, x, w)) is not True:
        return fit
    fit = epilogue_fits(problem)
    return fit if fit is not True else pixels_are_one_axis(problem)


def matrix_fits(problem: Problem) -> Literal[True] | str:
    """True for a product with a matrix of constant weights."""
    a, b = problem.anchor.args[:2]
    if len(b.shape) != 2 or len(a.shape) < 2 or input_index(problem.body, b) not in problem.constants:
        return "needs a matrix of constant weights"
    if full_attrs(problem.anchor).get("b_zero"):
        return "needs weights with zero point 0"
    return True if problem.anchor.types[0].size and a.shape[-1] else "has no results"


def pixels_are_one_axis(problem: Problem) -> Literal[True] | str:
    """True where all that follows the anchor has all pixels of its result, or none: they can be counted through."""
    shape = problem.anchor.types[0].shape
    for node in after_anchor(problem):
        many = 1 if node.op in PARAMETERS else len(node.args)
        if not all(_whole(a.shape, shape) for a in node.args[:many]):
            return f"{node.op} reads an operand that has rows or columns alone"
    return True


def _whole(shape: tuple[int, ...], of: tuple[int, ...]) -> bool:
    """Whether an operand has all pixels of a result, or none."""
    here = (1,) * (len(of) - len(shape)) + shape
    return here[2:] == of[2:] or all(n == 1 for n in here[2:])


def activations(rank: int) -> str:
    """The layout of activations of 8 bits on Cortex-M."""
    return {4: "NHWC4c", 3: "NWC4c"}.get(rank, "")


def result_layout(t: Type) -> str:
    return activations(len(t.shape)) if t.dtype in ("i8", "u8") else ""


@dataclass(frozen=True)
class Tile:
    """`pixels` x `channels` sums; `unroll` steps in a turn of the loop."""

    pixels: int
    channels: int
    unroll: int

    def step(self, direct: bool = False) -> float:
        """Instructions of a step."""
        data = 3 if direct else 1
        return self.pixels * data + self.channels * 2.5 + 2 * self.pixels * self.channels + 3 / self.unroll


def after(problem: Problem) -> float:
    """Instructions for each result, about."""
    each = {"Edgec.Rescale": 9.0, "Edgec.Table": 3.0}
    return 2.0 + sum(each.get(n.op, 4.0) for n in after_anchor(problem))


def unrolled(steps: int, small: bool) -> int:
    """Steps of a turn: a few that divide all of them; one, where code is to be small."""
    return 1 if small else next((n for n in (3, 4, 2) if steps % n == 0), 2)


def largest(together: int, most: int) -> int:
    """The most words, up to `most`, that divide so many."""
    return max(n for n in range(1, most + 1) if together % n == 0)


def even(n: int, to: int) -> int:
    return ceil_div(n, to) * to
