"""Times kernels layer by layer: every candidate of the registry, its rate, and how far the cost model is off.

python benchmarks/kernels.py [--target NAME] [--set resnet50] [--filter TEXT] [--all]
Rates are shares of the multiply-add peak of one core, measured in the same run; `<--` marks the registry's pick.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.registry import Choice, Problem, choices
from edgec.compiler.target import Target, read_target, target_files
from edgec.targets import tir
from edgec.targets.codegen_llvm import object_bytes
from edgec.targets.measure import Measured, least_us, link

# (times in the model, input channels, size, output channels, kernel, stride, pads, group)
Layer = tuple[int, int, int, int, int, int, tuple[int, int, int, int], int]


def same(kernel: int) -> tuple[int, int, int, int]:
    return (kernel // 2,) * 4


def resnet50() -> Iterator[Layer]:
    yield 1, 3, 224, 64, 7, 2, (3, 3, 3, 3), 1
    size, before = 56, 64
    for stage, (inner, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        stride = 1 if stage == 0 else 2
        yield 1, before, size, inner, 1, 1, same(1), 1
        yield 1, inner, size, inner, 3, stride, same(3), 1
        yield 1, before, size, 4 * inner, 1, stride, same(1), 1
        size //= stride
        yield blocks, inner, size, 4 * inner, 1, 1, same(1), 1
        yield blocks - 1, 4 * inner, size, inner, 1, 1, same(1), 1
        yield blocks - 1, inner, size, inner, 3, 1, same(3), 1
        before = 4 * inner


def mobilenet_v2() -> Iterator[Layer]:
    yield 1, 3, 224, 32, 3, 2, (0, 0, 1, 1), 1
    size, before = 112, 32
    for expand, out, blocks, first in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for block in range(blocks):
            stride, inner = (first if block == 0 else 1), before * expand
            if expand > 1:
                yield 1, before, size, inner, 1, 1, same(1), 1
            yield 1, inner, size, inner, 3, stride, same(3) if stride == 1 else (0, 0, 1, 1), inner
            size //= stride
            yield 1, inner, size, out, 1, 1, same(1), 1
            before = out
    yield 1, 320, 7, 1280, 1, 1, same(1), 1
    yield 1, 1280, 1, 1001, 1, 1, same(1), 1


def squeezenet() -> Iterator[Layer]:
    yield 1, 3, 224, 64, 3, 2, (0, 0, 0, 0), 1
    for before, squeeze, size, times in (
        (64, 16, 55, 1),
        (128, 16, 55, 1),
        (128, 32, 27, 1),
        (256, 32, 27, 1),
        (256, 48, 13, 1),
        (384, 48, 13, 1),
        (384, 64, 13, 1),
        (512, 64, 13, 1),
    ):
        yield times, before, size, squeeze, 1, 1, same(1), 1
        yield times, squeeze, size, 4 * squeeze, 1, 1, same(1), 1
        yield times, squeeze, size, 4 * squeeze, 3, 1, same(3), 1
    yield 1, 512, 13, 1000, 1, 1, same(1), 1


SETS = {"resnet50": resnet50, "mobilenet_v2": mobilenet_v2, "squeezenet": squeezenet}


def merged(layers: Iterator[Layer]) -> list[Layer]:
    """Equal layers once, their counts added."""
    count: dict[tuple[Any, ...], int] = {}
    for times, *rest in layers:
        count[tuple(rest)] = count.get(tuple(rest), 0) + times
    return [(times, *rest) for rest, times in count.items()]


def problem_of(layer: Layer, target: Target) -> Problem:
    """The layer as a fused body: convolution, bias and Clip."""
    _, inputs, size, outputs, kernel, stride, pads, group = layer
    shapes = {"x": (1, inputs, size, size), "w": (outputs, inputs // group, kernel, kernel), "b": (outputs,)}
    values = tuple(Value(Node("Input", (), (Type("f32", shape),), {}, name)) for name, shape in shapes.items())
    y = ops.build("Conv", *values, strides=(stride, stride), pads=pads, group=group)
    return Problem(Graph("body", values, (ops.build("Clip", y, min=0.0, max=6.0),)), target, 1, frozenset({1, 2}))


def operations(problem: Problem) -> int:
    node = problem.anchor
    return 2 * prod(node.types[0].shape) * prod(node.args[1].shape[1:])


def peak_gflops(target: Target) -> float:
    """Multiply-adds on registers alone, measured."""
    lanes, tile, turns = target.cpu.lanes(32), 12, 1000

    def body(buffers: list[Any], begin: Any, end: Any) -> Any:
        acc, alloc = tir.local((tile * lanes,), "float32")
        at = [tir.ramp(i * lanes, lanes) for i in range(tile)]
        factor, bind = tir.let(tir.load(buffers[0], tir.ramp(0, lanes)), "f")
        turn = tir.seq([tir.store(acc, tir.load(acc, a) * factor + factor, a) for a in at])
        start = [tir.store(acc, tir.load(buffers[0], a), a) for a in at]
        return tir.seq(
            alloc,
            bind,
            start,
            tir.loop(turns, lambda _: turn),
            [tir.store(buffers[0], tir.load(acc, a), a) for a in at],
        )

    function = tir.function("edgec_kernel", [("x", "float32", (tile * lanes,))], body)
    library = link(object_bytes([("edgec_kernel", function)], target))
    data = np.full(tile * lanes + 16, 0.5, np.float32)
    args = (ctypes.c_void_p * 1)(data.ctypes.data)
    return 2 * lanes * tile * turns / least_us(library, args, 1, 20.0) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="x86-avx512")
    parser.add_argument("--set", default="resnet50", choices=sorted(SETS))
    parser.add_argument("--filter", default="", help="only layers whose text holds this")
    parser.add_argument("--all", action="store_true", help="time every candidate, not the pick alone")
    parser.add_argument("--budget", type=float, default=30.0, help="milliseconds per candidate")
    options = parser.parse_args()
    target = read_target(target_files()[options.target].read_text(), options.target)
    peak = peak_gflops(target)
    total = modelled = ideal = 0.0
    for layer in merged(SETS[options.set]()):
        times, inputs, size, outputs, kernel, stride, _, group = layer
        text = f"{inputs}x{size} {kernel}x{kernel}/{stride} {outputs}{' dw' if group > 1 else ''}"
        if options.filter not in text:
            continue
        problem = problem_of(layer, target)
        arrays = [np.random.default_rng(1).standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]
        offers = choices(problem)
        for k, choice in enumerate(offers if options.all else offers[:1]):
            us = Measured(problem, choice, arrays).time_us(options.budget)
            peak = max(peak, peak_gflops(target))
            print(line(f"{times} * {text}", choice, us, operations(problem), peak, k == 0), flush=True)
            if k == 0:
                total += us * times
                modelled += choice.cost_us * times
                ideal += operations(problem) / peak / 1e3 * times
    print(
        f"peak {peak:.0f} GFLOP/s; all layers {total / 1e3:.2f} ms, "
        f"modelled {modelled / 1e3:.2f}, at peak {ideal / 1e3:.2f}"
    )


def line(text: str, choice: Choice, us: float, work: int, peak: float, picked: bool) -> str:
    rate = work / us / 1e3
    return (
        f"{text:28s} {choice!s:62s} {choice.layouts_in[0] or 'NCHW':8s}"
        f" {us:9.1f} us {rate:6.1f} GFLOP/s {100 * rate / peak:4.0f} %"
        f"  model {choice.cost_us / us:5.2f} x{'  <--' if picked else ''}"
    )


if __name__ == "__main__":
    main()
