"""The kernels that well-known networks are made of, and those of any ONNX file: what `kernels.py` times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import edgec.compiler.ops  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.driver import load_kernels
from edgec.compiler.importer import import_model
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.problems import distinct, problems
from edgec.compiler.registry import Problem
from edgec.compiler.session import Session
from edgec.compiler.target import Target

from .zoo import DIMENSIONS


@dataclass(frozen=True)
class Layer:
    """A kernel, and how often its network runs it."""

    times: int
    text: str
    problem: Problem


# (times, input channels, size, output channels, kernel, stride, group) of a convolution with "same" padding and a Clip
Conv = tuple[int, int, int, int, int, int, int]
# (times, shape, columns) of a product with a constant matrix [last of shape, columns]; (times, shape, shape) of values
Product = tuple[int, tuple[int, ...], int | tuple[int, ...]]


def resnet(bottleneck: bool, blocks: Sequence[int]) -> Iterator[Conv]:
    yield 1, 3, 224, 64, 7, 2, 1
    size, before = 56, 64
    for stage, (inner, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
        out, stride = (4 * inner if bottleneck else inner), 1 if stage == 0 else 2
        if stride == 2 or before != out:
            yield 1, before, size, out, 1, stride, 1
        for block in range(count):
            here, step = (before, stride) if block == 0 else (out, 1)
            if bottleneck:
                yield 1, here, size, inner, 1, 1, 1
                yield 1, inner, size, inner, 3, step, 1
                yield 1, inner, size // step, out, 1, 1, 1
            else:
                yield 1, here, size, out, 3, step, 1
                yield 1, out, size // step, out, 3, 1, 1
            size //= step
        before = out


def mobilenet_v2() -> Iterator[Conv]:
    size, before = 112, 32
    yield 1, 3, 224, 32, 3, 2, 1
    for expand, out, blocks, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for block in range(blocks):
            stride, inner = (first if block == 0 else 1), before * expand
            if expand > 1:
                yield 1, before, size, inner, 1, 1, 1
            yield 1, inner, size, inner, 3, stride, inner
            size //= stride
            yield 1, inner, size, out, 1, 1, 1
            before = out
    yield 1, 320, 7, 1280, 1, 1, 1
    yield 1, 1280, 1, 1001, 1, 1, 1


def mobilenetv3() -> Iterator[Conv]:
    """The large one: (kernel, inner, out, stride) per block."""
    size, before = 112, 16
    yield 1, 3, 224, 16, 3, 2, 1
    for kernel, inner, out, stride in (
        (3, 16, 16, 1), (3, 64, 24, 2), (3, 72, 24, 1), (5, 72, 40, 2), (5, 120, 40, 1), (5, 120, 40, 1),
        (3, 240, 80, 2), (3, 200, 80, 1), (3, 184, 80, 1), (3, 184, 80, 1), (3, 480, 112, 1), (3, 672, 112, 1),
        (5, 672, 160, 2), (5, 960, 160, 1), (5, 960, 160, 1),
    ):  # fmt: skip
        if inner != before:
            yield 1, before, size, inner, 1, 1, 1
        yield 1, inner, size, inner, kernel, stride, inner
        size //= stride
        yield 1, inner, size, out, 1, 1, 1
        before = out
    yield 1, 160, 7, 960, 1, 1, 1
    yield 1, 960, 1, 1280, 1, 1, 1


def squeezenet() -> Iterator[Conv]:
    yield 1, 3, 224, 64, 3, 2, 1
    for before, squeeze, size in (
        (64, 16, 55), (128, 16, 55), (128, 32, 27), (256, 32, 27), (256, 48, 13), (384, 48, 13), (384, 64, 13),
        (512, 64, 13),
    ):  # fmt: skip
        yield 1, before, size, squeeze, 1, 1, 1
        yield 1, squeeze, size, 4 * squeeze, 1, 1, 1
        yield 1, squeeze, size, 4 * squeeze, 3, 1, 1
    yield 1, 512, 13, 1000, 1, 1, 1


def yolov3() -> Iterator[Conv]:
    """Darknet-53 at 416 and its three heads."""
    yield 1, 3, 416, 32, 3, 1, 1
    size = 416
    for out, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        yield 1, out // 2, size, out, 3, 2, 1
        size //= 2
        yield blocks, out, size, out // 2, 1, 1, 1
        yield blocks, out // 2, size, out, 3, 1, 1
    for size, wide, joined in ((13, 512, 1024), (26, 256, 768), (52, 128, 384)):
        yield 1, joined, size, wide, 1, 1, 1
        yield 2, 2 * wide, size, wide, 1, 1, 1
        yield 3, wide, size, 2 * wide, 3, 1, 1
        yield 1, 2 * wide, size, 255, 1, 1, 1


def transformer(layers: int, tokens: int, width: int, heads: int) -> Iterator[Product]:
    """Projections, attention's two products, and the feed-forward part of an encoder."""
    each = width // heads
    yield 4 * layers, (1, tokens, width), width
    yield layers, (1, heads, tokens, each), (1, heads, each, tokens)
    yield layers, (1, heads, tokens, tokens), (1, heads, tokens, each)
    yield layers, (1, tokens, width), 4 * width
    yield layers, (1, tokens, 4 * width), width


