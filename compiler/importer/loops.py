"""Loop, and what a Scan becomes: a few turns are written out one by one; many, or a computed number, make a Loop.

Writing out needs a constant number of turns, and a condition that is constant in each; it is the only way for loops
that carry sequences or values whose shape changes. What does not depend on the turn stands before the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from ..dtypes import dtype
from ..ir import Value
from ..op import const_array, is_const
from ..ops.control import INDEX
from .bodies import closed, dependents, outer_values
from .context import Context, Held, Unknown
from .convert import Walk
from .selection import source
from .sized.sizes import most
from .table import CONTROL, Count, Refused
from .turns import counted_turns

ENDLESS = 2**62  # turns of a loop that only its condition ends
WRITTEN_OUT = 512  # nodes of all turns together
MOST_TURNS = 1000  # where writing out is the only way
Results = Sequence["Held | Unknown | None"]


@dataclass(frozen=True)
class Sliced:
    """A value of which each turn reads one slice along an axis; `back`: the last one first."""

    value: Value
    axis: int
    back: bool


@dataclass(frozen=True)
class Form:
    """A loop, whichever operator it was. `counted`: its body takes number and condition, and gives a condition, which
    is nothing new where the number of turns was found from it: `settled`."""

    walk: Walk
    node: gs.Node
    context: Context
    turns: Value
    condition: Value
    carried: Sequence[Held]
    sliced: Sequence[Sliced]
    stacks: Sequence[tuple[int, bool]]  # axis and direction of each stacked result
    counted: bool
    settled: bool = False

    @property
    def body(self) -> gs.Graph:
        return self.node.attrs["body"]

    @property
    def limit(self) -> int | None:
        """The greatest number of turns, where that is known."""
        if self.turns in self.walk.sizes and self.exact is None:
            return most(self.walk.sizes[self.turns])
        return self.exact

    @property
    def exact(self) -> int | None:
        """The number of turns that a constant condition leaves, where that is known."""
        if is_const(self.condition) and not np.all(const_array(self.condition)):
            return 0
        turns = max(int(const_array(self.turns)), 0) if is_const(self.turns) else ENDLESS
        return turns if turns < ENDLESS else None

    def turn(self, index: Value, carried: Sequence[Held]) -> tuple[Held | Unknown, Results, Results]:
        """(condition, carried, stacked) after a turn."""
        c, walk = self.context, self.walk
        taken = walk.publish(c, [self._slice(s, index) for s in self.sliced])
        head = [index, self.constant(np.bool_(True))] if self.counted else []
        names = [t.name for t in self.body.inputs]
        values = dict(zip(names, [*head, *carried, *tensors(taken)], strict=True))
        results = walk.branch(self.body, values)
        ended = results.pop(0) if self.counted else self.condition
        condition = self.condition if self.settled else ended
        for value in results[len(carried) :]:
            if isinstance(value, Value):
                walk.must_be_fixed(value, "a result that it stacks")
        return condition, results[: len(carried)], results[len(carried) :]

    def counting(self) -> Form:
        """The loop with the number of its turns, where a condition ends it that counts."""
        starts = is_const(self.condition) and is_const(self.turns)
        if self.exact == 0 or not starts or not self.counted:
            return self
        turns = counted_turns(self.walk, self.body, self.carried, self.exact, self.constant)
        return self if turns is None else replace(self, turns=self.constant(np.int64(turns)), settled=True)

    def constant(self, value: npt.ArrayLike) -> Value:
        made = self.context.const(value)
        return tensors(self.walk.publish(self.context, [made]))[0]

    def stacked(self, values: Sequence[Value], k: int) -> Value:
        """Result k of all turns, joined along an axis of its own."""
        c, (axis, back) = self.context, self.stacks[k]
        at = c.in_rank(axis, len(values[0].shape) + 1)
        rows = [c.reshape(v, (*v.shape[:at], 1, *v.shape[at:])) for v in values]
        return rows[0] if len(rows) == 1 else c.emit("Concat", *(reversed(rows) if back else rows), axis=at)

    def empty(self, value: Value, k: int) -> Value:
        """What no turn stacks as result k, where each would have given `value`."""
        at = self.context.in_rank(self.stacks[k][0], len(value.shape) + 1)
        return self.constant(np.empty((*value.shape[:at], 0, *value.shape[at:]), dtype(value.type.dtype).numpy))

    def placed(self, value: Value, k: int) -> Value:
        """Result k of a Loop, turns first, in its direction and with the turns at its axis."""
        c, (axis, back) = self.context, self.stacks[k]
        at, turns = c.in_rank(axis, len(value.shape)), value.shape[0]
        if back and turns > 1:
            value = c.emit("Slice", value, starts=(turns - 1,), ends=(-1,), axes=(0,), steps=(-1,))
        return c.transpose(value, (*range(1, at + 1), 0, *range(at + 1, len(value.shape))))

    def _slice(self, s: Sliced, index: Value) -> Value:
        c, shape = self.context, s.value.shape
        rest = (*shape[: s.axis], *shape[s.axis + 1 :])
        last = shape[s.axis] - 1
        if is_const(index):
            at = last - int(const_array(index)) if s.back else int(const_array(index))
            return c.reshape(c.slice(s.value, s.axis, at, at + 1), rest)
        return c.emit(
            "Gather", s.value, c.emit("Sub", c.const(np.int64(last)), index) if s.back else index, axis=s.axis
        )


def loop(walk: Walk, node: gs.Node, context: Context) -> Results:
    turns = context.arg(0) if context.has(0) else context.const(np.int64(ENDLESS))
    condition = context.arg(1) if context.has(1) else context.const(np.bool_(True))
    turns, condition = context.cast(context.reshape(turns, ()), "i64"), context.reshape(condition, ())
    turns, condition = tensors(walk.publish(context, [turns, condition]))
    carried = [context.any(k) for k in range(2, len(context.args))]
    stacks = [(0, False)] * (len(node.attrs["body"].outputs) - 1 - len(carried))
    return converted(Form(walk, node, context, turns, condition, carried, (), stacks, counted=True))


def converted(form: Form) -> Results:
    """Few turns are written out; else a Loop, and where that cannot be, written out after all."""
    form = form.counting()
    limit, refused = form.exact, len(form.walk.refusals)
    few = limit is not None and limit * len(form.body.nodes) <= WRITTEN_OUT
    if few and (done := _written_out(form, limit or 0)) is not None:
        return done
    del form.walk.refusals[refused:]
    try:
        return _as_loop(form)
    except Refused:
        done = None if few or limit is None or limit > MOST_TURNS else _written_out(form, limit)
        if done is None:
            raise
        return done


def _written_out(form: Form, limit: int) -> Results | None:
    """All turns, one after the other; None where a condition is computed while the model runs."""
    carried: list[Held] = list(form.carried)
    condition: Held = form.condition
    turns: list[list[Value]] = []
    while len(turns) < max(limit, 1):
        if not isinstance(condition, Value) or not is_const(condition):
            return None
        runs = len(turns) < limit and bool(np.all(const_array(condition)))
        if turns and not runs:
            break
        after, kept, stacked = form.turn(form.constant(np.int64(len(turns))), carried)
        known = [v for v in (after, *kept, *stacked) if v is not None and not isinstance(v, Unknown)]
        if len(known) < 1 + len(kept) + len(stacked):
            return [Unknown()] * len(form.node.outputs)
        if not runs:  # no turn at all: this one only showed what would be stacked
            return [*carried, *(form.empty(v, k) for k, v in enumerate(tensors(known[1 + len(kept) :])))]
        condition, carried = known[0], known[1 : 1 + len(kept)]
        turns.append(tensors(known[1 + len(kept) :]))
    return [*carried, *(form.stacked([turn[k] for turn in turns], k) for k in range(len(form.stacks)))]


def _as_loop(form: Form) -> Results:
    """A node that owns the body. What does not depend on the turn is computed before it."""
    c, walk = form.context, form.walk
    if not all(isinstance(v, Value) for v in form.carried):
        raise Refused("it carries a sequence through turns whose number is not known", "expected a constant number")
    if form.stacks and form.limit is None:
        raise Refused(
            "it stacks a result of each turn, and nothing bounds their number", "--bind may make it a constant"
        )
    first = tensors(form.carried)
    for value in first:
        walk.must_be_fixed(value, f"{value.name!r}, which it carries,")
    index = walk.input(INDEX, f"{c.name}.turn")
    state, refused = [walk.input(v.type, v.name) for v in first], len(walk.refusals)
    after, kept, stacked = form.turn(index, state)
    same = {k for k, v in enumerate(kept) if v == state[k]}  # such values stand before the loop
    if same:
        del walk.refusals[refused:]
        after, kept, stacked = form.turn(index, [first[k] if k in same else v for k, v in enumerate(state)])
    known = [v for v in (after, *kept, *stacked) if isinstance(v, Value)]
    if len(known) < 1 + len(kept) + len(stacked):
        return [Unknown()] * len(form.node.outputs)
    for before, value in zip(first, known[1:], strict=False):
        walk.must_be_fixed(value, f"{before.name!r}, which it carries,")
        if str(before.type) != str(value.type):
            why = f"{before.name!r} is {before.type} at first and {value.type} after a turn"
            raise Refused(why, "expected the same type and shape in each turn")
    flag, rest = known[0], [v for k, v in enumerate(known[1:]) if k not in same]
    (flag,) = tensors(walk.publish(c, [c.reshape(flag, ())]))
    moving = [k for k in range(len(first)) if k not in same]
    inputs, outputs = (index, *(state[k] for k in moving)), (flag, *rest)
    outer = outer_values(outputs, dependents(inputs, outputs).__contains__)
    body = closed("body", inputs, outer, outputs, walk.copy)
    limit = -1 if form.limit is None else form.limit
    began = [first[k] for k in moving]
    turned, *results = c.emit_all(
        "Loop", form.turns, form.condition, *began, *outer, body=body, carried=len(began), limit=limit
    )
    last = dict(zip(moving, results, strict=False))
    ends = [form.placed(v, k) for k, v in enumerate(results[len(began) :])]
    if not all(map(is_const, (form.turns, form.condition, flag))):
        axes = (c.in_rank(axis, len(v.shape)) for v, (axis, _) in zip(ends, form.stacks, strict=True))
        ends = [c.sized(v, Count(axis, turned, source(c), zeros=True)) for v, axis in zip(ends, axes, strict=True)]
    return [*(last.get(k, v) for k, v in enumerate(first)), *ends]


def tensors(values: Sequence[Held | Unknown | None]) -> list[Value]:
    """The values, which all are tensors."""
    found = [v for v in values if isinstance(v, Value)]
    if len(found) < len(values):
        raise Refused("a sequence stands where a tensor is expected")
    return found


CONTROL["Loop"] = loop
