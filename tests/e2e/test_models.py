"""Every model that must work, on every target: right answers, an arena close to the lower bound, little code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import edgec
from edgec.compiler.compare.bundle import verify
from edgec.compiler.ports import random_inputs
from edgec.compiler.target import find_target
from edgec.targets.host import features

from .models import MODELS, Model, bundle, find


def cases() -> Iterator[Any]:
    for target in ("host", "arm", "x86"):
        for model in MODELS:
            marks = [pytest.mark.arm] if target == "arm" else []
            if model.long or (target == "x86" and model.name != "mnist_cntk_8"):
                marks.append(pytest.mark.long)
            yield pytest.param(model, target, id=f"{model.name}-{target}", marks=marks)


@pytest.mark.parametrize(("model", "target"), list(cases()))
def test_compiles_and_answers_like_the_reference(model: Model, target: str) -> None:
    pytest.importorskip("onnxruntime")
    compiled = bundle(model.name, target)
    runs = 1 if target == "arm" else 3
    found = verify(find(model.name), compiled.folder, runs=runs, binds=model.bind)
    assert found.ok, "\n".join(f"{d.value}: {d.error:.1e} > {d.tolerance:.0e}" for d in found.differences if not d.ok)
    arena = compiled.manifest["arena"]
    assert arena["bytes"] <= max(1.1 * arena["lower_bound"], 64)
    assert compiled.code_bytes < model.code


@pytest.mark.parametrize("name", ["mlperf_kws_dscnn", pytest.param("mobilenet_v2_100_224", marks=pytest.mark.long)])
def test_every_level_of_a_bundle_that_runs_here_answers_like_the_reference(name: str) -> None:
    pytest.importorskip("onnxruntime")
    both, low = bundle(name, "x86-multi"), bundle(name, "x86")
    assert both.levels == ["x86-avx512", "x86"]
    assert both.at("x86").steps == low.steps
    assert both.weights_bytes < 2.2 * low.weights_bytes and both.arena_bytes >= low.arena_bytes
    for target in find_target("x86-multi").levels:
        if target.cpu.isa <= features():
            assert verify(find(name), both.folder, level=target.name).ok


@pytest.mark.parametrize("name", ["mlperf_kws_dscnn", pytest.param("mobilenet_v2_100_224", marks=pytest.mark.long)])
def test_workers_do_not_change_the_answers(name: str) -> None:
    alone, shared = bundle(name), bundle(name, threads=2)

    with edgec.load(alone.folder) as one, edgec.load(shared.folder) as two, edgec.load(shared.folder, 1) as of_two:
        feed = random_inputs(one.inputs)
        want = one.run(feed)
        for _ in range(10):
            got, same = two.run(feed), of_two.run(feed)
            for output, value in want.items():
                assert (got[output] == same[output]).all()
                assert abs(got[output] - value).max() <= 1e-5 * abs(value).max()
