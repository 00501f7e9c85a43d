"""image_int8: bytes made of an image of up to four channels, from planes or pixels to pixels of four bytes each."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import OPS
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .common import byte_layout, ceil_div, instructions, task_split
from .cost import microseconds, streamed

if TYPE_CHECKING:
    from ..tir import Buffer, Expr, Stmt

NAME = "image_int8"
MOST_CHANNELS = 4


def match(problem: Problem) -> Literal[True] | str:
    body = problem.body
    if len(body.outputs) != 1 or len(body.inputs) != 1 or body.outputs[0] in body.inputs:
        return "makes one value of one"
    x, out = pixels_of(problem), body.outputs[0]
    if out.type.dtype not in ("u8", "i8") or x.type.dtype not in ("f32", "u8", "i8") or x.shape != out.shape:
        return "makes bytes of f32 or bytes"
    if len(x.shape) not in (3, 4) or x.shape[1] > MOST_CHANNELS or 0 in x.shape:
        return "needs an image of four channels or fewer"
    if problem.target.cpu.lanes(32) < 4:
        return "needs vector registers"
    for node in body.nodes():
        if OPS[node.op].kind not in ("elementwise", "source") and node.op != "Edgec.Layout" and node != x.node:
            return f"the body holds {node.op}"
        if OPS[node.op].kind == "elementwise" and node.types[0].shape != x.shape:
            return "a part has another shape"
    return True


def pixels_of(problem: Problem) -> Value:
    """The image as the body's operators see it: the argument, or its transpose where that holds pixels."""
    x = problem.body.inputs[0]
    for node in problem.body.nodes():
        if node.op == "Transpose" and node.args == (x,):
            perm: Any = node.attrs["perm"]
            if tuple(perm) == (0, len(x.shape) - 1, *range(1, len(x.shape) - 1)):
                return Value(node)
    return x


def choices(problem: Problem) -> Sequence[Choice]:
    x, cpu = pixels_of(problem), problem.target.cpu
    lanes = cpu.lanes(32)
    nodes = [n for n in problem.body.nodes() if OPS[n.op].kind == "elementwise"]
    each = 2.0 + instructions(nodes)
    pixels = x.shape[0] * prod(x.shape[2:])
    moved = storage_bytes(x.type) + 4.0 * pixels
    us = microseconds(cpu, ceil_div(pixels, lanes) * x.shape[1] * each, streamed(cpu, moved))
    units = ceil_div(prod(x.shape[2:]), lanes)
    config = (("chunk", task_split(units, us / units, problem.threads)),)
    return [Choice(NAME, ("",), (byte_layout(x.shape),), config, us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from tvm import tirx

    from .. import tir
    from ..body import Body
    from ..conversions import stored
    from .common_emit import stretch

    x, out = pixels_of(problem), problem.body.outputs[0]
    planes = x in problem.body.inputs
    images, channels, pixels = x.shape[0], x.shape[1], prod(x.shape[2:])
    lanes, chunk = problem.target.cpu.lanes(32), choice.get("chunk")
    whole = pixels // lanes
    parts = max(1, ceil_div(whole, chunk))
    params = [("x", stored(x.type.dtype), (images * channels * pixels,)), ("out", "int32", (images * pixels,))]

    def kernel_body(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
        def pixel(body: Body, image: Expr, at: Expr) -> Stmt:
            """The bytes of one pixel as one number."""
            total: Expr = tir.i32(0)
            for c in range(channels):

                def element(_: object, c: int = c) -> Expr:
                    plane = (image * channels + c) * pixels + at
                    return tir.load(buffers[0], plane if planes else (image * pixels + at) * channels + c)

                body.bind(x, element)
                byte = body.at(out, (image, c, *[0] * (len(x.shape) - 2)))
                total = total | (tirx.Cast("int32", tirx.Cast("uint8", byte)) << tir.i32(8 * c))
            return tir.store(buffers[1], total, image * pixels + at)

        def many(body: Body, first: Expr) -> Stmt:
            """Bytes of pixels as they lie, then each pixel's in its place."""
            kind, room = dtype(out.type.dtype).tvm, lanes * MOST_CHANNELS
            stage, alloc = tir.local((room,), kind, "stage")

            def element(v: Expr) -> Stmt:
                body.bind(x, lambda _: tir.load(buffers[0], first * channels + v))
                return tir.store(stage, body.at(out, (0,) * len(x.shape)), v)

            whole = tir.load(stage, tir.ramp(0, room))
            order = [p * channels + min(c, channels - 1) for p in range(lanes) for c in range(MOST_CHANNELS)]
            dealt = tirx.Shuffle([whole], [tir.i32(n) for n in order])
            word = tirx.reinterpret(f"int32x{lanes}", dealt)

            def part(n: int) -> Stmt:
                return tir.vectorized(lanes, lambda v: element(n * lanes + v))

            quarters = [part(n) for n in range(channels)]
            return tir.seq(alloc, quarters, tir.store(buffers[1], word, tir.ramp(first, lanes)))

        def task(number: Expr) -> Stmt:
            image, part = tir.split(number, images, parts)
            first, turns = stretch(part, chunk, whole)
            body = Body(problem.body, {})

            def vector(k: Expr) -> Stmt:
                if not planes:
                    return many(body, image * pixels + (first + k) * lanes)
                return tir.vectorized(lanes, lambda v: pixel(body, image, (first + k) * lanes + v))

            rest = tir.loop(pixels - whole * lanes, lambda k: pixel(body, image, whole * lanes + k), "rest")
            last = tir.when(part.equal(parts - 1), rest) if pixels % lanes else None
            return tir.seq(tir.loop(turns, vector, "vector") if whole else None, last)

        return tir.tasks(begin, end, task)

    function = tir.function(symbol, params, kernel_body, pointer_bits=problem.target.pointer_bits)
    return Emitted(function, images * parts)


kernel(Row(NAME, frozenset(), match, choices, emit, "bytes of an image of few channels, from planes to pixels"))
