"""image_int8: bytes made of an image of up to four channels, from planes or pixels to pixels of four bytes each."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

from edgec.compiler.ir import Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import OPS
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import byte_layout, ceil_div, instructions, task_split
from ..cost import microseconds, streamed

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


def at_once(problem: Problem) -> int:
    """Pixels of a vector: on 64-bit ARM as many of planes as a register holds bytes, so that whole ones are narrowed
    and dealt."""
    planes = pixels_of(problem) in problem.body.inputs
    return 16 if planes and problem.target.triple.startswith("aarch64") else problem.target.cpu.lanes(32)


def choices(problem: Problem) -> Sequence[Choice]:
    x, cpu = pixels_of(problem), problem.target.cpu
    lanes = cpu.lanes(32)
    nodes = [n for n in problem.body.nodes() if OPS[n.op].kind == "elementwise"]
    each = 2.0 + instructions(nodes)
    pixels = x.shape[0] * prod(x.shape[2:])
    moved = storage_bytes(x.type) + 4.0 * pixels
    us = microseconds(cpu, ceil_div(pixels, lanes) * x.shape[1] * each, streamed(cpu, moved))
    units = ceil_div(prod(x.shape[2:]), at_once(problem))
    config = (("chunk", task_split(units, us / units, problem.threads)),)
    return [Choice(NAME, ("",), (byte_layout(x.shape),), config, us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ...conversions import stored
    from .image_emit import Image

    image = Image(problem, pixels_of(problem), choice.get("chunk"))
    element = stored(image.x.type.dtype)
    params = [("x", element, (image.images * image.channels * image.pixels,))]
    return image.kernel(symbol, [*params, ("out", "int32", (image.images * image.pixels,))])


kernel(Row(NAME, frozenset(), match, choices, emit, "bytes of an image of few channels, from planes to pixels"))
