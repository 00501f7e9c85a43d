"""Float models put into 8 bits: x86 and ARM, with and without dot products, and the interpreter agree."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler.bundle.emulate import Emulated
from edgec.compiler.dtypes import dtype
from edgec.compiler.execution.model import Model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Array, Graph
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.ports import Port, random_inputs
from edgec.compiler.quantize.model import quantize_model
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.compiler.toolchain import runs_here

from .models import find, needs

MODELS = (
    "mlperf_ic_resnet8",
    "mlperf_vww_mbv1_025",
    "mobilenet_v1_025_224",
    "mobilenet_v2_100_224",
    "squeezenet_f32",
    "ultraface_rfb_320",
    "yolox_nano_416",
    "efficientnet_lite0",
    "resnet18",
    "resnet50",
)
TARGETS = ("x86", "x86-avx512", "cortex-a53", "rpi5", "arm-i8mm")
Feed = Mapping[str, Array]
EVERY_LAYER = "canonicalize, fold, quantize{real=0, learn=false}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("int8")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [MODELS[0], *(pytest.param(m, marks=pytest.mark.long) for m in MODELS[1:])])
def test_a_model_in_8_bits_has_the_same_bits_everywhere(name: str, target: str, folder: Path) -> None:
    needs(find_target(target))
    model = _quantized(name, folder)
    feed, wanted = _answers(model)
    compiled = edgec.compile(model, target=target, out=folder / f"{name}-{target}")
    runner = Model(compiled) if runs_here(find_target(target).triple) else Emulated(compiled)
    got, _ = runner.trace(feed, [])
    for output, want in wanted.items():
        # What is real behind the last integers (softmax) is off by some 1e-6; an integer would show by 1e-4 and more
        allowed = 0 if want.dtype.kind in "iu" else 1e-5 * abs(want).max()
        np.testing.assert_allclose(got[output], want, rtol=0, atol=allowed)


@cache
def _quantized(name: str, folder: Path) -> Path:
    """All layers in int8, calibrated on random inputs."""
    samples = [random_inputs(_ports(import_model(find(name), notice=_quiet)), seed) for seed in range(2)]
    path = folder / f"{name}.onnx"
    quantize_model(find(name), path, calib=samples, passes=EVERY_LAYER)
    return path


@cache
def _answers(path: Path) -> tuple[Feed, Feed]:
    """An input, and what the interpreter makes of it with integers."""
    graph = run_pipeline(import_model(path, notice=_quiet), parse_pipeline("canonicalize, fold, integers"), Session())
    assert not {"Conv", "MatMul", "Gemm"} & {node.op for node in graph.nodes()}, "a layer is real"
    feed = random_inputs(_ports(graph), 5)
    return feed, interpret(graph, feed)


def _ports(graph: Graph) -> list[Port]:
    return [Port(v.name, dtype(v.type.dtype).numpy.name, v.shape) for v in graph.inputs]


def _quiet(text: str) -> None:
    """Notices of the importer are of no interest here."""
