"""Real models for GPUs: right answers on this machine's, or on an emulated one; a library for a Jetson, made here."""

from __future__ import annotations

import re
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
from benchmarks import zoo
from edgec.compiler.bundle.cuda_emulation import VARIABLE, emulated_driver, has_driver
from edgec.compiler.compare.bundle import verify
from edgec.compiler.ports import random_inputs
from edgec.targets.cuda import emulation, nvrtc

from .models import MODELS, Model, bundle, find

GPU = has_driver()
needs_compiler = pytest.mark.skipif(not GPU and shutil.which("g++") is None, reason="needs g++ for the emulation")
QUICK = ("mlperf_kws_dscnn", "mlperf_ic_resnet8", "mlperf_vww_mbv1_025", "mnist_cntk_8", "yunet_n_320")
_KNOWN = {model.name: model for model in MODELS}


def _photograph() -> dict[str, Any]:
    """A picture as yunet takes it: it finds no faces in noise, and of outputs near zero f16 leaves nothing."""
    image = pytest.importorskip("PIL.Image")
    files = sorted((zoo.FOLDER.parent / "data" / "coco" / "images").glob("*.jpg"))
    if not files:
        pytest.skip("no photographs beside the models")
    picture = np.asarray(image.open(files[0]).convert("RGB").resize((320, 320)), np.float32)
    return {"input": np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)[None])}


PHOTOGRAPHS = {"yunet_n_320": _photograph}


def compiled(model: Path, folder: Path, precision: str = "fp32", **options: Any) -> Any:
    arch = None if GPU else "emulated"
    return edgec.compile(model, "cuda", folder / "out", precision=precision, arch=arch, **options)


def right(path: Path, folder: Path, precision: str, model: Model | None = None) -> Any:
    """The bundle; answers are within 1e-4 of each output's largest magnitude in fp32, 2e-2 in fp16."""
    pytest.importorskip("onnxruntime")
    model = model or Model(path.stem)
    made = compiled(path, folder, precision, shapes=model.shapes, dims=model.dims, bind=model.bind)
    inputs = PHOTOGRAPHS[path.stem]() if path.stem in PHOTOGRAPHS else None
    found = verify(path, made.folder, inputs=inputs, binds=model.bind)
    assert {d.tolerance for d in found.differences} == {1e-4 if precision == "fp32" else 2e-2}
    assert found.ok, "\n".join(f"{d.value}: {d.error:.1e} > {d.tolerance:.0e}" for d in found.differences if not d.ok)
    return made


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.long) for n in _KNOWN if n not in QUICK)])
def test_answers_like_the_reference(name: str, precision: str, tmp_path: Path) -> None:
    right(find(name), tmp_path, precision, _KNOWN.get(name))


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_transformer_block_answers_like_the_reference(precision: str, tmp_path: Path) -> None:
    made = right(block(tmp_path / "block.onnx"), tmp_path, precision)
    products = [s for s in made.steps if "matmul" in s["kernel"]]
    assert len(products) == 4, "Q, K and V are one"


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tokens_of_an_image(precision: str, tmp_path: Path) -> None:
    """Positions are added by the convolution, which writes its rows where the class token's row is."""
    made = right(tokens(tmp_path / "tokens.onnx"), tmp_path, precision)
    kinds = ["mask", "token", "convolution", "norm", "q, k, v", "attention"]
    casts = ["image", "result"] if precision == "fp16" else []
    assert len(made.steps) == len(kinds + casts), [s["name"] for s in made.steps]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulation")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_threads_do_not_race(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between barriers no two threads touch the same bytes if one of them writes: else the emulation fails the run."""
    plain = emulation.emulated_library
    monkeypatch.setattr(emulation, "emulated_library", lambda source: plain(source, check="race"))
    made = edgec.compile(block(tmp_path / "block.onnx"), "cuda", tmp_path / "out", precision=precision, arch="emulated")
    monkeypatch.setenv(VARIABLE, str(emulated_driver()))
    with edgec.load(made.folder) as model:
        assert np.isfinite(model.run(random_inputs(model.inputs))["y"]).all()


@needs_compiler
@pytest.mark.parametrize("name", ["mlperf_kws_dscnn_int8", "mlperf_ic_resnet8_int8", "mlperf_vww_mbv1_025_int8"])
def test_integers_are_those_of_every_target(name: str, tmp_path: Path) -> None:
    with edgec.load(compiled(find(name), tmp_path).folder) as device, edgec.load(bundle(name).folder) as host:
        for seed in range(3):
            feed = random_inputs(host.inputs, seed)
            want = host.run(feed)
            for key, got in device.run(feed).items():
                np.testing.assert_array_equal(got, want[key])


