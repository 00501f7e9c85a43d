"""Which threads take which numbers of a reduction whose results lie side by side: columns of [outer, folded, kept].

Threads of a row of the block read neighbouring columns together; those of a column take its numbers in turn and put
their sums together in shared memory. Where columns are few, several blocks share them (`splits`), and the last of them
puts the blocks' sums together, always in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from edgec.compiler.layout import layout
from edgec.compiler.registry import Choice, Problem
from edgec.compiler.target import Gpu

from ...common import ceil_div
from ..cost import streaming_us
from ..vectors import vector_of
from .shape import layouts_in, layouts_out

CHANNELS_LAST = "NHWC"
MOST_ACROSS = 32  # threads side by side
LEAST_ACROSS = 8
BLOCK = 256
LEAST_TURNS = 8  # of a thread, before a column is shared by blocks


@dataclass(frozen=True)
class Columns:
    """`outer` x `folded` x `kept` numbers as they lie; a block: `across` x `down` threads, `vector` columns each."""

    outer: int
    folded: int
    kept: int
    vector: int
    across: int
    down: int
    splits: int

    @property
    def block(self) -> int:
        return self.across * self.down

    @property
    def width(self) -> int:
        """Columns of a block."""
        return self.across * self.vector

    @property
    def pieces(self) -> int:
        return ceil_div(self.kept, self.width)

    @property
    def results(self) -> int:
        return self.outer * self.kept

    @property
    def counters(self) -> int:
        return self.outer * self.pieces if self.splits > 1 else 0


def extents(problem: Problem, axes: Sequence[int], text: str) -> tuple[int, int, int] | None:
    """(outer, folded, kept) of the anchor's argument in a layout; None where the folded axes do not lie together."""
    shape = problem.anchor.args[0].shape
    order = layout(text, len(shape)).order
    places = sorted(order.index(a) for a in axes)
    if not places or places != list(range(places[0], places[-1] + 1)):
        return None
    physical = [shape[a] for a in order]
    return prod(physical[: places[0]]), prod(physical[places[0] : places[-1] + 1]), prod(physical[places[-1] + 1 :])


def dealt(problem: Problem, gpu: Gpu, sizes: tuple[int, int, int]) -> Columns:
    outer, folded, kept = sizes
    vector = vector_of([v.type for v in problem.body.inputs if v.shape == problem.anchor.args[0].shape], kept)
    accesses = ceil_div(kept, vector)
    across = 1
    while across < min(MOST_ACROSS, accesses):
        across *= 2
    while across > LEAST_ACROSS and outer * ceil_div(accesses, across) < gpu.multiprocessors:
        across //= 2
    down = 1
    while down < folded and down * across < BLOCK:
        down *= 2
    blocks = outer * ceil_div(accesses, across)
    splits = min(2 * gpu.multiprocessors // max(blocks, 1), folded // (down * LEAST_TURNS))
    return Columns(outer, folded, kept, vector, across, down, max(1, splits))


def offer(row: str, problem: Problem, columns: Columns, text: str, parts: int) -> list[Choice]:
    """`parts`: numbers of 32 bits that a sum is made of."""
    gpu = problem.target.gpu
    assert gpu is not None
    threads = columns.outer * columns.pieces * columns.splits * columns.block
    in_flight = min(threads, gpu.threads * gpu.multiprocessors) * columns.vector * 4 * 2.0
    us = streaming_us(gpu, problem.bytes_moved, in_flight, 1.5 + (1.5 if columns.splits > 1 else 0))
    config = {"vector": columns.vector, "across": columns.across, "down": columns.down, "splits": columns.splits}
    config["last"] = int(bool(text))
    scratch = 0
    if columns.splits > 1:
        config["zeros"] = columns.counters
        scratch = 4 * parts * columns.splits * columns.results
    read = layouts_in(problem, text)
    return [Choice(row, read, to, tuple(config.items()), us, scratch) for to in layouts_out(problem, text)]


def layout_of(choice: Choice) -> str:
    """How the numbers are taken to lie; the anchor's argument need not lie anywhere, what it is made of does."""
    return CHANNELS_LAST if choice.get("last") else ""


def chosen(problem: Problem, choice: Choice, axes: Sequence[int]) -> Columns:
    """The Columns that a choice stands for."""
    sizes = extents(problem, axes, layout_of(choice))
    assert sizes is not None
    return Columns(*sizes, *(choice.get(key) for key in ("vector", "across", "down", "splits")))
