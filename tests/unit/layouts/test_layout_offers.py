"""Choices for equal kernels are looked for once, also in several graphs where somebody asks for that."""

from __future__ import annotations

import pytest

from edgec.compiler import registry
from edgec.compiler.driver import load_kernels
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.registry import asked_once
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.compiler.text import parse

load_kernels()

GRAPH = """graph @g(%x: f32[1, 16, 8, 8]) {{
  %w = Const() {{data="randn:{seed}"}} : f32[16, 16, 3, 3]
  %b = Const() {{data="randn:9"}} : f32[16]
  %c = Conv(%x, %w, %b) {{pads=[1, 1, 1, 1]}} : f32[1, 16, 8, 8]
  %r = Relu(%c) : f32[1, 16, 8, 8]
  %d = Conv(%r, %w, %b) {{pads=[1, 1, 1, 1]}} : f32[1, 16, 8, 8]
  return %d
}}
"""


def _compiled(seed: int, threads: int = 1, target: str = "x86") -> str:
    session = Session(target=find_target(target), settings={"threads": threads})
    planned = run_pipeline(parse(GRAPH.format(seed=seed)), "canonicalize, fold, fuse, layout", session)
    return "\n".join(f"{n.attrs['row']} {n.attrs['cost_us']}" for n in planned.nodes() if n.op == "Edgec.Kernel")


def test_equal_kernels_of_several_graphs_are_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    row = registry.ROWS["conv_f32_tile"]

    def choices(problem: registry.Problem) -> object:
        asked.append(problem)
        return row.choices(problem)

    monkeypatch.setitem(registry.ROWS, row.name, registry.replace(row, choices=choices))
    alone = _compiled(1)
    once = len(asked)
    assert once == 2  # with and without Relu
    assert _compiled(2) == alone and len(asked) == 2 * once
    with asked_once():
        assert [_compiled(seed) for seed in (1, 2)] == [alone] * 2
    assert len(asked) == 3 * once


def test_other_targets_and_threads_are_other_problems() -> None:
    asked = (1, 1, "x86"), (1, 4, "x86"), (1, 1, "rpi5")
    wanted = [_compiled(*one) for one in asked]
    assert len(set(wanted)) == len(wanted)
    with asked_once():
        assert [_compiled(*one) for one in asked] == wanted