def merged(layers: Iterator[Layer]) -> list[Layer]:
    """Equal layers once, their counts added."""
    found: dict[str, Layer] = {}
    for layer in layers:
        times = layer.times + (found[layer.text].times if layer.text in found else 0)
        found[layer.text] = Layer(times, layer.text, layer.problem)
    return list(found.values())


def convolutions(rows: Iterator[Conv], target: Target) -> list[Layer]:
    return merged(_convolution(row, target) for row in rows)


def _convolution(row: Conv, target: Target) -> Layer:
    times, inputs, size, outputs, kernel, stride, group = row
    shapes = {"x": (1, inputs, size, size), "w": (outputs, inputs // group, kernel, kernel), "b": (outputs,)}
    values = tuple(Value(Node("Input", (), (Type("f32", shape),), {}, name)) for name, shape in shapes.items())
    y = ops.build("Conv", *values, strides=(stride, stride), pads=(kernel // 2,) * 4, group=group)
    body = Graph("body", values, (ops.build("Clip", y, min=0.0, max=6.0),))
    text = f"{inputs}x{size} {kernel}x{kernel}/{stride} {outputs}{' dw' if group > 1 else ''}"
    return Layer(times, text, Problem(body, target, 1, frozenset({1, 2})))


def of_bytes(rows: Iterator[Conv], target: Target) -> list[Layer]:
    """The same convolutions in 8 bits, with a rescaling in place of a Clip."""
    return merged(_of_bytes(row, target) for row in rows)


def _of_bytes(row: Conv, target: Target) -> Layer:
    times, inputs, size, outputs, kernel, stride, group = row
    types = (
        Type("u8", (1, inputs, size, size)),
        Type("i8", (outputs, inputs // group, kernel, kernel)),
        Type("i32", (outputs,)),
        Type("f32", (outputs, 1, 1)),
    )
    x, w, b, m = (Value(Node("Input", (), (t,), {}, name)) for t, name in zip(types, "xwbm", strict=True))
    y = ops.build("Edgec.ConvInteger", x, w, b, strides=(stride, stride), pads=(kernel // 2,) * 4, group=group)
    body = Graph("body", (x, w, b, m), (ops.build("Edgec.Rescale", y, m, zeros=(0,), to="u8", low=0, high=255),))
    text = f"u8 {inputs}x{size} {kernel}x{kernel}/{stride} {outputs}{' dw' if group > 1 else ''}"
    return Layer(times, text, Problem(body, target, 1, frozenset({1, 2, 3})))


def products(rows: Iterator[Product], target: Target) -> list[Layer]:
    return merged(_product(row, target) for row in rows)


def _product(row: Product, target: Target) -> Layer:
    times, left, right = row
    constant = isinstance(right, int)
    shape = (left[-1], right) if isinstance(right, int) else right
    values = tuple(Value(Node("Input", (), (Type("f32", s),), {}, n)) for n, s in (("a", left), ("b", shape)))
    body = Graph("body", values, (ops.build("MatMul", *values),))
    text = f"{'x'.join(map(str, left))} @ {'x'.join(map(str, shape))}{'' if constant else ' values'}"
    return Layer(times, text, Problem(body, target, 1, frozenset({1} if constant else ())))


def of_model(path: Path, target: Target) -> list[Layer]:
    """The distinct kernels of a model after fusion."""
    load_kernels()
    graph = _imported(path)
    session = Session(target=target)
    before_layouts, _, _ = target.pipeline.partition(", layout")
    fused = run_pipeline(graph, before_layouts, session)
    found = distinct(problems(fused, target, session.threads))
    return [Layer(len(nodes), str(nodes[0].name)[-40:], problem) for problem, nodes in found]


def _imported(path: Path) -> Graph:
    import onnx

    model = onnx.load(path, load_external_data=False)
    names = {d.dim_param for i in model.graph.input for d in i.type.tensor_type.shape.dim}
    return import_model(
        path, shapes={}, dims={n: size for n, size in DIMENSIONS.items() if n in names}, binds={}, notice=print
    )


SETS: dict[str, Callable[[Target], list[Layer]]] = {
    "resnet18": lambda target: convolutions(resnet(False, (2, 2, 2, 2)), target),
    "resnet50": lambda target: convolutions(resnet(True, (3, 4, 6, 3)), target),
    "mobilenet_v2": lambda target: convolutions(mobilenet_v2(), target),
    "mobilenetv3": lambda target: convolutions(mobilenetv3(), target),
    "squeezenet": lambda target: convolutions(squeezenet(), target),
    "resnet50_int8": lambda target: of_bytes(resnet(True, (3, 4, 6, 3)), target),
    "mobilenet_v2_int8": lambda target: of_bytes(mobilenet_v2(), target),
    "squeezenet_int8": lambda target: of_bytes(squeezenet(), target),
    "yolov3": lambda target: convolutions(yolov3(), target),
    "vit_tiny": lambda target: products(transformer(12, 197, 192, 3), target),
    "minilm": lambda target: products(transformer(6, 128, 384, 12), target),
    "distilbert": lambda target: products(transformer(6, 128, 768, 12), target),
}
