"""The rows of 8-bit products on AMX: `conv_int8_amx` and `matmul_int8_amx`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from edgec.compiler.ir import Node, Type, Value
from edgec.compiler.op import int_attr
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .amx_shape import LANES, Left, Tiling, tilings
from .common import ceil_div, epilogue_fits, input_index, operations
from .conv_rows import flattens
from .conv_shape import Axis, Window, conv_window, geometry

KEPT = 3
CONV, MATMUL = "conv_int8_amx", "matmul_int8_amx"
ISA = frozenset({"AMXTILE", "AMXINT8", "AVX512VNNI"})
BYTES = ("u8", "i8")


def match_conv(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    if shape.group != 1:
        return "has groups"
    return _operands(problem, node.args[0], node.args[1])


def match_matmul(problem: Problem) -> Literal[True] | str:
    a, b, _ = problem.anchor.args
    if len(b.shape) != 2 or b.type.dtype != "i8" or int_attr(problem.anchor, "b_zero"):
        return "the right operand is no matrix of signed bytes with a zero point of 0"
    if a.shape[-1] % 4:
        return "rows of the left operand are no multiple of 4 bytes"
    return _operands(problem, a, b)


def _operands(problem: Problem, x: Value, w: Value) -> Literal[True] | str:
    if input_index(problem.body, x) < 0 or input_index(problem.body, w) < 0 or x == w:
        return "reads an operand through a computation"
    if not all(v.type.size for v in (x, w, *problem.anchor.results)):
        return "is empty"
    return epilogue_fits(problem)


def left_of(problem: Problem) -> Left:
    """The left operand of a problem that was accepted."""
    node = problem.anchor
    if node.op == "Edgec.MatMulInteger":
        rows, inner = prod(node.types[0].shape[:-1]), node.args[0].shape[-1]
        return Left(Window(1, inner, node.types[0].shape[-1], Axis(1, 1), Axis(rows, rows)), inner, False)
    w = geometry(problem)
    if flattens(problem):
        w = w.flat()
    channels = node.args[0].shape[1]
    block = channel_block(channels)
    return Left(w, ceil_div(channels, block) * block, outside(w.height) or outside(w.width))


def outside(axis: Axis) -> bool:
    """Whether any window of an axis reaches outside."""
    last = (axis.out - 1) * axis.stride - axis.pad + (axis.kernel - 1) * axis.dilation
    return axis.pad > 0 or last >= axis.size


def channel_block(channels: int) -> int:
    return 4 if channels <= 4 else 16


def layout_of(t: Type) -> str:
    """How a value with the shape of the result lies: bytes with their channels side by side, other types in blocks."""
    spatial = {3: "W", 4: "HW"}[len(t.shape)]
    if t.dtype in BYTES:
        return f"N{spatial}C{channel_block(t.shape[1])}c"
    return f"NC{spatial}{LANES}c"


def choices_conv(problem: Problem) -> Sequence[Choice]:
    x, w, _ = problem.anchor.args
    shape = problem.anchor.types[0].shape
    rank = len(shape)
    deep = "4i" if channel_block(x.shape[1]) == 16 else ""

    def layout_in(value: Value) -> str:
        if value == w:
            return f"{'OHWI' if rank == 4 else 'OWI'}{deep}16o4i"
        same = len(value.shape) == rank and (value == x or value.shape[1] == shape[1])
        return layout_of(value.type) if same else ""

    layouts = tuple(layout_in(v) for v in problem.body.inputs)
    return _offers(CONV, problem, layouts, layout_of(problem.body.outputs[0].type))


def choices_matmul(problem: Problem) -> Sequence[Choice]:
    b = problem.anchor.args[1]
    return _offers(MATMUL, problem, tuple("JK16j4k" if v == b else "" for v in problem.body.inputs), "")


def _offers(row: str, problem: Problem, layouts: tuple[str, ...], out: str) -> Sequence[Choice]:
    left, cpu = left_of(problem), problem.target.cpu
    found = sorted(
        tilings(left, cpu, operations(problem), problem.threads, problem.cold), key=lambda t: (t.cost_us, t.block)
    )
    return [
        Choice(row, layouts, (out,), config(t), t.cost_us, scratch(problem, left, t).total) for t in found[:KEPT]
    ]


def config(t: Tiling) -> tuple[tuple[str, int], ...]:
    return (("mt", t.rows), ("pt", t.pixels), ("nt", t.channels), ("kg", t.groups), ("pb", t.block), ("cb", t.panels))


def tiling_of(choice: Choice) -> Tiling:
    rows, pixels, channels, groups, block, panels = (choice.get(k) for k in ("mt", "pt", "nt", "kg", "pb", "cb"))
    return Tiling(rows, pixels, channels, groups, block, panels)


class Scratch:
    """Byte offsets of what a kernel keeps in scratch: sums as they leave the tiles, what they start from, multipliers
    side by side, the bordered lines of a block."""

    def __init__(self, sums: int, starts: int, factors: int, lines: int) -> None:
        self.sums, self.starts = 0, sums
        self.factors = self.starts + starts
        self.lines = self.factors + factors
        self.total = self.lines + ceil_div(lines, 64) * 64


def scratch(problem: Problem, left: Left, t: Tiling) -> Scratch:
    wide = LANES * t.channels
    lines = left.lines(ceil_div(t.block, ceil_div(left.w.width.out, t.rows))) * left.line * left.pixel
    factors = sum(v.type.dtype == "f32" for v in problem.body.inputs)
    return Scratch(4 * t.pixels * t.rows * wide, 4 * wide, 4 * wide * factors, lines if left.bordered else 0)


def zero_of(node: Node) -> int:
    return int_attr(node, "a_zero" if node.op == "Edgec.MatMulInteger" else "zero")


def _emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .amx_emit import emit

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
