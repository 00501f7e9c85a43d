"""Quantized models: integers from the first quantization to the last, and the same bits on every target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgec.compiler.bundle.emulate import Emulated
from edgec.compiler.compare.bundle import verify
from edgec.compiler.dtypes import dtype
from edgec.compiler.execution.model import Model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.ports import Port, random_inputs
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

from .models import bundle, find

MODELS = ("mlperf_ic_resnet8_int8", "mlperf_kws_dscnn_int8", "mlperf_ad_autoenc_int8", "mlperf_sww_1dcnn_int8")
LONG = ("mlperf_vww_mbv1_025_int8",)


def cases() -> Iterator[Any]:
    for target in ("host", "x86", "arm"):
        for name in (*MODELS, *LONG):
            marks = [pytest.mark.arm] if target == "arm" else []
            if name in LONG or (target != "host" and name != MODELS[0]):
                marks.append(pytest.mark.long)
            yield pytest.param(name, target, id=f"{name}-{target}", marks=marks)


@pytest.mark.parametrize(("name", "target"), list(cases()))
def test_every_target_gives_the_bits_of_the_interpreter(name: str, target: str) -> None:
    compiled = bundle(name, target)
    graph = import_model(find(name), notice=lambda text: None)
    session = Session(target=find_target(target))
    graph = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), session)
    feed = random_inputs([Port(v.name, dtype(v.type.dtype).numpy.name, v.shape) for v in graph.inputs], 5)
    runner = Emulated(compiled) if target == "arm" else Model(compiled)
    got, _ = runner.trace(feed, [])
    for output, want in interpret(graph, feed).items():
        np.testing.assert_array_equal(got[output], want)


@pytest.mark.parametrize("name", [*MODELS, *(pytest.param(m, marks=pytest.mark.long) for m in LONG)])
def test_no_kernel_computes_real_numbers(name: str) -> None:
    """From the first quantization, which is before the input, to the last, which is the output's."""
    pytest.importorskip("onnxruntime")
    compiled = bundle(name)
    assert {kind for step in compiled.steps for kind in step["dtype"].split()} <= {"u8", "i8"}
    assert sum(step["macs"] for step in compiled.steps) > 100_000
    assert verify(find(name), compiled.folder, runs=3).ok


def test_inputs_and_outputs_say_what_their_bytes_stand_for() -> None:
    manifest = bundle(MODELS[0]).manifest
    (given,), (result,) = manifest["inputs"], manifest["outputs"]
    assert (given["scale"], given["zero_point"]) == (1.0, -128)
    assert (result["scale"], result["zero_point"]) == (0.00390625, -128)
