"""Rows of windows over one channel at a time, and of grouped convolutions: threads of some channels by some pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div, epilogue_fits, in_memory, input_index, operations
from ...conv.shape import Window, conv_operands, conv_window, window
from .cost import threads_us

DEPTHWISE, GROUPED, POOL = "depthwise__cuda", "grouped__cuda", "pool__cuda"
FLOATS = frozenset({"f32", "f16"})
BLOCK = 128  # threads
KEPT = 3
MOST_SUMS = 40  # accumulators of a thread


@dataclass(frozen=True)
class Share:
    """What one thread computes: `lanes` channels of `pixels` neighbours in a row."""

    lanes: int
    pixels: int


def last(rank: int) -> str:
    return "NHWC" if rank == 4 else "NWC"


def share_of(choice: Choice) -> Share:
    return Share(choice.get("lanes"), choice.get("pixels"))


def window_of(problem: Problem) -> Window | str:
    return conv_window(problem.anchor) if problem.anchor.op == "Conv" else window(problem.anchor)


def usable(problem: Problem, operands: Iterable[Value]) -> Literal[True] | str:
    node = problem.anchor
    if problem.target.gpu is None:
        return "needs a GPU"
    if node.types[0].dtype not in FLOATS or any(v.type.dtype not in FLOATS for v in operands):
        return "computes f32 and f16"
    if any(input_index(problem.body, v) < 0 for v in operands):
        return "reads an operand through a computation"
    if isinstance(shape := window_of(problem), str):
        return shape
    if 0 in (*node.types[0].shape, *node.args[0].shape):
        return "has nothing to compute"
    return epilogue_fits(problem)


def match_depthwise(problem: Problem) -> Literal[True] | str:
    x, w, _ = conv_operands(problem.anchor)
    if (found := usable(problem, (x, in_memory(problem, w)))) is not True:
        return found
    shape = window_of(problem)
    assert isinstance(shape, Window)
    if shape.group != shape.channels_in or shape.group == 1:
        return "needs one group per channel"
    return True


def match_grouped(problem: Problem) -> Literal[True] | str:
    x, w, _ = conv_operands(problem.anchor)
    if (found := usable(problem, (x, in_memory(problem, w)))) is not True:
        return found
    shape = window_of(problem)
    assert isinstance(shape, Window)
    if not 1 < shape.group < shape.channels_in:
        return "needs several groups of several channels"
    return True


def match_pool(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    if len(node.types) > 1:
        return "gives positions as well"
    return usable(problem, (node.args[0],))


def lanes_of(problem: Problem, w: Window) -> int:
    """Channels of one access: 16 bytes of the narrower type, where they divide the channels of a group."""
    node = problem.anchor
    bytes_each = min(dtype(t.dtype).bytes for t in (node.types[0], node.args[0].type))
    lanes = 16 // max(2, bytes_each)
    each = w.channels_out // w.group if node.op == "Conv" and w.group < w.channels_in else w.channels_out
    if node.op == "Conv" and w.group == w.channels_in and w.channels_out != w.channels_in:
        return 1  # a result's channel is not its input's
    while lanes > 1 and each % lanes:
        lanes //= 2
    return lanes


def offers(row: str, problem: Problem) -> Sequence[Choice]:
    w = window_of(problem)
    assert isinstance(w, Window)
    node = problem.anchor
    rank = len(node.types[0].shape)
    fixed = {node.args[0]: last(rank)}
    if node.op == "Conv":
        fixed[in_memory(problem, node.args[1])] = "HWIO" if rank == 4 else "WIO"
    shape = node.types[0].shape
    layouts = tuple(fixed.get(v, last(rank) if v.shape == shape else "") for v in problem.body.inputs)
    found = []
    widest = lanes_of(problem, w)
    for lanes, pixels in product(sorted({widest, max(1, widest // 2)}), (1, 2, 4, 7, 8)):
        if pixels > 1 and (pixels * lanes > MOST_SUMS or pixels >= 2 * w.width.out):
            continue
        us = cost(problem, w, Share(lanes, pixels))
        found.append(Choice(row, layouts, (last(rank),), (("lanes", lanes), ("pixels", pixels)), us))
    return sorted(found, key=lambda c: c.cost_us)[:KEPT]


def cost(problem: Problem, w: Window, share: Share) -> float:
    """Modelled time in us: loads through the first cache, instructions, memory."""
    node = problem.anchor
    threads = w.batch * w.height.out * ceil_div(w.width.out, share.pixels) * ceil_div(w.channels_out, share.lanes)
    inner = w.channels_in // w.group if node.op == "Conv" else 1
    seen = (share.pixels - 1) * min(w.width.stride, w.width.kernel * w.width.dilation) + w.width.kernel
    loads = w.height.kernel * inner * (seen + (w.width.kernel if node.op == "Conv" else 0))
    sums = w.taps * inner * share.pixels * share.lanes
    widened = loads * share.lanes if node.args[0].type.dtype == "f16" else 0
    after = operations(problem) * share.pixels * share.lanes
    return threads_us(problem, threads, BLOCK, sums + 2 * loads + widened + after, loads * 16.0 * share.lanes / 4)


def pads_after(problem: Problem) -> tuple[int, int]:
    """Declared padding behind the input: rows and columns."""
    pads: tuple[int, ...] = tuple(full_attrs(problem.anchor).get("pads") or ())  # type: ignore[arg-type]
    if not pads:
        return 0, 0
    return (pads[2], pads[3]) if len(pads) == 4 else (0, pads[1])


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .planes_emit import emit

    return emit(problem, choice, symbol)


_ISA = frozenset({"CUDA"})
kernel(
    Row(
        DEPTHWISE,
        frozenset({"Conv"}),
        match_depthwise,
        lambda p: offers(DEPTHWISE, p),
        emit,
        "depthwise convolution: a thread has a vector of channels and several pixels of a row",
        _ISA,
    )
)
kernel(
    Row(
        GROUPED,
        frozenset({"Conv"}),
        match_grouped,
        lambda p: offers(GROUPED, p),
        emit,
        "grouped convolution: a thread has a vector of filters and several pixels of a row",
        _ISA,
    )
)
kernel(
    Row(
        POOL,
        frozenset({"MaxPool", "AveragePool"}),
        match_pool,
        lambda p: offers(POOL, p),
        emit,
        "pooling: a thread has a vector of channels and several pixels of a row",
        _ISA,
    )
)
