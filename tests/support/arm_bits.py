"""Kernels for AArch64 on bytes beside the interpreter, bit for bit, under an emulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgec.compiler.interpret import run
from edgec.compiler.op import const
from edgec.compiler.registry import ROWS, Problem
from edgec.compiler.rescale.bounds import reach
from edgec.compiler.rescale.once import CENTER, POWER_BITS
from tests.support.byte_convolutions import convolution
from tests.support.emulated import emulate
from tests.support.integers import numbers

CORES = {"sdot": ("rpi5", "cortex-a76"), "smmla": ("arm-i8mm", "max"), "smull": ("arm", "cortex-a53")}
FULL = {"to": "i8", "zero": -7, "low": -128, "high": 127}


def conv(method: str, x: str, w: str, then: str = "rescale", **given: Any) -> Problem:
    """With what follows, which may be `rectified` before it: limited to real numbers of 0 and more."""
    if then.startswith("rectified"):
        then = then.removeprefix("rectified").strip() or "rescale"
        given["limits"] = (FULL["zero"], FULL["zero"], FULL["high"])
    return convolution(CORES[method][0], x, w, then, **given)


def arrays_of(problem: Problem) -> Sequence[Any]:
    arrays = numbers([v.type for v in problem.body.inputs])
    for a in arrays:
        if a.dtype == np.int8 and a.ndim > 1:  # runs of the extremes, of which sums of 16 bits would not hold two
            a.reshape(-1)[: a.size // 3] = -128
    for node in problem.body.nodes():
        if node.op == "Edgec.RescaleOnce" and len(node.args) > 2:
            begin_as_floats(*arrays[2:5])
        elif node.op == "Edgec.RescaleOnce":
            arrays[3][:] = (0.0037 * (1 + abs(arrays[3].astype(np.float32)) % 1)).astype(arrays[3].dtype)
    return arrays


def begin_as_floats(bias: Any, factor: Any, addend: Any) -> None:
    """Sums start in the middle of the floats whose lowest bits hold integers, and so do their results."""
    bias[:] = POWER_BITS + (1 << 22) + bias % 1000
    factor[:] = np.float32(0.0037) * (1 + abs(factor) % 1)
    addend[:] = CENTER + 3 - np.rint(3.0 * (1 << 22) * factor.astype(np.float64))


def with_constants(problem: Problem) -> Problem:
    """The same with weights that are known when it is compiled."""
    known = [i for i, v in enumerate(problem.body.inputs) if v in problem.anchor.args[1:2]]
    return replace(problem, constants=frozenset(known))


def same_bits(problem: Problem, row: str, method: str, folder: Path, kept: int = 1) -> None:
    problem = with_constants(problem)
    accepted = ROWS[row].accepts(problem)
    assert accepted is True, accepted
    arrays = arrays_of(problem)
    want = run(problem.body, arrays)[0]
    known = replace(problem, reach=reach(problem.body, [const(a) for a in arrays]))
    offered = [*ROWS[row].choices(problem)[:kept], *ROWS[row].choices(known)[:1]]
    for choice in dict.fromkeys(replace(c, cost_us=0.0) for c in offered):
        np.testing.assert_array_equal(emulate(problem, choice, arrays, folder, CORES[method][1]), want, str(choice))
