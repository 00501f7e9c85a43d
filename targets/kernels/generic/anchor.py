"""Kernels around one folding anchor: from an output's position to the anchor's, the folded loops, the stores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.layout import layout
from edgec.compiler.registry import Emitted, Problem

from ... import tir
from ...body import Body
from ...conversions import held, narrow
from ...tir import Expr, Index, Stmt
from .breaks import boxes, breaks
from .choice import vector_lanes
from .fold import KEPT, SLOTS, Fold
from .kernel import Kernel, kernel_function, logical
from .nest import Region, joined
from .space import Flat, Space
from .stage import Kept, Prior, Stage


@dataclass
class Context:
    """What an anchor's stages are built from, at the current positions."""

    problem: Problem
    space: Space
    folds: tuple[tuple[int, int], ...]  # (extent, block) of each folded axis beside the output's
    axes: tuple[int, ...]  # folded axes of the output itself

    @property
    def body(self) -> Body:
        return self.space.body

    def output_index(self) -> Index:
        return logical(self.problem.body.outputs[0].type, self.space.dims)

    def index(self) -> Index:
        """The anchor's index at the current output position."""
        anchor, end = self.problem.anchor, self.problem.body.outputs[0]
        if end.node is anchor:
            return self.output_index()
        seen: list[Index] = []
        stand_in = tir.lit(1, held(anchor.types[0].dtype))

        def note(index: Index) -> Expr:
            seen.append(index)
            return stand_in

        self.body.bind(Value(anchor), note)
        self.body.at(end, self.output_index())
        return seen[0] if seen else (0,) * len(anchor.types[0].shape)

    def positions(self) -> tuple[Expr, ...]:
        """Positions in the folded axes."""
        loops = self.space.loops[len(self.space.loops) - 2 * len(self.folds) :]
        return tuple(
            loops[2 * k].at * b + loops[2 * k + 1].at if b > 1 else loops[2 * k].at
            for k, (_, b) in enumerate(self.folds)
        )

    def guard(self, x: Expr, identity: Expr) -> Expr:
        """`x` where the folded positions exist, the identity in the padding of blocks."""
        for (n, block), at in zip(self.folds, self.positions(), strict=True):
            if n % block:
                x = self.body.choose(at < n, x, identity)
        out = self.problem.body.outputs[0].type
        lay = layout(out.layout, len(out.shape))
        for axis in self.axes:
            if out.shape[axis] % lay.block(axis):
                x = self.body.choose(self.output_index()[axis] < out.shape[axis], x, identity)
        return x


Make = Callable[[Context], tuple[list[Stage], Callable[[Prior], Expr]]]


def folded_kernel(
    problem: Problem,
    symbol: str,
    folds: Sequence[tuple[int, int]],
    make: Make,
    *,
    axes: Collection[int] = (),
    tile: int = 1,
    unroll: int = 1,
    split: tuple[int, int] = (-1, 1),
) -> Emitted:
    """`folds`: (extent, block) of folded loops; `axes`: folded axes of the output, then written at each of them;
    `split`: a dimension of the output, in memory, that has two loops, and the extent of the inner one."""
    outputs = problem.body.outputs
    out = outputs[0].type
    lay = layout(out.layout, len(out.shape))
    order = [*lay.order, *(a for a, _ in lay.blocks)]
    within = [k for k, a in enumerate(order) if a in axes]
    cuts = breaks(outputs[0], frozenset(problem.body.inputs))

    def regions(io: Kernel) -> Region:
        result = []
        for box in boxes(out, cuts):
            extents = [e for n, b in folds for e in (-(-n // b), b)]
            space = io.space(box, extents, within, split=split)
            context = Context(problem, space, tuple(folds), tuple(axes))
            stages, finish = make(context)
            write = _writer(io, context, finish)
            several = (1, 1) if problem.target.gpu or problem.target.small else (unroll, tile)
            slots = 1 if problem.target.small else SLOTS
            kept = 0 if problem.target.gpu or problem.target.microcontroller else KEPT
            beside = _in_output(io, context) if axes and kept else None
            fold = Fold(space, stages, write, bool(axes), vector_lanes(problem), *several, slots, kept, beside)
            result.append(fold.region(problem.threads))
        return joined(result)

    return kernel_function(problem, symbol, regions)


def _in_output(io: Kernel, context: Context) -> Kept | None:
    """The anchor's result as the place of a row's terms, which it takes one by one: where it is all that is written."""
    ((value, buffer), *more) = io.outputs
    if more or value.node is not context.problem.anchor or value.type.dtype != "f32" or value.type.layout:
        return None
    place = Flat(value.type, buffer, context.space)
    return Kept(lambda x: place.store(x, context.output_index()), lambda: place.load(context.output_index()))


def _writer(io: Kernel, context: Context, finish: Callable[[Prior], Expr]) -> Callable[[Prior], Stmt]:
    anchor = context.problem.anchor

    def write(prior: Prior) -> Stmt:
        index = context.output_index()
        value = narrow(finish(prior), dtype(anchor.types[0].dtype).tvm)
        context.body.bind(Value(anchor), lambda _: value)
        outputs = dict.fromkeys(context.problem.body.outputs)
        return tir.seq([io.store(context.space, v, context.body.at(v, index), index) for v in outputs])

    return write


def block_of(problem: Problem, value: Value, axis: int) -> int:
    """The block in which the inputs of a value's shape store an axis."""
    sizes = [layout(v.type.layout, len(v.shape)).block(axis) for v in problem.body.inputs if v.shape == value.shape]
    return max(sizes, default=1)
