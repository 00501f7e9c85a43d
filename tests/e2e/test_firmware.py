"""Models on emulated boards: the bits of the interpreter, and no more stack than was stated."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.bundle.firmware import Firmware
from edgec.compiler.dtypes import dtype
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.ports import Port, random_inputs
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.compiler.verify import Promise, difference
from tests.support.emulated import needs_board

from .models import find

pytestmark = pytest.mark.firmware
BOARDS = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
MODELS = ("mlperf_kws_dscnn", "mlperf_ad_autoenc", "mlperf_sww_1dcnn", "mlperf_ic_resnet8", "mlperf_vww_mbv1_025")
MANY = 100  # inputs of each


def cases() -> Iterator[Any]:
    """Few inputs of the smallest model on each board, many of the others where there is time."""
    for board in BOARDS:
        yield pytest.param(f"{MODELS[0]}_int8", board, 3)
    yield pytest.param(MODELS[0], "cortex-m4", 2)
    for board in ("cortex-m4", "cortex-m7", "cortex-m55"):
        for name in MODELS:
            yield pytest.param(f"{name}_int8", board, MANY, marks=pytest.mark.long)
            yield pytest.param(name, board, MANY, marks=pytest.mark.long)
    yield pytest.param(f"{MODELS[0]}_int8", "cortex-m0plus", MANY, marks=pytest.mark.long)


@pytest.mark.parametrize(("name", "board", "inputs"), list(cases()))
def test_a_board_gives_the_answers_of_the_interpreter(name: str, board: str, inputs: int, tmp_path: Path) -> None:
    """Of quantized models the same bits."""
    needs_board()
    graph = import_model(find(name), notice=lambda text: None)
    session = Session(target=find_target(board))
    graph = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), session)
    ports = [Port(v.name, dtype(v.type.dtype).numpy.name, v.shape) for v in graph.inputs]
    feeds = [random_inputs(ports, seed) for seed in range(inputs)]
    compiled = edgec.compile(find(name), board, tmp_path / "out")
    firmware = Firmware(compiled)
    for feed, got in zip(feeds, firmware.run(feeds), strict=True):
        for output, want in interpret(graph, feed).items():
            promise: Promise = "exact" if name.endswith("int8") else "close"
            assert difference(want, got[output], promise) == ""
    assert compiled.footprint is not None
    bound, measured = compiled.footprint["ram"]["stack"], firmware.count(feeds[:1]).stack_bytes
    assert measured <= bound <= 1.3 * measured


@pytest.mark.parametrize(
    ("name", "board"),
    [
        pytest.param(f"{name}_int8", board, marks=[] if name == MODELS[0] else [pytest.mark.long])
        for board in ("cortex-m0plus", "cortex-m4", "cortex-m55")
        for name in MODELS
    ],
)
def test_integers_need_nothing_but_memory(name: str, board: str, tmp_path: Path) -> None:
    """No function that computes with floats where the core does not, and no library."""
    needs_board()
    compiled = edgec.compile(find(name), board, tmp_path / "out")
    said = [
        subprocess.run(
            ["arm-none-eabi-nm", *words, compiled.static_library], capture_output=True, text=True, check=True
        )
        for words in (["-u"], ["--defined-only"])
    ]
    needed, defined = ({line.split()[-1] for line in done.stdout.splitlines() if " " in line} for done in said)
    assert needed - defined <= {"memcpy", "memset"}
    assert compiled.footprint is not None
    assert compiled.footprint["flash"]["bytes"] - compiled.weights_bytes < 24 << 10


@pytest.mark.parametrize(
    ("name", "board", "most"),
    [
        ("mlperf_kws_dscnn_int8", "cortex-m0plus", 5_700),
        ("mlperf_ic_resnet8_int8", "cortex-m4", 13_100),
        ("mlperf_ic_resnet8", "cortex-m55", 20_500),
    ],
)
def test_flash_beyond_weights(name: str, board: str, most: int, tmp_path: Path) -> None:
    """Loops that LLVM would write out without being faster would take more, and layers that share no code."""
    needs_board()
    compiled = edgec.compile(find(name), board, tmp_path / "out")
    assert compiled.footprint is not None
    assert compiled.footprint["flash"]["bytes"] - compiled.weights_bytes < most


@pytest.mark.parametrize("board", BOARDS)
def test_arithmetic_that_a_core_lacks_is_called_as_its_abi_says(board: str, tmp_path: Path) -> None:
    """Numbers of 64 bits: they are passed in core registers, whatever registers the core has for floats."""
    needs_board()
    kinds = {"x": TensorProto.DOUBLE, "y": TensorProto.DOUBLE, "i": TensorProto.INT64, "j": TensorProto.INT64}
    ports = {name: helper.make_tensor_value_info(name, kind, [4]) for name, kind in kinds.items()}
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("Add", ["square", "x"], ["y"]),
        helper.make_node("Div", ["i", "i2"], ["j"]),
    ]
    ports["i2"] = helper.make_tensor_value_info("i2", TensorProto.INT64, [4])
    graph = helper.make_graph(nodes, "wide", [ports["x"], ports["i"], ports["i2"]], [ports["y"], ports["j"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = {
        "x": np.array([1.5, -2, 1e10, 3]),
        "i": np.array([7, -7, 10**15, -9]),
        "i2": np.array([2, 2, 7, -2]),
    }
    onnx.checker.check_model(model)
    (got,) = Firmware(edgec.compile(model, board, tmp_path / "out", name="wide")).run([feed])
    np.testing.assert_array_equal(got["y"], feed["x"] * feed["x"] + feed["x"])
    np.testing.assert_array_equal(got["j"], [3, -3, 142857142857142, 4])
