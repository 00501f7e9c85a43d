"""A compiled model made by hand: y = tanh(x * w) + x * w in two kernels written in C, and the same as ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.compiler import toolchain as tools
from edgec.compiler.ir import Type
from edgec.compiler.program import Allocation, Port, Program, Ref, Step, Stored
from edgec.compiler.target import FOLDER, Target, read_target

KERNELS = """
#include <stdint.h>
#include <math.h>
/* y[i] = x[i] * w[i], 4 elements a task */
void scale(void *const *args, int32_t begin, int32_t end)
{
    const float *x = args[0], *w = args[1];
    float *y = args[2];
    for (int i = 4 * begin; i < 4 * end; i++) y[i] = x[i] * w[i] + OFFSET;
}
/* y[i] = tanh(x[i]) + x[i] through scratch memory */
void squash(void *const *args, int32_t begin, int32_t end)
{
    const float *x = args[0];
    float *y = args[1], *t = args[2];
    for (int i = 4 * begin; i < 4 * end; i++) { t[i] = tanhf(x[i]); y[i] = t[i] + x[i]; }
}
"""
WEIGHTS = np.arange(8, dtype=np.float32).reshape(2, 4)


def target(name: str = "x86") -> Target:
    return read_target((FOLDER / f"{name}.toml").read_text(), name)


def program(folder: Path, kind: Target | None = None, name: str = "tiny", offset: float = 0.0) -> Program:
    """The program; `offset` spoils the product, so that the second step's input is wrong too."""
    kind = kind or target()
    folder.mkdir(exist_ok=True)
    (folder / "kernels.c").write_text(KERNELS)
    tools.toolchain(kind).compile(["kernels.c"], folder, ["-std=c11", f"-DOFFSET={offset:f}f"])
    x, m, y = (Ref("arena", at) for at in (0, 64, 128))
    kept = Type("f32", (2, 4))
    steps = (
        Step(
            "mul",
            "scale",
            (x, Ref("weights", 0), m),
            2,
            row="map",
            origin=("Mul_0",),
            macs=8,
            why="only row",
            results=(Stored("Mul_0", kept, m),),
        ),
        Step(
            "act",
            "squash",
            (m, y, Ref("scratch", 192)),
            2,
            64,
            row="map",
            origin=("Tanh_1", "Add_2"),
            bytes_moved=64,
            results=(Stored("Add_2", kept, y),),
        ),
    )
    return Program(
        name=name,
        target=kind.name,
        inputs=(Port("x", "f32", (2, 4), 32, x),),
        outputs=(Port("y/out", "f32", (2, 4), 32, y),),
        steps=steps,
        weights=WEIGHTS.tobytes(),
        objects=(("kernels.o", (folder / "kernels.o").read_bytes()),),
        arena_bytes=320,
        lower_bound=288,
        arena_map=(Allocation("x", 0, 32, 0, 0), Allocation("m", 64, 32, 0, 1), Allocation("y", 128, 32, 1, 2)),
        threads=2,
        passes="canonicalize, fold",
        model_sha256="0" * 64,
    )


def expected(x: np.ndarray) -> np.ndarray:
    m = x * WEIGHTS
    return np.tanh(m) + m


def onnx_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["m"], name="Mul_0"),
        helper.make_node("Tanh", ["m"], ["t"], name="Tanh_1"),
        helper.make_node("Add", ["t", "m"], ["y/out"], name="Add_2"),
    ]
    ports = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape)
        for n, shape in (("x", ["n", 4]), ("y/out", ["n", 4]))
    ]
    graph = helper.make_graph(nodes, "tiny", ports[:1], ports[1:], [numpy_helper.from_array(WEIGHTS, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
