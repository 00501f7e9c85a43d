"""Real models for GPUs: right answers on this machine's, or on an emulated one; a library for a Jetson, made here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.compiler.bundle.cuda_emulation import has_driver
from edgec.compiler.compare import verify
from edgec.compiler.runtime import random_inputs
from edgec.targets.cuda import nvrtc

from .models import MODELS, Model, bundle, find

GPU = has_driver()
needs_compiler = pytest.mark.skipif(not GPU and shutil.which("g++") is None, reason="needs g++ for the emulation")
QUICK = ("mlperf_kws_dscnn", "mlperf_ic_resnet8", "mlperf_vww_mbv1_025", "mnist_cntk_8", "yunet_n_320")
_KNOWN = {model.name: model for model in MODELS}


def compiled(model: Path, folder: Path, precision: str = "fp32", **options: Any) -> Any:
    arch = None if GPU else "emulated"
    return edgec.compile(model, "cuda", folder / "out", precision=precision, arch=arch, **options)


def right(path: Path, folder: Path, precision: str, model: Model | None = None) -> None:
    """Within 1e-4 of each output's largest magnitude in fp32, 2e-2 in fp16."""
    pytest.importorskip("onnxruntime")
    model = model or Model(path.stem)
    made = compiled(path, folder, precision, shapes=model.shapes, dims=model.dims, bind=model.bind)
    found = verify(path, made.folder, binds=model.bind)
    assert {d.tolerance for d in found.differences} == {1e-4 if precision == "fp32" else 2e-2}
    assert found.ok, "\n".join(f"{d.value}: {d.error:.1e} > {d.tolerance:.0e}" for d in found.differences if not d.ok)


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.long) for n in _KNOWN if n not in QUICK)])
def test_answers_like_the_reference(name: str, precision: str, tmp_path: Path) -> None:
    right(find(name), tmp_path, precision, _KNOWN.get(name))


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_transformer_block_answers_like_the_reference(precision: str, tmp_path: Path) -> None:
    right(block(tmp_path / "block.onnx"), tmp_path, precision)


@needs_compiler
@pytest.mark.parametrize("name", ["mlperf_kws_dscnn_int8", "mlperf_ic_resnet8_int8", "mlperf_vww_mbv1_025_int8"])
def test_integers_are_those_of_every_target(name: str, tmp_path: Path) -> None:
    with edgec.load(compiled(find(name), tmp_path).folder) as device, edgec.load(bundle(name).folder) as host:
        for seed in range(3):
            feed = random_inputs(host.inputs, seed)
            want = host.run(feed)
            for key, got in device.run(feed).items():
                np.testing.assert_array_equal(got, want[key])


def block(path: Path, length: int = 24, width: int = 64, heads: int = 2) -> Path:
    """Normalization, attention, feed-forward, residuals."""
    rng = np.random.default_rng(0)
    known, nodes = [], []

    def weights(name: str, *shape: int) -> str:
        array = rng.standard_normal(shape) / np.sqrt(shape[0]) if len(shape) > 1 else rng.standard_normal(shape) / 8
        known.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(op: str, *inputs: str, **attrs: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], **attrs))
        return f"v{len(nodes) - 1}"

    def linear(x: str, name: str, i: int, o: int) -> str:
        return node("Add", node("MatMul", x, weights(f"{name}.w", i, o)), weights(f"{name}.b", o))

    def headed(x: str, *perm: int) -> str:
        return node("Transpose", node("Reshape", x, "split"), perm=perm)

    known.append(numpy_helper.from_array(np.array([1, length, heads, width // heads]), "split"))
    known.append(numpy_helper.from_array(np.array([1, length, width]), "join"))
    known.append(numpy_helper.from_array(np.float32(np.sqrt(width / heads)), "root"))
    x = node("LayerNormalization", "x", weights("n1.w", width), weights("n1.b", width))
    q, k, v = (linear(x, name, width, width) for name in "qkv")
    scores = node("Div", node("MatMul", headed(q, 0, 2, 1, 3), headed(k, 0, 2, 3, 1)), "root")
    mixed = node("MatMul", node("Softmax", scores, axis=-1), headed(v, 0, 2, 1, 3))
    y = node("Reshape", node("Transpose", mixed, perm=(0, 2, 1, 3)), "join")
    y = node("Add", "x", linear(y, "o", width, width))
    z = node("LayerNormalization", y, weights("n2.w", width), weights("n2.b", width))
    z = node("Relu", linear(z, "up", width, 4 * width))
    nodes.append(helper.make_node("Add", [y, linear(z, "down", 4 * width, width)], ["y"]))
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, length, width]) for n in "xy"]
    graph = helper.make_graph(nodes, "block", ports[:1], ports[1:], known)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


# ---- A Jetson's library, made on a machine without a GPU

PROGRAM = """
#include <stdio.h>
#include "edgec/cuda.h"
#include "NAME.h"

EC_ALIGNAS(BIG_ARENA_ALIGN) static uint8_t arena[BIG_ARENA_BYTES];

int main(void)
{
    ec_model model;
    const ec_status status = ec_open(&model, &NAME_desc, arena, sizeof arena);
    printf("%s\\n", ec_strerror(status));
    return status != EC_ERR_NO_DEVICE;
}
"""
CMAKE = """
cmake_minimum_required(VERSION 3.18)
project(app LANGUAGES C)
find_package(NAME CONFIG REQUIRED)
add_executable(app app.c)
target_link_libraries(app PRIVATE NAME::NAME)
"""


@pytest.mark.skipif(not nvrtc._nvrtc(), reason="needs NVRTC: pip install 'edgec[cuda]'")
def test_a_library_for_a_jetson(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    name = "mobilenet_v2_100_224"
    made = edgec.compile(find(name), "jetson", tmp_path / "out", name=name)
    kinds = [(row["arch"], row["kind"]) for row in made.manifest["device"]["images"]]
    assert set(kinds) == {(87, "cubin"), (87, "ptx")}
    assert elf_machine(made.shared_library) == AARCH64
    if shutil.which("readelf"):
        said = subprocess.run(["readelf", "-d", made.shared_library], capture_output=True, text=True, check=True).stdout
        needed = [line.rpartition("[")[2].partition(".so")[0] for line in said.splitlines() if "(NEEDED)" in line]
        assert set(needed) <= {"libc", "libm", "libdl", "libpthread"}
    if shutil.which("cmake") is None:
        pytest.skip("no cmake: the library was not linked")
    for file, text in (("app.c", PROGRAM), ("CMakeLists.txt", CMAKE)):
        (tmp_path / file).write_text(text.replace("NAME", name).replace("BIG", name.upper()))
    cross = tmp_path / "cc"
    cross.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang cc -target aarch64-linux-gnu.2.28 "$@"\n')
    cross.chmod(0o755)
    options = [f"-DCMAKE_C_COMPILER={cross}", "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    build = tmp_path / "build"
    for command in (
        ["cmake", "-S", tmp_path, "-B", build, *options, f"-D{name}_DIR={made.folder}"],
        ["cmake", "--build", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert elf_machine(build / "app") == AARCH64


AARCH64 = 183  # EM_AARCH64


def elf_machine(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[18:20], "little")
