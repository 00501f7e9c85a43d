"""TensorIR that moves channels: shuffles of the vectors that hold them, or copies of planes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.layout import physical_shape
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import abi, tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .channels_rows import Source, sources
from .common import ceil_div
from .common_emit import chain

Unit = tuple[int, int, list[Source]]  # result, its block or channel, where the channels of that come from


def _kernel(
    problem: Problem, choice: Choice, symbol: str, units: Sequence[Any], make: Callable[[list[Buffer], Any], Stmt]
) -> Emitted:
    """Tasks of `chunk` units; which units a task has is known, so that each has code of its own."""
    values = (*problem.body.inputs, *problem.body.outputs)
    params = [(f"a{k}", "float32", (prod(physical_shape(v.type)),)) for k, v in enumerate(values)]
    chunk = choice.get("chunk")
    groups = [units[k : k + chunk] for k in range(0, len(units), chunk)]

    def task(buffers: list[Buffer], number: Expr) -> Stmt:
        def group(k: int) -> Callable[[], Stmt]:
            return lambda: tir.seq(make(buffers, unit) for unit in groups[k])

        last = len(groups) - 1
        return chain([(number.equal(k) if k < last else None, group(k)) for k in range(len(groups))])

    def whole(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
        return tir.tasks(begin, end, lambda number: task(buffers, number))

    return Emitted(abi.kernel(symbol, params, whole, pointer_bits=problem.target.pointer_bits), len(groups))


def blocks(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    """Blocked channels: a unit is one block of one result."""
    lanes = problem.target.cpu.lanes(32)
    inputs, outputs = problem.body.inputs, problem.body.outputs
    pixels = prod(outputs[0].shape[2:])
    units: list[Unit] = []
    for k, value in enumerate(outputs):
        found = sources(problem, value)
        assert not isinstance(found, str)
        units += [(k, b // lanes, found[b : b + lanes]) for b in range(0, len(found), lanes)]

    def make(buffers: list[Buffer], unit: Unit) -> Stmt:
        result, block, wanted = unit
        needed = list(dict.fromkeys((arg, c // lanes) for arg, c in wanted))
        out = buffers[len(inputs) + result]
        images, count = outputs[0].shape[0], ceil_div(outputs[result].shape[1], lanes)

        def pixel(image: Expr, p: Expr) -> Stmt:
            parts: list[Stmt] = []
            whole: Any = None
            for arg, b in needed:
                at = (image * ceil_div(inputs[arg].shape[1], lanes) + b) * pixels + p
                more, bind = tir.let(tir.load(buffers[arg], tir.ramp(at * lanes, lanes)), "x")
                parts.append(bind)
                mine = [c % lanes if (a, c // lanes) == (arg, b) else -1 for a, c in wanted]
                mine += [-1] * (lanes - len(mine))
                if whole is None:
                    order = [max(m, 0) for m in mine]
                    same = all(m in (-1, lane) for lane, m in enumerate(mine))
                    value = more if same else tirx.Shuffle([more], [tir.i32(m) for m in order])
                else:
                    order = [lanes + m if m >= 0 else lane for lane, m in enumerate(mine)]
                    value = tirx.Shuffle([whole, more], [tir.i32(m) for m in order])
                whole, bind = tir.let(value, "y")
                parts.append(bind)
            here = ((image * count + block) * pixels + p) * lanes
            return tir.seq(parts, tir.store(out, whole, tir.ramp(here, lanes)))

        return tir.loop(images, lambda n: tir.loop(pixels, lambda p: pixel(n, p), "pixel"), "image")

    return _kernel(problem, choice, symbol, units, make)


def planes(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    """Row-major channels: a unit is a run of planes at equal distances."""
    lanes = max(1, problem.target.cpu.lanes(32))
    inputs, outputs = problem.body.inputs, problem.body.outputs
    pixels, images = prod(outputs[0].shape[2:]), outputs[0].shape[0]
    units: list[tuple[int, int, int, int, int, int, int]] = []
    for k, value in enumerate(outputs):
        found = sources(problem, value)
        assert not isinstance(found, str)
        units += [(k, *run) for run in runs(found)]

    def make(buffers: list[Buffer], unit: Any) -> Stmt:
        result, start, step, arg, first, stride, count = unit
        out, source = buffers[len(inputs) + result], buffers[arg]

        def plane(n: Expr, k: Expr) -> Stmt:
            to = (n * outputs[result].shape[1] + start + k * step) * pixels
            at = (n * inputs[arg].shape[1] + first + k * stride) * pixels
            whole, rest = divmod(pixels, lanes)

            def copy(p: Expr, width: int) -> Stmt:
                return tir.store(out, tir.load(source, tir.ramp(at + p, width)), tir.ramp(to + p, width))

            return tir.seq(
                tir.loop(whole, lambda v: copy(v * lanes, lanes), "v") if whole else None,
                copy(tir.i32(whole * lanes), rest) if rest else None,
            )

        return tir.loop(images, lambda n: tir.loop(count, lambda k: plane(n, k), "plane"), "image")

    return _kernel(problem, choice, symbol, units, make)


def runs(found: Sequence[Source]) -> list[tuple[int, int, int, int, int, int]]:
    """Cut a list of sources into runs (first result channel, step, input, first channel, step, count)."""
    result = []
    for arg in dict.fromkeys(a for a, _ in found):
        pairs = [(k, c) for k, (a, c) in enumerate(found) if a == arg]
        while pairs:
            (k, c), count = pairs[0], 1
            step = (pairs[1][0] - k, pairs[1][1] - c) if len(pairs) > 1 else (1, 1)
            while count < len(pairs) and pairs[count] == (k + count * step[0], c + count * step[1]):
                count += 1
            result.append((k, step[0], arg, c, step[1], count))
            pairs = pairs[count:]
    return result
