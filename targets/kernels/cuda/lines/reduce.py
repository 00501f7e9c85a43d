"""reduce_lines__cuda, reduce_columns__cuda: reductions over axes that lie together, last in memory or not."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.layout import storage_bytes
from edgec.compiler.ops.integer import BYTES
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...generic.choice import one_anchor
from ...generic.reduce import ARG, OPERATORS, axes_of
from . import columns as by_columns
from .shape import FLOATS, chosen, lines_of, offer

if TYPE_CHECKING:
    from ....tir import Expr

LINES, COLUMNS = "reduce_lines__cuda", "reduce_columns__cuda"
LAYOUTS = {4: ("", by_columns.CHANNELS_LAST)}


def _match(problem: Problem) -> Literal[True] | str:
    anchor = problem.anchor
    argument = anchor.args[0].type
    sums = anchor.op == "Edgec.Sum"
    if argument.dtype not in (BYTES if sums else FLOATS):
        return "folds f32 and f16, and sums bytes"
    if argument.size < 1 or prod(argument.shape[a] for a in axes_of(anchor)) < 2:
        return "folds two numbers or more"
    if any(storage_bytes(v.type) >= 1 << 31 for v in problem.body.inputs):
        return "addresses up to 2 GiB"
    return one_anchor(problem, same_shape=True)


def match_lines(problem: Problem) -> Literal[True] | str:
    ready = _match(problem)
    if ready is True and lines_of(problem, axes_of(problem.anchor)) is None:
        return "folds the last axes"
    return ready


def match_columns(problem: Problem) -> Literal[True] | str:
    ready = _match(problem)
    if ready is not True:
        return ready
    if problem.anchor.op == "ReduceLogSumExp":
        return "folds once"
    if problem.anchor.op in ARG and problem.anchor.args[0].type.dtype not in FLOATS:
        return "finds places of f32 and f16"
    return True if _columns(problem) else "folds axes that lie together, with others after them"


def _columns(problem: Problem) -> list[tuple[str, tuple[int, int, int]]]:
    """Layouts of the argument in which numbers lie side by side that belong to different results."""
    shape = problem.anchor.args[0].shape
    found = []
    for text in LAYOUTS.get(len(shape), ("",)):
        sizes = by_columns.extents(problem, axes_of(problem.anchor), text)
        if sizes is not None and sizes[2] > 1 and sizes[0] < 65536:
            found.append((text, sizes))
    return found


def choices_lines(problem: Problem) -> Sequence[Choice]:
    lines = lines_of(problem, axes_of(problem.anchor))
    assert lines is not None
    return offer(LINES, problem, lines, 2 if problem.anchor.op == "ReduceLogSumExp" else 1)


def choices_columns(problem: Problem) -> Sequence[Choice]:
    gpu = problem.target.gpu
    assert gpu is not None
    parts = 2 if problem.anchor.op in ARG else 1
    return [
        c
        for text, sizes in _columns(problem)
        for c in by_columns.offer(COLUMNS, problem, by_columns.dealt(problem, gpu, sizes), text, parts)
    ]


def emit_lines(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ...reduce_stages import Reduction
    from .emit import folded_lines

    anchor = problem.anchor
    axes = tuple(sorted(axes_of(anchor)))
    count = prod(anchor.args[0].shape[a] for a in axes)

    def make(line: Any) -> Any:
        def element() -> Expr:
            return line.body.at(anchor.args[0], line.index())

        reduction = Reduction(anchor, count, element, line)
        return reduction.stages(), reduction.finish

    return folded_lines(problem, symbol, chosen(problem, choice, axes), len(axes), make, again=False)


def emit_columns(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ...reduce_stages import Reduction
    from .columns_emit import folded_columns

    anchor = problem.anchor
    axes = tuple(sorted(axes_of(anchor)))
    count = prod(anchor.args[0].shape[a] for a in axes)

    def make(kernel: Any) -> Any:
        reduction = Reduction(anchor, count, kernel.element, kernel)
        (stage,) = reduction.stages()
        return stage, reduction.finish

    columns = by_columns.chosen(problem, choice, axes)
    return folded_columns(problem, symbol, columns, by_columns.layout_of(choice), axes, make)


_CUDA = frozenset({"CUDA"})
kernel(Row(LINES, OPERATORS, match_lines, choices_lines, emit_lines, "reductions over the last axes", isa=_CUDA))
kernel(
    Row(
        COLUMNS,
        OPERATORS,
        match_columns,
        choices_columns,
        emit_columns,
        "reductions of neighbouring columns",
        isa=_CUDA,
    )
)
