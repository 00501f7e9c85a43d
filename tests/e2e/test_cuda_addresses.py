"""Kernels for CUDA stay inside their arguments, their shared memory and their local arrays (AddressSanitizer)."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.compiler.bundle import write
from edgec.compiler.compare.difference import relative_error
from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError
from edgec.compiler.ports import random_inputs
from edgec.compiler.program import Program, Ref
from edgec.compiler.registry import ZEROS, read_settings
from edgec.targets.cuda import emulation

from .models import MODELS, Model, find
from .test_cuda import PHOTOGRAPHS, block

CASES = [
    ("block", "fp32"),
    ("block", "fp16"),
    ("mlperf_kws_dscnn", "fp32"),
    ("mlperf_kws_dscnn", "fp16"),
    ("mlperf_kws_dscnn_int8", "int8"),
    ("mnist_cntk_8", "fp32"),
]
LONG = [
    ("mnist_cntk_8", "fp16"),
    *((name, p) for name in ("mlperf_ic_resnet8", "mlperf_vww_mbv1_025", "yunet_n_320") for p in ("fp32", "fp16")),
    ("mlperf_ic_resnet8_int8", "int8"),
    ("mlperf_vww_mbv1_025_int8", "int8"),
    *((name, "fp16") for name in ("dtln_model_1", "byte_sb_bidi_lstm", "silero_vad_v6_op16", "ultraface_rfb_320")),
]
ALLOWED = {"fp32": 1e-4, "fp16": 2e-2, "int8": 2e-2}
_PLAIN = Model("")
_SCRIPT = Path(__file__).with_name("run_addresses.py")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    try:
        return emulation.sanitizer_environment()
    except EdgecError as error:
        pytest.skip(str(error))


class Made(Exception):
    """A program that is about to be linked."""


def compiled(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, precision: str, model: Model = _PLAIN
) -> Program:
    """The program, its modules instrumented."""
    plain = emulation.emulated_library

    def made(program: Program, *rest: Any) -> None:
        raise Made(program)

    with monkeypatch.context() as patch, pytest.raises(Made) as caught:
        patch.setattr(write, "write_bundle", made)
        patch.setattr(emulation, "emulated_library", lambda source: plain(source, check="address"))
        options: dict[str, Any] = {"shapes": model.shapes, "dims": model.dims, "bind": model.bind}
        edgec.compile(path, "cuda", folder / "out", precision=precision, arch="emulated", **options)
    (program,) = caught.value.args
    assert isinstance(program, Program)
    return program


def job(program: Program, feed: dict[str, Any]) -> dict[str, Any]:
    """What run_addresses.py reads."""
    device = program.device
    assert device is not None
    arena = bytearray(b"\xff" * device.arena_bytes)
    for port, ref in zip(program.inputs, device.inputs, strict=True):
        arena[ref.offset : ref.offset + port.bytes] = np.ascontiguousarray(feed[port.name]).tobytes()
    starts = sorted({ref.offset for s in program.steps for ref in s.args if ref.region == "weights"})
    ends = dict(zip(starts, [*starts[1:], len(program.weights)], strict=True))

    def place(i: int, ref: Ref) -> tuple[str, int, int, int]:
        """Region, start and size of the allocation, offset in it."""
        if ref.region == "weights":
            return "weights", ref.offset, ends[ref.offset] - ref.offset, 0
        if ref.region == "zeros":
            return "zeros", 0, 4 * read_settings(program.steps[i].config)[ZEROS], 0
        (own,) = [
            a
            for a in program.arena_map
            if a.first <= i <= a.last and a.offset <= ref.offset < a.offset + max(a.bytes, 1)
        ]
        return "arena", own.offset, own.bytes, ref.offset - own.offset

    steps = [
        {**vars(s.launch), "name": s.name, "args": [place(i, ref) for ref in s.args]}
        for i, s in enumerate(program.steps)
        if s.launch
    ]
    assert len(steps) == len(program.steps), "without branches"
    return {
        "modules": [images[0].data for images in device.modules],
        "arena": bytes(arena),
        "weights": program.weights,
        "steps": steps,
        "outputs": [(ref.offset, port.bytes) for port, ref in zip(program.outputs, device.outputs, strict=True)],
    }


def ran(wanted: dict[str, Any], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = folder / "job.pickle"
    path.write_bytes(pickle.dumps(wanted))
    command = [sys.executable, "-S", str(_SCRIPT), str(path)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "precision"), [*CASES, *(pytest.param(*c, marks=pytest.mark.long) for c in LONG)])
def test_models(
    name: str, precision: str, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernel leaves its memory, and answers are those of ONNX Runtime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path = block(tmp_path / "block.onnx") if name == "block" else find(name)
    model = next((model for model in MODELS if model.name == name), Model(name))
    program = compiled(path, tmp_path, monkeypatch, "fp16" if precision == "fp16" else "fp32", model)
    feed = random_inputs([replace(port, dtype=dtype(port.dtype).numpy.name) for port in program.inputs])
    feed |= PHOTOGRAPHS[name]() if name in PHOTOGRAPHS else {}
    done = ran(job(program, feed), tmp_path, environment)
    assert done.returncode == 0, done.stderr[-4000:]
    outputs = pickle.loads((tmp_path / "job.out").read_bytes())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    bound = {name: np.array(value) for name, value in model.bind.items()}
    wanted = dict(zip((o.name for o in session.get_outputs()), session.run(None, feed | bound), strict=True))
    for port, data in zip(program.outputs, outputs, strict=True):
        got = np.frombuffer(data, wanted[port.name].dtype).reshape(port.shape)
        assert relative_error(got, wanted[port.name]) <= ALLOWED[precision], port.name


def test_an_argument_that_is_too_short(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = compiled(block(tmp_path / "block.onnx"), tmp_path, monkeypatch, "fp32")
    wanted = job(program, {"x": np.zeros(program.inputs[0].shape, np.float32)})
    region, start, size, offset = wanted["steps"][0]["args"][0]
    wanted["steps"][0]["args"][0] = region, start, size - 4, offset
    done = ran(wanted, tmp_path, environment)
    assert done.returncode != 0 and "AddressSanitizer: heap-buffer-overflow" in done.stderr
