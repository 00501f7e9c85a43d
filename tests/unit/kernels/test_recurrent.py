"""The recurrent row gives the meaning of Edgec.RNN, Edgec.GRU and Edgec.LSTM: any sizes, types and attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import run
from edgec.compiler.ops.recurrence import ACTIVATIONS, GATES
from edgec.compiler.registry import ROWS, Problem, laid_out
from tests.support.harness import compare, execute, one


def problem(
    op: str,
    steps: int,
    batch: int,
    hidden: int,
    *,
    kind: str = "f32",
    weights: str = "",
    lengths: bool = False,
    where: str = "x86-avx512",
    threads: int = 1,
    **attrs: Any,
) -> Problem:
    """A recurrence in the layouts of the row's first choice."""
    name = f"Edgec.{op}"
    d, gates = len(attrs.get("reverse", (0,))), GATES[name]
    state = f"{kind}[{d}, {batch}, {hidden}]"
    kinds = [f"{kind}[{steps}, {batch}, {d * gates * hidden}]", f"{weights or kind}[{d}, {hidden}, {gates}, {hidden}]"]
    kinds += [state, *([f"{kind}[{d}, {hidden}]"] if op == "GRU" else []), *([state] if op == "LSTM" else [])]
    kinds += [f"{kind}[{d}, 3, {hidden}]"] if attrs.get("peepholes") else []
    kinds += [f"i32[{batch}]"] if lengths else []
    p = one(name, *kinds, where=where, threads=threads, **attrs)
    choice = ROWS["recurrent"].choices(p)[0]
    layouts = [layout or "" for layout in choice.layouts_in]
    return Problem(laid_out(p.body, layouts, choice.layouts_out), p.target, threads)


def arguments(p: Problem) -> list[Any]:
    """Numbers of moderate size: R's rows have unit length, lengths are in and out of range."""
    rng, found = np.random.default_rng(5), []
    for v in p.body.inputs:
        if v.type.dtype == "i32":
            found.append(np.resize(np.asarray([2, 0, 99, -3, 1], np.int32), v.shape))
        else:
            scale = 1 / np.sqrt(v.shape[1]) if len(v.shape) == 4 else 1.0
            found.append((scale * rng.uniform(-1.5, 1.5, v.shape)).astype(dtype(v.type.dtype).numpy))
    return found


def check(folder: Path, *sizes: Any, **settings: Any) -> None:
    p = problem(*sizes, **settings)
    given = arguments(p)
    for have, want in zip(execute(p, "recurrent", given, folder), run(p.body, given), strict=True):
        compare(have, want, 2e-6)


@pytest.mark.parametrize("hidden", [1, 3, 16, 21, 64, 100])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_any_hidden_size(op: str, hidden: int, tmp_path: Path) -> None:
    check(tmp_path, op, 3, 1, hidden)


@pytest.mark.parametrize("batch", [2, 7, 13])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_rows_share_the_weights_and_tasks_the_rows(op: str, batch: int, tmp_path: Path) -> None:
    check(tmp_path, op, 2, batch, 40, threads=3, where="x86")


@pytest.mark.parametrize("reverse", [(1,), (0, 1), (1, 0), (1, 1)])
def test_directions(reverse: tuple[int, ...], tmp_path: Path) -> None:
    check(tmp_path, "GRU", 4, 2, 5, reverse=reverse, linear_before_reset=1)


@pytest.mark.parametrize("reverse", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_sequences_end_early(op: str, reverse: tuple[int, ...], tmp_path: Path) -> None:
    check(tmp_path, op, 4, 5, 18, reverse=reverse, lengths=True)


def test_nobody_reads_every_state(tmp_path: Path) -> None:
    check(tmp_path, "LSTM", 1, 1, 32, sequence=0)
    check(tmp_path, "RNN", 3, 2, 8, sequence=0, lengths=True)


def test_attributes_of_one_operator(tmp_path: Path) -> None:
    check(tmp_path, "GRU", 3, 2, 19, linear_before_reset=1)
    check(tmp_path, "LSTM", 3, 2, 19, peepholes=1, reverse=(0, 1))
    check(tmp_path, "LSTM", 3, 2, 19, peepholes=1, input_forget=1, lengths=True)


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_every_activation_with_its_parameters_and_a_limit(function: str, tmp_path: Path) -> None:
    check(tmp_path, "RNN", 3, 2, 9, activations=(function,), alpha=(0.3,), beta=(0.6,))
    activations = (function, "Sigmoid", function)
    check(tmp_path, "LSTM", 2, 1, 9, activations=activations, alpha=(0.7, 0.0, 0.4), beta=(0.2, 0.0, -0.3), clip=0.8)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_element_types(op: str, tmp_path: Path) -> None:
    check(tmp_path, op, 3, 3, 21, kind="f64")
    for weights in ("f16", "bf16"):
        check(tmp_path, op, 3, 3, 21, weights=weights)
    check(tmp_path, op, 3, 1, 21, where="x86", weights="f16")


def test_infinite_sums_saturate_and_nan_stays_in_its_row(tmp_path: Path) -> None:
    p = problem("LSTM", 2, 3, 16)
    given = arguments(p)
    given[0][:, 0] = np.inf
    given[0][:, 1] = -np.inf
    given[0][0, 2] = np.nan
    for have, want in zip(execute(p, "recurrent", given, tmp_path), run(p.body, given), strict=True):
        np.testing.assert_allclose(have, want, atol=1e-6)


def test_tiles_fill_the_registers_and_repeat_no_work() -> None:
    offers = ROWS["recurrent"].choices(problem("LSTM", 9, 1, 256))
    assert all(4 * c.get("nv") + 2 <= 32 for c in offers)
    (best,) = {c.get("rows") for c in ROWS["recurrent"].choices(problem("LSTM", 9, 8, 256))[:1]}
    assert best == 4, "eight sequences are two tiles of four"
    shared = ROWS["recurrent"].choices(problem("LSTM", 9, 8, 256, threads=2))[0]
    assert shared.get("each") == 4, "two workers take half of the sequences each"
    both = ROWS["recurrent"].choices(problem("LSTM", 9, 8, 256, threads=2, reverse=(0, 1)))[0]
    assert both.get("each") == 8, "two directions are two tasks"


def test_longer_sequences_and_wider_states_cost_more() -> None:
    def cost(steps: int, hidden: int) -> float:
        return ROWS["recurrent"].choices(problem("GRU", steps, 1, hidden))[0].cost_us

    assert cost(20, 64) > 1.9 * cost(10, 64) and cost(10, 512) > 30 * cost(10, 64)
