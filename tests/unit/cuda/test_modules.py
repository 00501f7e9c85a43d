"""Device modules: machine code for every target, within its limits; what a program says of it; what cannot be made."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.compiler.errors import EdgecError
from edgec.compiler.target import find_target
from edgec.compiler.target_flags import with_archs
from edgec.targets.cuda import modules, nvrtc

pytestmark = pytest.mark.skipif(not nvrtc._nvrtc(), reason="needs NVRTC: pip install 'edgec[cuda]'")


def network(path: Path) -> Path:
    """A convolution with its activation, a mean over the image, a matrix product, a softmax."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> Any:
        return numpy_helper.from_array((rng.standard_normal(shape) / 8).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["p"]),
        helper.make_node("Softmax", ["p"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 12, 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])
    known = [weights("w", 32, 8, 3, 3), weights("b", 32), weights("m", 32, 10)]
    graph = helper.make_graph(nodes, "network", [x], [y], known)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def blocks(path: Path) -> Path:
    """Inverted residuals of ever more channels: kernels of all shapes."""
    rng, nodes, known = np.random.default_rng(0), [], []

    def convolution(x: str, into: int, out: int, kernel: int, group: int = 1, stride: int = 1) -> str:
        n = len(nodes)
        shape = (out, into // group, kernel, kernel)
        known.append(numpy_helper.from_array((rng.standard_normal(shape) / 8).astype(np.float32), f"w{n}"))
        known.append(numpy_helper.from_array(rng.standard_normal(out).astype(np.float32), f"b{n}"))
        pads, strides = [kernel // 2] * 4, [stride] * 2
        inputs = [x, f"w{n}", f"b{n}"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{n}"], group=group, pads=pads, strides=strides))
        return f"c{n}"

    def bounded(x: str) -> str:
        nodes.append(helper.make_node("Clip", [x, "zero", "six"], [f"{x}r"]))
        return f"{x}r"

    known += [numpy_helper.from_array(np.float32(value), name) for value, name in ((0, "zero"), (6, "six"))]
    x = bounded(convolution("x", 3, 16, 3, stride=2))
    for channels, out in ((16, 24), (24, 32), (32, 64)):
        wide = bounded(convolution(x, channels, 6 * channels, 1))
        wide = bounded(convolution(wide, 6 * channels, 6 * channels, 3, 6 * channels, 2))
        x = convolution(wide, 6 * channels, out, 1)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["y"]))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 112, 112])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 1, 1])
    graph = helper.make_graph(nodes, "blocks", [image], [y], known)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def images(bundle: Any) -> set[tuple[int, str]]:
    return {(row["arch"], row["kind"]) for row in bundle.manifest["device"]["images"]}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("jetson", {(87, "cubin"), (87, "ptx")}),
        ("jetson-thor", {(110, "cubin"), (110, "ptx")}),
        ("cuda", {(80, "cubin"), (90, "cubin"), (90, "ptx")}),
    ],
)
def test_machine_code_for_each_target(tmp_path: Path, target: str, found: set[Any], precision: str) -> None:
    bundle = edgec.compile(network(tmp_path / "m.onnx"), target, tmp_path / "out", precision=precision)
    assert images(bundle) == found
    gpu = find_target(target).gpu
    assert gpu is not None
    for step in bundle.steps:
        launch = step["launch"]
        assert 0 < launch["registers"] * launch["block"] <= gpu.registers and launch["shared"] <= gpu.shared_block
        assert launch["spilled"] == 0, step["name"]


def test_architectures_that_are_asked_for(tmp_path: Path) -> None:
    bundle = edgec.compile(network(tmp_path / "m.onnx"), "cuda", tmp_path / "out", arch="sm_86, sm_89")
    assert images(bundle) == {(86, "cubin"), (89, "cubin"), (89, "ptx")}


def test_kernels_are_chosen_for_the_first_architecture() -> None:
    usual, other = find_target("cuda"), with_archs(find_target("cuda"), "sm_90,sm_80")
    assert usual.gpu is not None and other.gpu is not None
    assert other.gpu.multiprocessors == 132 != usual.gpu.multiprocessors
    assert other.gpu.archs == ("sm_90", "sm_80")


def test_the_same_model_gives_the_same_bundle(tmp_path: Path) -> None:
    """Also where another process compiles it, in another folder and environment: NVRTC minds where its memory lies."""
    model = blocks(tmp_path / "m.onnx")
    found = []
    for folder, more in (("a", {}), ("some/other/folder", {"MALLOC_ARENA_MAX": "1", "SOME": "thing " * 999})):
        (tmp_path / folder).mkdir(parents=True)
        command = [sys.executable, "-m", "edgec", "compile", str(model), "--target", "jetson", "-o", "m"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **more}
        done = subprocess.run(command, cwd=tmp_path / folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "may differ" not in done.stderr + done.stdout, done.stderr
        found.append((tmp_path / folder / "m" / "libm.a").read_bytes())
    assert found[0] == found[1]


def test_code_that_may_differ_from_run_to_run_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nvrtc.compiled
    monkeypatch.setattr(modules, "compiled", lambda *wanted: replace(plain(*wanted), steady=False))
    assert modules.VARIES in edgec.compile(network(tmp_path / "m.onnx"), "jetson", tmp_path / "out").manifest["notes"]


def test_an_architecture_that_the_compiler_does_not_know() -> None:
    with pytest.raises(EdgecError, match="the installed NVRTC knows no sm_42"):
        nvrtc.compiled("", "sm_42", "cubin")


def test_what_the_compiler_says_is_one_line() -> None:
    with pytest.raises(EdgecError, match=r"NVRTC refuses a kernel for sm_87: .*error.*") as caught:
        nvrtc.compiled('extern "C" __global__ void f() { no such thing; }', "sm_87", "cubin")
    assert "\n" not in str(caught.value)


def test_what_a_kernel_uses_is_read_from_the_log() -> None:
    source = 'extern "C" __global__ void f(float *x) { __shared__ float s[256]; s[threadIdx.x] = x[threadIdx.x]; '
    source += "__syncthreads(); x[threadIdx.x] = s[255 - threadIdx.x]; }"
    code = nvrtc.compiled(source, "sm_87", "cubin")
    assert code.data[:4] == b"\x7fELF" and [(u.kernel, u.shared, u.spilled) for u in code.uses] == [("f", 1024, 0)]
    assert 0 < code.uses[0].registers < 32


def test_a_launch_beyond_the_limits_is_a_fault_of_its_row() -> None:
    gpu = find_target("jetson").gpu
    assert gpu is not None
    step = modules.Step("s", "", (), 1, launch=modules.Launch("f", (1, 1, 1), 1024))
    modules._check([step], {"sm_87": [nvrtc.Use("f", 64, 0, 0)]}, gpu)
    with pytest.raises(RuntimeError, match="f on sm_87: 1024 threads of 65 registers"):
        modules._check([step], {"sm_87": [nvrtc.Use("f", 65, 0, 0)]}, gpu)
    with pytest.raises(RuntimeError, match="166913 bytes of shared memory"):
        modules._check([step], {"sm_87": [nvrtc.Use("f", 8, 166913, 0)]}, gpu)
