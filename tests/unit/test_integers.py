"""The pass `integers` on random quantized graphs: as QDQ says, up to a step; kernels give the interpreter's bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from quantized_graphs import quantized_graph

from edgec.compiler.compare_steps import beyond_a_step
from edgec.compiler.driver import compile_graph
from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.targets.builder import Builder
from tests.e2e.models import needs
from tests.fuzz.play import play


def inputs(graph: Graph, seed: int) -> Any:
    (x,) = graph.inputs
    info: Any = np.iinfo(dtype(x.type.dtype).numpy.type)  # type: ignore[type-var]
    rng = np.random.default_rng(seed)
    return {"x": rng.integers(info.min, info.max, x.shape, endpoint=True).astype(info.dtype)}


def cases() -> Iterator[Any]:
    for seed in range(400):
        for target in ("x86-amx", "x86-avx512", "x86"):
            yield pytest.param(seed, target, marks=[pytest.mark.long] if seed >= 12 else [])


@pytest.mark.parametrize(("seed", "target"), list(cases()))
def test_a_quantized_graph(seed: int, target: str) -> None:
    graph = quantized_graph(seed)
    described = find_target(target)
    needs(described)
    session = Session(target=described, verify=2)
    whole = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), session)
    assert not any(n.op in ("Conv", "MatMul") for n in whole.nodes())
    feeds = inputs(graph, seed)
    exact, want = interpret(graph, feeds)["y"], interpret(whole, feeds)["y"]
    assert beyond_a_step(want, exact) < 0.02
    program = compile_graph(graph, Session(target=described, verify=2), Builder(ahead=False, workers=1))
    np.testing.assert_array_equal(play(program, feeds)["y"], want)
