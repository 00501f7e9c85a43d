"""generic_other: CumSum and CumProd, running totals along one axis; vectors lie along the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.layout import layout, physical_shape
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .generic_choice import choices, fold_us, one_anchor

if TYPE_CHECKING:
    from .generic_nest import Region


def match(problem: Problem) -> Literal[True] | str:
    if problem.body.outputs[0].type.layout:
        return "writes row-major only"
    return one_anchor(problem, same_shape=True)


def offers(problem: Problem) -> Sequence[Choice]:
    return choices("generic_other", problem, fold_us(problem, 8 * problem.anchor.types[0].size), blocked=False)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .generic_kernel import kernel_function

    return kernel_function(problem, symbol, lambda io: _region(problem, io))


def _region(problem: Problem, io: Any) -> Region:
    from .. import tir
    from ..conversions import narrow, widen
    from ..tir import lit
    from .generic_kernel import logical
    from .generic_nest import Nest
    from .reduce_stages import computed_in

    anchor, out = problem.anchor, problem.body.outputs[0].type
    attrs: Any = full_attrs(anchor)
    axis = attrs["axis"] % len(out.shape)
    kind = computed_in(anchor.types[0].dtype)
    lay = layout(out.layout, len(out.shape))
    along = [k for k, a in enumerate([*lay.order, *(a for a, _ in lay.blocks)]) if a == axis]
    space = io.space([(0, n) for n in physical_shape(out)], within=along)
    total, alloc = tir.local((problem.target.cpu.lanes(32),), kind)

    def at() -> Any:
        index = logical(out, space.loops)
        if attrs["reverse"]:
            index = (*index[:axis], out.shape[axis] - 1 - index[axis], *index[axis + 1 :])
        return index

    def step(v: Any) -> Any:
        index = at()
        x = narrow(widen(space.body.at(anchor.args[0], index)), kind)
        held = narrow(tir.load(total, v), dtype(anchor.types[0].dtype).tvm)
        space.body.bind(Value(anchor), lambda _: held)
        write = [io.store(space, o, space.body.at(o, index), index) for o in dict.fromkeys(problem.body.outputs)]
        old = tir.load(total, v)
        fold = tir.store(total, old * x if anchor.op == "CumProd" else old + x, v)
        return tir.seq(write, fold) if attrs["exclusive"] else tir.seq(fold, write)

    def scan(points: Any) -> Any:
        def turns(groups: Any, point: Any) -> Any:
            if not groups:
                return point(step)

            def turn(x: Any) -> Any:
                space.body.limit(x, groups[0].extent) if groups[0].extent > 1 else None
                space.set(groups[0], x)
                return turns(groups[1:], point)

            return tir.loop(groups[0].extent, turn)

        folds = [g for g in space.groups if g.fold]
        first = lit(1 if anchor.op == "CumProd" else 0, kind)
        return tir.seq([tir.seq(alloc, p(lambda v: tir.store(total, first, v)), turns(folds, p)) for p in points])

    space.trace(lambda: step(tir.i32(0)), merge=False)
    order = [g for g in space.groups if not g.fold]
    return Nest(space, order, problem.target.cpu.lanes(32)).run(scan, problem.threads, out.shape[axis])


kernel(Row("generic_other", frozenset({"CumSum", "CumProd"}), match, offers, emit, "running totals"))