@needs_compiler
def test_kernels_read_only_weights_before_they_wait(tmp_path: Path) -> None:
    """Kernels may begin before those have ended whose results they read."""
    made = compiled(block(tmp_path / "block.onnx"), tmp_path, "fp16", name="block")
    tables = (made.folder / "src" / "block_model.c").read_text()
    kernels = (made.folder / "src" / "block_device.cu").read_text()
    early = set()
    for i, step in enumerate(made.steps):
        regions = re.findall(r"\{EC_(\w+),", re.search(rf"args_{i}\[\] = (.*);", tables)[1])  # type: ignore[index]
        text = kernels[kernels.rindex(step["launch"]["kernel"] + "(") :]
        parameters = re.findall(r"(\w+_ptr)\b", text[: text.index("{")])
        before = text[text.index("{") : text.index("ec_wait_previous();")]
        touched = {r for p, r in zip(parameters, regions, strict=False) if re.search(rf"\b{p}\b", before)}
        assert touched <= {"WEIGHTS"}, step["name"]
        early |= touched
    assert early, "products fetch weights ahead"


def block(path: Path, length: int = 24, width: int = 64, heads: int = 2) -> Path:
    """Normalization, attention, feed-forward, residuals."""
    net = Net(length, width, heads)
    y = net.node("Add", "x", net.linear(net.attention(net.norm("x", "n1")), "o", width, width))
    z = net.node("Relu", net.linear(net.norm(y, "n2"), "up", width, 4 * width))
    net.nodes.append(helper.make_node("Add", [y, net.linear(z, "down", 4 * width, width)], ["y"]))
    return net.saved(path, helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, length, width]))


def tokens(path: Path, width: int = 64) -> Path:
    """Patches of an image behind a class token, with positions; attention between those that a mask keeps."""
    net = Net(17, width, 2)
    patches = net.node("Conv", "image", net.weights("w", width, 3, 4, 4), net.weights("b", width), strides=[4, 4])
    flat = net.node("Reshape", patches, net.known("pixels", np.array([1, width, 16])))
    rows = net.node("Transpose", flat, perm=(0, 2, 1))
    x = net.node("Concat", net.weights("class", 1, 1, width), rows, axis=1)
    x = net.node("Add", x, net.weights("positions", 1, 17, width))
    kept = net.node("Cast", net.node("Unsqueeze", "mask", net.known("axes", np.array([1, 2]))), to=TensorProto.BOOL)
    far, near = net.known("far", np.float32(-np.inf)), net.known("near", np.float32(0))
    mask = net.node("Where", net.node("Not", kept), far, near)
    net.attention(net.norm(x, "n"), mask, "y")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])
    return net.saved(path, image, helper.make_tensor_value_info("mask", TensorProto.INT64, [1, 17]))


class Net:
    """A model under construction, of rows of `width` numbers; results of nodes are v0, v1 ..."""

    def __init__(self, length: int, width: int, heads: int) -> None:
        self.rng, self.rows, self.width = np.random.default_rng(0), [1, length, width], width
        self.constants: list[Any] = []
        self.nodes: list[Any] = []
        self.known("split", np.array([1, length, heads, width // heads]))
        self.known("join", np.array(self.rows))
        self.known("root", np.float32(np.sqrt(width / heads)))

    def known(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, name: str, *shape: int) -> str:
        array = self.rng.standard_normal(shape)
        return self.known(name, (array / (np.sqrt(shape[0]) if len(shape) > 1 else 8)).astype(np.float32))

    def node(self, op: str, *inputs: str, result: str = "", **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [result or f"v{len(self.nodes)}"], **attrs))
        return str(self.nodes[-1].output[0])

    def linear(self, x: str, name: str, i: int, o: int) -> str:
        return self.node("Add", self.node("MatMul", x, self.weights(f"{name}.w", i, o)), self.weights(f"{name}.b", o))

    def norm(self, x: str, name: str) -> str:
        return self.node(
            "LayerNormalization", x, self.weights(f"{name}.w", self.width), self.weights(f"{name}.b", self.width)
        )

    def attention(self, x: str, mask: str = "", result: str = "") -> str:
        q, k, v = (self.node("Reshape", self.linear(x, n, self.width, self.width), "split") for n in "qkv")
        q, v = (self.node("Transpose", n, perm=(0, 2, 1, 3)) for n in (q, v))
        scores = self.node("MatMul", q, self.node("Transpose", k, perm=(0, 2, 3, 1)))
        scores = self.node("Div", scores, "root")
        scores = self.node("Add", scores, mask) if mask else scores
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        return self.node("Reshape", self.node("Transpose", mixed, perm=(0, 2, 1, 3)), "join", result=result)

    def saved(self, path: Path, *inputs: Any) -> Path:
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, self.rows)
        graph = helper.make_graph(self.nodes, path.stem, inputs, [output], self.constants)
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
