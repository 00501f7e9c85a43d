"""The rows of 8-bit products on AMX: `conv_int8_amx` and `matmul_int8_amx`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import int_attr
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import byte_operations, ceil_div, epilogue_fits, input_index, lookups
from ..conv.rows import flattens
from ..conv.shape import Axis, Window, conv_window, geometry
from ..int8.conv_rows import bytes_layout, value_layout
from ..int8.tiles import BLOCK, QUAD
from .shape import LANES, NARROW, Left, Tiling, across, folded, tilings

KEPT = 3
CONV, MATMUL = "conv_int8_amx", "matmul_int8_amx"
ISA = frozenset({"AMXTILE", "AMXINT8", "AVX512VNNI"})


def match_conv(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    if shape.group != 1:
        return "has groups"
    return _operands(problem)


def match_matmul(problem: Problem) -> Literal[True] | str:
    a, b, _ = problem.anchor.args
    if len(b.shape) != 2 or b.type.dtype != "i8" or int_attr(problem.anchor, "b_zero"):
        return "the right operand is no matrix of signed bytes with a zero point of 0"
    if a.shape[-1] % 4:
        return "rows of the left operand are no multiple of 4 bytes"
    return _operands(problem)


def _operands(problem: Problem) -> Literal[True] | str:
    args = problem.anchor.args
    if any(input_index(problem.body, v) < 0 for v in args):
        return "reads an operand through a computation"
    if len(set(args)) < len(args):
        return "reads one value as two operands"
    if not all(v.type.size for v in (*args, *problem.anchor.results)):
        return "is empty"
    return epilogue_fits(problem)


def left_of(problem: Problem) -> Left:
    """The left operand of a problem that was accepted."""
    node = problem.anchor
    if node.op == "Edgec.MatMulInteger":
        rows, inner = prod(node.types[0].shape[:-1]), node.args[0].shape[-1]
        return Left(Window(1, inner, node.types[0].shape[-1], Axis(1, 1), Axis(rows, rows)), inner, False)
    w = geometry(problem)
    pixel = stored_channels(node.args[0].shape[1])
    if (pairs := folded(w)) is not None:
        return pairs
    if flattens(problem):
        return Left(w.flat(), pixel, False)
    bordered = outside(w.height) or outside(w.width)
    if w.taps == 1 and not bordered and w.width.out <= NARROW and _whole_images(problem):
        return Left(w.flat(), pixel, False, w)
    return Left(w, pixel, bordered)


def stored_channels(channels: int) -> int:
    """Bytes of a pixel in the layout of activations."""
    block = QUAD if channels <= QUAD else BLOCK
    return ceil_div(channels, block) * block


def _whole_images(problem: Problem) -> bool:
    """Whether what follows the anchor reads all pixels of its operands in order, or one for all."""
    shape = problem.anchor.types[0].shape
    rest = [v.shape for v in problem.body.inputs if v not in problem.anchor.args]
    return len(shape) == 4 and all(s == shape or len(s) < 2 or s[-2:] == (1, 1) for s in rest)


def outside(axis: Axis) -> bool:
    """Whether any window of an axis reaches outside."""
    last = (axis.out - 1) * axis.stride - axis.pad + (axis.kernel - 1) * axis.dilation
    return axis.pad > 0 or last >= axis.size


def choices_conv(problem: Problem) -> Sequence[Choice]:
    x, w, _ = problem.anchor.args
    rank = len(x.shape)
    layout = bytes_layout(rank, x.shape[1])
    deep = "4i" if layout.endswith("16c") else "2h" if left_of(problem).folded else ""
    fixed = {x: layout, w: f"{'OHWI' if rank == 4 else 'OWI'}{deep}16o4i"}
    layouts = tuple(fixed.get(v) or value_layout(problem, v) for v in problem.body.inputs)
    return _offers(CONV, problem, layouts, value_layout(problem, problem.body.outputs[0]))


def choices_matmul(problem: Problem) -> Sequence[Choice]:
    columns = problem.anchor.types[0].shape[-1]

    def layout(value: Value) -> str:
        if value == problem.anchor.args[1]:
            return "JK16j4k"
        return f"A{LANES}a" if value.shape == (columns,) and _per_column(problem, value) else ""

    return _offers(MATMUL, problem, tuple(map(layout, problem.body.inputs)), "")


def _per_column(problem: Problem, value: Value) -> bool:
    return all(n.op != "Edgec.Table" or value not in n.args[1:] for n in problem.body.nodes())


def _offers(row: str, problem: Problem, layouts: tuple[str, ...], out: str) -> Sequence[Choice]:
    left, cpu = left_of(problem), problem.target.cpu
    as_bytes = problem.body.outputs[0].node.op in ("Edgec.Rescale", "Edgec.Table")  # vectors of them are looked up
    after = byte_operations(problem) + (0.0 if as_bytes else lookups(problem))
    every = tilings(left, cpu, after, problem.threads, problem.cold, problem.target.small)
    return [
        Choice(row, layouts, (out,), config(t), t.cost_us, scratch(problem, left, t).total)
        for t in sorted(every, key=lambda t: (t.cost_us, t.block))[:KEPT]
    ]


KEYS = ("mt", "ml", "pt", "nt", "kg", "pb", "cb")


def config(t: Tiling) -> tuple[tuple[str, int], ...]:
    return tuple(zip(KEYS, (t.rows, t.lines, t.pixels, t.channels, t.groups, t.block, t.panels), strict=True))


def tiling_of(choice: Choice) -> Tiling:
    return Tiling(*map(choice.get, KEYS))


@dataclass(frozen=True)
class Scratch:
    """Bytes of what a kernel keeps in scratch: sums as they leave the tiles, what sums start from, copied pixels."""

    sums: int
    starts: int
    copied: int

    @property
    def total(self) -> int:
        return self.sums + self.starts + self.copied


def scratch(problem: Problem, left: Left, t: Tiling) -> Scratch:
    lines = left.lines(ceil_div(t.block, across(left, t)) * t.lines) if left.bordered else 1
    copied = ceil_div(lines * left.line * left.pixel, 64) * 64 if left.copied else 0
    starts = 64 * ceil_div(left.w.channels_out, LANES) if prepared(problem) else 0
    return Scratch(4 * t.pixels * t.rows * t.channels * LANES, starts, copied)


def prepared(problem: Problem) -> bool:
    """Whether sums start from more than the bias as it lies."""
    bias = problem.anchor.args[2].type
    return zero_of(problem.anchor) != 0 or bias.size == 1 or bias.dtype != "i32"


def zero_of(node: Node) -> int:
    return int_attr(node, "a_zero" if node.op == "Edgec.MatMulInteger" else "zero")


def _emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import emit

    return emit(problem, choice, symbol)


kernel(
    Row(
        CONV,
        frozenset({"Edgec.ConvInteger"}),
        match_conv,
        choices_conv,
        _emit,
        "dense convolution of bytes: tiles of 16 pixels x 16 channels, 64 products deep",
        ISA,
    )
)
kernel(
    Row(
        MATMUL,
        frozenset({"Edgec.MatMulInteger"}),
        match_matmul,
        choices_matmul,
        _emit,
        "matrix product of bytes with a packed right operand, by tiles",
        ISA,
    )
)
