"""On calibration data a graph runs as it will be compiled, where that can run here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.calibration.runner import _here, running
from edgec.compiler.driver import compile_for
from edgec.compiler.memory import spread
from edgec.compiler.memory.regions import Region
from edgec.compiler.target import find_target
from edgec.compiler.text import parse
from edgec.targets import builder
from edgec.targets.tuner import why_not_here

GRAPH = """graph @tiny(%x: f32[1, 3, 8, 8]) {
  %w = Const() {data="randn:1"} : f32[16, 3, 3, 3]
  %b = Const() {data="randn:2"} : f32[16]
  %c = Conv(%x, %w, %b) {pads=[1, 1, 1, 1]} : f32[1, 16, 8, 8]
  %r = Relu(%c) : f32[1, 16, 8, 8]
  return %r
}
"""


def test_a_target_of_another_machine_is_this_one() -> None:
    assert [_here(one).name for one in (None, find_target("cortex-m4"), find_target("cuda"))] == ["host"] * 3


def test_what_fits_into_memory_does_not_matter() -> None:
    host = find_target("host")
    assert _here(replace(host, memory=(Region("ram", "ram", 16),))) == host


@pytest.mark.skipif(bool(why_not_here(find_target("x86"))), reason="for a CPU with AVX2")
def test_what_has_run_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_kept", {})
    graph, target = parse(GRAPH), find_target("x86")
    with running(graph, graph.outputs, like=target) as run:
        (answer,) = run({"x": np.ones((1, 3, 8, 8), np.float32)})
    assert answer.shape == (1, 16, 8, 8)
    known = set(builder._kept)
    assert known
    compile_for(replace(target, name="same"), graph, tmp_path / "out", 1)
    assert set(builder._kept) == known


def test_what_runs_on_calibration_data_alone_gets_no_search_for_a_small_arena(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    efforts = []

    def noted(*args: Any, **kwargs: Any) -> spread.Layout:
        efforts.append(args[2])
        return plan(*args, **kwargs)

    plan = spread.plan
    monkeypatch.setattr(spread, "plan", noted)
    graph = parse(GRAPH)
    with running(graph, graph.outputs):
        pass
    assert efforts and not any(efforts)
    efforts.clear()
    compile_for(find_target("host"), graph, tmp_path / "out", 1)
    assert efforts and all(efforts)
