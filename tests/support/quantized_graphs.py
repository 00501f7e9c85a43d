"""Random graphs of quantized layers, as exporters write them: QuantizeLinear and DequantizeLinear around everything."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const


class Drawing:
    """A graph under construction; every layer takes and gives tensors of bytes."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.kind = self.rng.choice(["u8", "i8"])
        shape = (self.rng.choice([1, 1, 2]), self.channels(), self.rng.randint(1, 18), self.rng.randint(1, 18))
        self.x = Value(Node("Input", (), (Type(self.kind, shape),), {}, "x"))
        self.scales = {self.x: self.parameters()}

    def channels(self) -> int:
        return self.rng.choice([1, 2, 3, 4, 5, 8, 12, 16, 17, 24, 32, 33, 48, 64, 70])

    def parameters(self) -> tuple[float, int]:
        low, high = (0, 255) if self.kind == "u8" else (-128, 127)
        zero = self.rng.choice([low, (low + high + 1) // 2, self.rng.randint(low, high)])
        return self.rng.uniform(0.005, 0.05), zero

    def real(self, value: Value) -> Value:
        scale, zero = self.scales[value]
        return build("DequantizeLinear", value, *self.pair(scale, zero))

    def pair(self, scale: float, zero: int) -> tuple[Value, Value]:
        return const(np.float32(scale)), const(np.asarray(zero, np.uint8 if self.kind == "u8" else np.int8))

    def stored(self, real: Value, like: Value | None = None) -> Value:
        scale, zero = self.scales[like] if like is not None else self.parameters()
        value = build("QuantizeLinear", real, *self.pair(scale, zero))
        self.scales[value] = scale, zero
        return value

    def activated(self, real: Value) -> Value:
        kind = self.rng.choice(["", "", "Relu", "Clip"])
        return build(kind, real, **({"min": -0.5, "max": 2.0} if kind == "Clip" else {})) if kind else real

    def weights(self, shape: tuple[int, ...], axis: int, steps: int) -> Value:
        w = self.numbers.integers(-128, 128, shape).astype(np.int8)
        each = self.rng.random() < 0.7
        scale = self.numbers.uniform(0.5, 2, shape[axis] if each else ()) * 0.02 / max(1.0, steps**0.5)
        zero = np.zeros_like(scale, np.int8)
        attrs = {"axis": axis} if each else {}
        return build("DequantizeLinear", const(w), const(np.asarray(scale, np.float32)), const(zero), **attrs)

    def bias(self, n: int) -> Value:
        return const((self.numbers.standard_normal(n) * self.rng.choice([0, 0.1, 1])).astype(np.float32))

    # -- layers --------------------------------------------------------------------------------------------------------

    def conv(self, x: Value, depthwise: bool = False) -> Value:
        inputs, (h, w) = x.shape[1], x.shape[2:]
        kernel = tuple(min(self.rng.choice([1, 1, 2, 3, 3, 5]), n) for n in (h, w))
        pads = tuple(self.rng.randint(0, (k + 1) // 2) for k in kernel * 2)
        strides = tuple(self.rng.choice([1, 1, 2]) for _ in kernel)
        group = inputs if depthwise else 2 if inputs % 32 == 0 and self.rng.random() < 0.3 else 1
        out = inputs if depthwise else 2 * self.channels() if group == 2 else self.channels()
        shape = (out, inputs // group, *kernel)
        real = build(
            "Conv", self.real(x), self.weights(shape, 0, shape[1] * kernel[0] * kernel[1]), self.bias(out),
            pads=pads, strides=strides, group=group,
        )  # fmt: skip
        if self.rng.random() < 0.2 and real.shape == x.shape:
            real = build("Add", real, self.real(x))
        return self.stored(self.activated(real))

    def depthwise(self, x: Value) -> Value:
        return self.conv(x, depthwise=True)

    def residual(self, x: Value) -> Value:
        return self.stored(self.activated(build("Add", self.real(self.conv_like(x)), self.real(x))))

    def conv_like(self, x: Value) -> Value:
        w = self.weights((x.shape[1], x.shape[1], 1, 1), 0, x.shape[1])
        return self.stored(build("Conv", self.real(x), w, self.bias(x.shape[1])))

    def swish(self, x: Value) -> Value:
        gate = self.stored(build("Sigmoid", self.real(x)))
        return self.stored(build("Mul", self.real(x), self.real(gate)))

    def evened(self, x: Value) -> Value:
        """A function behind sums whose channels have factors: no table says it. Perhaps something is added."""
        w = self.weights((x.shape[1], x.shape[1], 1, 1), 0, x.shape[1])
        real = build("Conv", self.real(x), w, self.bias(x.shape[1]))
        name = self.rng.choice(["x sigmoid(x)", "Sigmoid", "Gelu", "HardSwish", "HardSigmoid", "LeakyRelu"])
        y = build("Mul", real, build("Sigmoid", real)) if name == "x sigmoid(x)" else build(name, real)
        y = build("Mul", y, const(self.numbers.uniform(0.5, 2, (x.shape[1], 1, 1)).astype(np.float32)))
        return self.stored(build("Add", y, self.real(x)) if self.rng.random() < 0.3 else y)

    def squeeze(self, x: Value) -> Value:
        mean = self.stored(build("ReduceMean", self.real(x), axes=(2, 3), keepdims=1))
        return self.stored(build("Mul", self.real(x), self.real(mean)))

    def join(self, x: Value) -> Value:
        other = self.conv_like(x)
        return self.stored(build("Concat", self.real(x), self.real(other), axis=1), self.rng.choice([x, other, None]))

    def pool(self, x: Value) -> Value:
        kernel = tuple(min(self.rng.choice([2, 3]), n) for n in x.shape[2:])
        attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": tuple(self.rng.choice([1, 2]) for _ in kernel)}
        if min(kernel) > 1:
            attrs["pads"] = tuple(self.rng.randint(0, 1) for _ in range(4))
        op = self.rng.choice(["MaxPool", "AveragePool"])
        real = build(op, self.real(x), **attrs)
        return self.stored(real, x if op == "MaxPool" else None)

    def part(self, x: Value) -> Value:
        end = self.rng.randint(1, x.shape[1])
        made = build("Slice", self.real(x), starts=(self.rng.randint(0, end - 1),), ends=(end,), axes=(1,), steps=(1,))
        return self.stored(made, x)

    def larger(self, x: Value) -> Value:
        attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        sizes = (*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        return self.stored(build("Resize", self.real(x), sizes=sizes, scales=(1.0, 1.0, 2.0, 2.0), **attrs), x)

    def head(self, x: Value) -> Value:
        flat = self.stored(build("ReduceMean", self.real(x), axes=(2, 3), keepdims=0))
        w = self.weights((x.shape[1], self.rng.randint(1, 70)), 1, x.shape[1])
        real = build("Add", build("MatMul", self.real(flat), w), self.bias(w.shape[1]))
        last = self.stored(real)
        return self.stored(build("Softmax", self.real(last), axis=-1)) if self.rng.random() < 0.5 else last


LAYERS = ("conv", "conv", "depthwise", "residual", "swish", "squeeze", "join", "pool", "part", "larger")
EVENED = 400  # the first seed of graphs with functions that no table says


def quantized_graph(seed: int) -> Graph:
    """Up to six layers, sometimes with a head; the output is bytes or real. Beside functions that no table says are
    no means, which magnify a step."""
    drawing = Drawing(seed)
    x = drawing.x
    layers = LAYERS if seed < EVENED else (*(n for n in LAYERS if n != "squeeze"), "evened", "evened", "evened")
    for _ in range(drawing.rng.randint(1, 6)):
        layer = drawing.rng.choice(layers)
        if x.shape[1] * x.shape[2] * x.shape[3] < 40_000 or layer in ("pool", "part"):
            x = getattr(drawing, layer)(x)
    if seed < EVENED and drawing.rng.random() < 0.4:
        x = drawing.head(x)
    if drawing.rng.random() < 0.4:
        x = drawing.real(x)
    return Graph(f"quantized{seed}", (drawing.x,), (x,), ("y",))
