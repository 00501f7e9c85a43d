"""Small float models with seeded weights, and seeded data for them: what quantization is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.compiler.calibration.request import SETTING, requested
from edgec.compiler.importer import import_model
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.quantize.model import PASSES
from edgec.compiler.quantize.report import Report
from edgec.compiler.quantize.settings import wanted
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

Array = np.ndarray[Any, Any]
SHAPE = (1, 8, 12, 12)
BAD, GOOD = "Conv_5", ["Conv_0", "Conv_2", "Conv_7"]  # layers of `heavy`


class Net:
    """A model in the making: each method adds a node under its operator's name and a number, and gives its result."""

    def __init__(self, shape: Sequence[int] = SHAPE, seed: int = 0) -> None:
        self.inputs = {"x": tuple(shape)}
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, *args: str, **attrs: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(args), [name], name=name, **attrs))
        return name

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def drawn(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.random.normal(size=shape) * scale)

    def conv(self, x: str, inputs: int, outputs: int, kernel: int = 3, group: int = 1, gain: float = 1.4) -> str:
        fan = inputs // group * kernel * kernel
        w = self.drawn(outputs, inputs // group, kernel, kernel, scale=gain * fan**-0.5)
        pads = [kernel // 2] * 4
        return self.node("Conv", x, w, self.drawn(outputs, scale=0.3), group=group, pads=pads)

    def gemm(self, x: str, inputs: int, outputs: int) -> str:
        return self.node("Gemm", x, self.drawn(inputs, outputs, scale=inputs**-0.5), self.drawn(outputs, scale=0.1))

    def model(self, *outputs: str) -> onnx.ModelProto:
        """Outputs are called `y`, `y1` ..."""
        names = ["y" if k == 0 else f"y{k}" for k in range(len(outputs))]
        ends = [helper.make_node("Identity", [a], [b]) for a, b in zip(outputs, names, strict=True)]
        given = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in self.inputs.items()]
        infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
        graph = helper.make_graph([*self.nodes, *ends], "net", given, infos, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def residual() -> onnx.ModelProto:
    """Conv, Relu, Conv, and a sum with the first Relu's result."""
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 16))
    b = net.conv(a, 16, 16)
    return net.model(net.conv(net.node("Relu", net.node("Add", b, a)), 16, 8, 1))


def depthwise() -> onnx.ModelProto:
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 16, 1))
    b = net.node("Relu", net.conv(a, 16, 16, 3, group=16))
    return net.model(net.conv(b, 16, 8, 1))


def head() -> onnx.ModelProto:
    """Conv, average pooling, Gemm, and a product of matrices."""
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 16))
    b = net.node("Flatten", net.node("AveragePool", a, kernel_shape=[4, 4], strides=[4, 4]))
    c = net.node("Relu", net.gemm(b, 144, 32))
    return net.model(net.node("MatMul", c, net.drawn(32, 10, scale=0.2)))


def gated() -> onnx.ModelProto:
    """x * Sigmoid(x) behind each convolution."""
    net = Net()
    x = "x"
    for inputs in (8, 16):
        a = net.conv(x, inputs, 16)
        x = net.node("Mul", a, net.node("Sigmoid", a))
    return net.model(net.conv(x, 16, 8, 1))


def joined() -> onnx.ModelProto:
    """A Concat of two branches."""
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 8))
    b = net.node("Relu", net.conv("x", 8, 8, 1))
    return net.model(net.conv(net.node("Concat", a, b, axis=1), 16, 8, 1))


MODELS = {"residual": residual, "depthwise": depthwise, "head": head, "gated": gated, "joined": joined}


def heavy(pool: int = 1) -> onnx.ModelProto:
    """The third layer reads fourth powers: a few elements are hundreds of times as large as most. It has a fifteenth of
    the multiplications; with a `pool` of 3, that many elements of either axis made one before it, 0.5 %."""
    net = Net()
    b = net.conv(net.node("Relu", net.conv("x", 8, 16)), 16, 16)
    if pool > 1:
        b = net.node("MaxPool", b, kernel_shape=[pool, pool], strides=[pool, pool])
    square = net.node("Mul", b, b)
    c = net.conv(net.node("Mul", square, square), 16, 16, 1, gain=0.05)
    return net.model(net.conv(net.node("Relu", c), 16, 8, 1))


def data(count: int = 8, shape: Sequence[int] = SHAPE, seed: int = 1) -> Array:
    """Samples along the first axis, each with the shape of the input behind its first axis."""
    return np.random.default_rng(seed).normal(size=(count, *shape[1:])).astype(np.float32)


def canonical(model: onnx.ModelProto) -> Graph:
    """The float graph that the pass `quantize` sees."""
    return run_pipeline(import_model(model), "canonicalize, fold", Session())


def quantized(
    model: onnx.ModelProto,
    calib: Any,
    passes: str = PASSES,
    max_drop: float | None = None,
    score: Any = None,
    target: str | None = None,
) -> tuple[Graph, Report, Session]:
    """The QDQ graph, what became of its layers, and what was noted."""
    chosen = find_target(target) if target else None
    session = Session(
        target=chosen, settings={SETTING: requested(calib, None), "quantize": wanted("int8", max_drop, score)}
    )
    graph = run_pipeline(import_model(model), passes, session)
    assert session.quantization is not None
    return graph, session.quantization, session


def precision(report: Report) -> dict[str, str]:
    return {layer.name: layer.precision for layer in report.layers}
