"""Convolutions of floats with what follows them, as problems for kernel rows, which must give their meaning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Array, Graph, Node, Type, Value
from edgec.compiler.registry import Choice, Problem
from edgec.compiler.target import Target


@dataclass(frozen=True)
class Case:
    x: tuple[int, ...]
    outputs: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    group: int = 1
    then: str = ""  # epilogue: Relu, Sigmoid, Clip, Add (a residual), Mul (one factor per channel); "+": SiLU before it

    def problem(self, on: Target, threads: int = 1) -> Problem:
        shapes = [self.x, (self.outputs, self.x[1] // self.group, *self.kernel), (self.outputs,)]
        inputs = [Value(Node("Input", (), (Type("f32", s),), {}, f"a{i}")) for i, s in enumerate(shapes)]
        attrs = {"strides": self.strides, "pads": self.pads, "dilations": self.dilations, "group": self.group}
        y = ops.build("Conv", *inputs, **attrs)
        if self.then.startswith("+"):
            y = ops.build("Mul", y, ops.build("Sigmoid", y))
        then = self.then.removeprefix("+")
        if then in ("Add", "Mul"):
            shape = y.shape if then == "Add" else (self.outputs,) + (1,) * len(self.kernel)
            inputs.append(Value(Node("Input", (), (Type("f32", shape),), {}, "other")))
            y = ops.build(then, y, inputs[-1])
        if then == "Clip":
            y = ops.build("Clip", y, min=0.0, max=0.5)
        elif then in ("Relu", "Sigmoid"):
            y = ops.build(then, y)
        return Problem(Graph("body", tuple(inputs), (y,)), on, threads, frozenset({1, 2}))


def arrays_for(problem: Problem) -> list[Array]:
    rng = np.random.default_rng(7)
    return [rng.standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]


def check(problem: Problem, offers: list[Choice], parts: int = 2) -> None:
    from edgec.targets.measure import Measured

    arrays = arrays_for(problem)
    want = run(problem.body, arrays)[0]
    for choice in offers:
        got = Measured(problem, choice, arrays).run(parts=parts)
        np.testing.assert_allclose(
            got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max(), err_msg=f"{choice} {choice.layouts_in}"
        )
