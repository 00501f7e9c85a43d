"""The GPU's row for recurrence gives the operators' meaning under emulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler import interpret
from edgec.compiler import op as ops
from edgec.compiler.ir import Graph
from edgec.compiler.registry import Problem
from tests.support.cuda_rows_run import GPU, arrays_for, offers, results, value


def recurrence(
    op: str, steps: int, batch: int, hidden: int, lengths: bool = False, weights: str = "f32", **attrs: Any
) -> Problem:
    d, gates = len(attrs.get("reverse", (0,))), {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    inputs = [value("f32", steps, batch, d * gates * hidden), value(weights, d, hidden, gates, hidden)]
    inputs.append(value("f32", d, batch, hidden))
    inputs += [value("f32", d, hidden)] if op == "GRU" else []
    inputs += [value("f32", d, batch, hidden)] if op == "LSTM" else []
    inputs += [value("f32", d, 3, hidden)] if attrs.get("peepholes") else []
    inputs += [value("i32", batch)] if lengths else []
    node = ops.build(f"Edgec.{op}", *inputs, **attrs).node
    return Problem(Graph("body", tuple(inputs), tuple(node.results)), GPU)


RECURRENCES: list[dict[str, Any]] = [
    {"op": "RNN", "steps": 3, "batch": 2, "hidden": 5},
    {"op": "LSTM", "steps": 1, "batch": 1, "hidden": 70},
    {"op": "LSTM", "steps": 4, "batch": 2, "hidden": 40, "peepholes": 1, "reverse": (0, 1)},
    {"op": "LSTM", "steps": 3, "batch": 3, "hidden": 33, "lengths": True, "input_forget": 1, "weights": "f16"},
    {"op": "GRU", "steps": 1, "batch": 1, "hidden": 64},
    {"op": "GRU", "steps": 5, "batch": 3, "hidden": 48, "lengths": True, "reverse": (1, 0)},
    {"op": "GRU", "steps": 3, "batch": 1, "hidden": 300, "linear_before_reset": 1, "sequence": 0},
]


@pytest.mark.parametrize("case", RECURRENCES, ids=lambda c: "-".join(map(str, c.values())))
def test_recurrence(case: dict[str, Any]) -> None:
    of = recurrence(**case)
    arrays = arrays_for(of)
    arrays[1] = (arrays[1] / np.sqrt(case["hidden"])).astype(arrays[1].dtype)
    if case.get("lengths"):
        arrays[-1] = np.resize(np.asarray([2, 0, 99], np.int32), arrays[-1].shape)
    (choice,) = offers(of, "recurrent_block__cuda")
    for got, want in zip(results(of, choice, arrays), interpret.run(of.body, arrays), strict=True):
        np.testing.assert_allclose(got, want, 1e-5, 1e-5)


def test_recurrence_does_not_race() -> None:
    of = recurrence("GRU", 3, 1, 40)
    (choice,) = offers(of, "recurrent_block__cuda")
    results(of, choice, arrays_for(of), check="race")
