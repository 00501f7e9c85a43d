"""Converters of RNN, GRU and LSTM: the input's products for all steps as one matrix product, then the recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from ..errors import EdgecError
from ..ir import Attr, Value
from ..op import const_array, is_const
from ..ops.recurrence import ACTIVATIONS, GATES, PARAMETERS, USUAL
from .context import Context
from .table import Refused, Result, converts

REVERSE = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}


@converts("RNN", "GRU", "LSTM")
def recurrence(c: Context) -> Result:
    """Numbers narrower than f32 are computed in f32 and rounded where they leave; R may stay as it is."""
    recurrent = _Recurrent(c)
    every, last = recurrent.results()
    if every is not None:
        every = c.cast(c.transpose(every, (2, 0, 1, 3) if recurrent.by_batch else (0, 1, 2, 3)), c.dtype)
    return (every, *(c.cast(recurrent.turned(v), c.dtype) for v in last))


class _Recurrent:
    """A node under conversion: its sizes, and its arguments as the canonical operators take them."""

    def __init__(self, c: Context) -> None:
        self.c = c
        self.op = f"Edgec.{c.op}"
        self.gates = GATES[self.op]
        self.wide = "f64" if c.dtype == "f64" else "f32"
        self.by_batch = bool(c.attr("layout", 0))
        direction = str(c.attr("direction", "forward"))
        if direction not in REVERSE:
            raise EdgecError(f"{c.where}: direction {direction!r} is unknown; expected one of {', '.join(REVERSE)}")
        self.reverse = REVERSE[direction]
        self.directions = len(self.reverse)
        if c.rank != 3:
            raise EdgecError(f"{c.where}: X is {c.arg().type}; expected three axes")
        self.hidden = c.arg(2).shape[-1] if c.arg(2).shape else 0
        if int(c.attr("hidden_size", self.hidden)) != self.hidden:
            raise EdgecError(f"{c.where}: hidden_size is {c.attr('hidden_size')}; R is {c.arg(2).type}")
        inputs, wide = c.shape[2], self.gates * self.hidden
        self.steps, self.batch = c.shape[:2][:: -1 if self.by_batch else 1]
        self._expect(1, "W", (self.directions, wide, inputs))
        self._expect(2, "R", (self.directions, wide, self.hidden))
        self._expect(3, "B", (self.directions, 2 * wide))
        self._expect(4, "sequence_lens", (self.batch,))
        for k, name in ((5, "initial_h"), (6, "initial_c")):
            state = (self.directions, self.batch, self.hidden)
            self._expect(k, name, (state[1], state[0], state[2]) if self.by_batch else state)
        self._expect(7, "P", (self.directions, 3 * self.hidden))

    def _expect(self, index: int, name: str, shape: tuple[int, ...]) -> None:
        c = self.c
        if c.has(index) and c.arg(index).shape != shape:
            raise EdgecError(f"{c.where}: {name} is {c.arg(index).type}; expected shape {list(shape)}")

    def turned(self, state: Value) -> Value:
        """A state with its first two axes as the other side has them."""
        return self.c.transpose(state, (1, 0, 2) if self.by_batch else (0, 1, 2))

    def results(self) -> tuple[Value | None, Sequence[Value]]:
        """Every h, None where nobody reads it, and the last states."""
        c, op = self.c, self.c.op
        states = [self._state(5 + k) for k in range(2 if op == "LSTM" else 1)]
        if not self.steps:
            shape = (self.directions, self.batch, self.hidden)
            last = [c.const(np.zeros(shape), like=self.wide) for _ in states]
            return c.const(np.zeros((0, *shape)), like=self.wide), last
        bias, hidden_bias = self._biases()
        weights = c.reshape(c.arg(2), (self.directions, self.gates, self.hidden, self.hidden))
        args = [self._products(bias), c.transpose(weights, (0, 3, 1, 2)), states[0]]
        args += [hidden_bias] if op == "GRU" else states[1:]
        attrs: dict[str, Attr] = {"sequence": int(c.wants(0))}
        if op == "LSTM":
            attrs |= {"input_forget": int(c.attr("input_forget", 0)), "peepholes": int(c.has(7))}
            args += [c.reshape(c.cast(c.arg(7), self.wide), (self.directions, 3, self.hidden))] if c.has(7) else []
        if op == "GRU":
            attrs["linear_before_reset"] = int(bool(c.attr("linear_before_reset", 0)))
        args += [c.cast(c.arg(4), "i32")] if c.has(4) else []
        found = self._run(args, attrs)
        return (found[0], found[1:]) if c.wants(0) else (None, found)

    def _state(self, index: int) -> Value:
        if self.c.has(index):
            return self.turned(self.c.cast(self.c.arg(index), self.wide))
        return self.c.const(np.zeros((self.directions, self.batch, self.hidden)), like=self.wide)

    def _biases(self) -> tuple[Value | None, Value]:
        """What is added to the input's products, and for GRU what the reset gate multiplies too."""
        c, wide = self.c, self.gates * self.hidden
        zeros = c.const(np.zeros((self.directions, self.hidden)), like=self.wide)
        if not c.has(3):
            return None, zeros
        given = c.cast(c.arg(3), self.wide)

        def part(first: int, last: int) -> Value:
            return c.emit("Slice", given, starts=(first,), ends=(last,), axes=(1,), steps=(1,))

        if c.op != "GRU" or not c.attr("linear_before_reset", 0):
            return c.emit("Add", part(0, wide), part(wide, 2 * wide)), zeros
        shared = 2 * self.hidden
        both = c.emit("Add", part(0, shared), part(wide, wide + shared))
        return c.emit("Concat", both, part(shared, wide), axis=1), part(wide + shared, 2 * wide)

    def _products(self, bias: Value | None) -> Value:
        """X W' and the bias, [steps, batch, directions * gates * hidden]."""
        c = self.c
        x = c.cast(c.transpose(c.arg(0), (1, 0, 2) if self.by_batch else (0, 1, 2)), self.wide)
        columns = self.directions * self.gates * self.hidden
        weights = c.transpose(c.reshape(c.cast(c.arg(1), self.wide), (columns, c.shape[2])), (1, 0))
        product = c.reshape(x, (self.steps * self.batch, c.shape[2]))
        if not _changes_nothing(weights):
            product = c.emit("MatMul", product, weights)
        if bias is not None:
            product = c.emit("Add", product, c.reshape(bias, (columns,)))
        return c.reshape(product, (self.steps, self.batch, columns))

    def _run(self, args: Sequence[Value], attrs: dict[str, Attr]) -> tuple[Value, ...]:
        """One operator, or where the directions differ in their activations one for each."""
        c, functions = self.c, self._functions()
        clip = float(c.attr("clip", inf))
        if clip < 0:
            raise EdgecError(f"{c.where}: clip is {clip}; expected a limit, not below 0")
        attrs["clip"] = clip
        if all(each == functions[0] for each in functions):
            return c.emit_all(self.op, *args, reverse=self.reverse, **functions[0], **attrs)
        found = [
            c.emit_all(self.op, *self._of_direction(args, d), reverse=(self.reverse[d],), **each, **attrs)
            for d, each in enumerate(functions)
        ]
        every = [1] if attrs["sequence"] else []  # the axis of directions
        axes = [*every, *(0 for _ in found[0][len(every) :])]
        results = zip(zip(*found, strict=True), axes, strict=True)
        return tuple(c.emit("Concat", *parts, axis=axis) for parts, axis in results)

    def _of_direction(self, args: Sequence[Value], d: int) -> list[Value]:
        """What one direction needs of the arguments of all."""
        wide = self.gates * self.hidden
        mine = []
        for k, arg in enumerate(args):
            axis, size = (2, wide) if k == 0 else (0, 1)
            parted = arg.type.dtype != "i32"
            bounds: dict[str, Attr] = {"starts": (d * size,), "ends": ((d + 1) * size,), "axes": (axis,), "steps": (1,)}
            mine.append(self.c.emit("Slice", arg, **bounds) if parted else arg)
        return mine

    def _functions(self) -> list[dict[str, Attr]]:
        """Activations with their parameters, for each direction.

        ONNX lists the parameters in the order of the activations: each takes as many as it has.
        """
        c, count = self.c, len(USUAL[self.op])
        given = [str(n.decode() if isinstance(n, bytes) else n) for n in c.attr("activations") or ()]
        names = given or list(USUAL[self.op]) * self.directions
        if c.op == "RNN" and self.directions == 1:
            names = names[:1]  # its default names two, whatever the direction
        if len(names) != count * self.directions:
            raise EdgecError(f"{c.where}: has {len(names)} activations; expected {count * self.directions}")
        alphas, betas = (list(c.attr(key) or ()) for key in ("activation_alpha", "activation_beta"))
        known = {name.lower(): name for name in ACTIVATIONS}
        found: list[tuple[str, float, float]] = []
        for name in names:
            if name.lower() not in known:
                raise Refused(f"its activation {name!r} is unknown", f"expected one of {', '.join(ACTIVATIONS)}")
            usual = PARAMETERS.get(known[name.lower()], ())
            alpha = float(alphas.pop(0) if len(usual) > 0 and alphas else (*usual, 0.0)[0])
            beta = float(betas.pop(0) if len(usual) > 1 and betas else (*usual, 0.0, 0.0)[1])
            found.append((known[name.lower()], alpha, beta))
        keys, parts = ("activations", "alpha", "beta"), range(0, len(found), count)
        return [dict(zip(keys, zip(*found[at : at + count], strict=True), strict=True)) for at in parts]


def _changes_nothing(matrix: Value) -> bool:
    """Whether it is constant ones and zeros that give back each row, as in nodes whose products come before them."""
    if len(set(matrix.shape)) > 1 or not is_const(matrix):
        return False
    return bool(np.array_equal(const_array(matrix), np.eye(matrix.shape[0])))
