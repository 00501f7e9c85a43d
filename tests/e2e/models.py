"""Real models beside the checkout (`../shared/models`), and what makes bundles of them once per test process."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

import edgec
from benchmarks import zoo
from edgec.compiler import toolchain as tools
from edgec.compiler.bundle import Bundle
from edgec.compiler.errors import EdgecError
from edgec.compiler.target import Target, find_target
from edgec.targets.host import features


@dataclass(frozen=True)
class Model:
    """A model that must compile. `long`: takes more than ten seconds; `code`: most bytes of code.

    `shapes`, `dims` and `bind` are what `edgec.compile` takes.
    """

    name: str
    long: bool = True
    code: int = 1_000_000
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    bind: Mapping[str, int] = field(default_factory=dict)


MODELS = (
    Model("mnist_cntk_8", long=False, code=40_000),
    Model("hand_keypoint_classifier", long=False, code=20_000),
    Model("mlperf_kws_dscnn", long=False, code=40_000),
    Model("mlperf_ad_autoenc", long=False, code=30_000),
    Model("mlperf_ic_resnet8", long=False, code=150_000),
    Model("mlperf_vww_mbv1_025", code=200_000),
    Model("st_yamnet_256"),
    Model("mobilenet_v1_025_224"),
    Model("mobilenet_v2_100_224", code=400_000),
    Model("squeezenet_f32"),
    Model("yolox_nano_416"),
    Model("fastestdet_coco_352"),
    Model("ultraface_rfb_320"),
    Model("yunet_n_320"),
    Model("mp_palm_detection_lite"),
    Model("dtln_model_1", long=False, code=40_000),
    Model("byte_sb_bidi_lstm", long=False, code=60_000, dims={"length": 9, "batch": 3}),
    Model(
        "silero_vad_v6_op16",
        long=False,
        code=60_000,
        shapes={"input": (1, 576), "state": (2, 1, 128)},
        bind={"sr": 16000},
    ),
    Model("aecmos_gru_16k", code=200_000, dims={"frames": 33}),
    Model("resnet18"),
    Model("resnet50"),
)


@cache
def find(name: str) -> Path:
    """The ONNX file of a model; skips the test where it is absent."""
    if path := zoo.locate(name):
        return zoo.filled(path, _scratch())
    pytest.skip(f"no {name}.onnx in {zoo.FOLDER}")


@cache
def bundle(name: str, target: str = "host", threads: int = 1) -> Bundle:
    """A model compiled for `target`; skips the test where this machine cannot compile for it and run the result."""
    needs(find_target(target))
    model = next((m for m in MODELS if m.name == name), Model(name))
    return edgec.compile(
        find(name),
        target=target,
        threads=threads,
        out=_scratch() / f"{name}-{target}-{threads}",
        shapes=model.shapes,
        dims=model.dims,
        bind=model.bind,
    )


def needs(target: Target) -> None:
    """Skip where a compiler for the target, an emulator or an instruction set is missing."""
    try:
        tools.toolchain(target)
    except EdgecError as error:
        pytest.skip(str(error))
    if tools.runs_here(target.triple) and (lacks := target.cpu.isa - features()):
        pytest.skip(f"this CPU has no {', '.join(sorted(lacks))}")
    if not tools.runs_here(target.triple) and tools.emulator(target) is None:
        pytest.skip(f"no emulator for {target.name} on this {platform.machine()} (tried {', '.join(target.emulator)})")


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgec-e2e-")


def _scratch() -> Path:
    return Path(_temporary().name)
