"""TensorIR of image_int8: a task is a stretch of an image's pixels, a vector of them at a time.

From planes, the bytes of one pixel are put together in one number; from pixels, bytes are computed as they lie and then
dealt out, with a byte that nobody reads behind those of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.registry import Emitted, Problem

from ... import abi, tir
from ...body import Body
from ...floats import kind
from ...tir import Buffer, Expr, Stmt
from ..common import ceil_div
from ..common_emit import stretch
from .image import MOST_CHANNELS, at_once


class Image:
    """Emits the kernel of one image `x`, `chunk` vectors of pixels in a task."""

    def __init__(self, problem: Problem, x: Value, chunk: int) -> None:
        self.problem, self.x, self.chunk = problem, x, chunk
        self.out = problem.body.outputs[0]
        self.planes = x in problem.body.inputs
        self.images, self.channels, self.pixels = x.shape[0], x.shape[1], prod(x.shape[2:])
        self.lanes = at_once(problem)
        self.woven = self.planes and self.lanes > problem.target.cpu.lanes(32)
        self.whole = self.pixels // self.lanes
        self.parts = max(1, ceil_div(self.whole, chunk))

    def kernel(self, symbol: str, params: Sequence[tuple[str, str, tuple[int, ...]]]) -> Emitted:
        def tasks(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
            return tir.tasks(begin, end, lambda number: self.task(buffers, number))

        function = abi.kernel(symbol, params, tasks, pointer_bits=self.problem.target.pointer_bits)
        return Emitted(function, self.images * self.parts)

    def task(self, buffers: list[Buffer], number: Expr) -> Stmt:
        image, part = tir.split(number, self.images, self.parts)
        first, turns = stretch(part, self.chunk, self.whole)
        body, lanes, done = Body(self.problem.body, {}), self.lanes, self.whole * self.lanes

        def vector(k: Expr) -> Stmt:
            if self.woven:
                return self.planes_dealt(buffers, body, image, (first + k) * lanes)
            if not self.planes:
                return self.dealt(buffers, body, image * self.pixels + (first + k) * lanes)
            return tir.vectorized(lanes, lambda v: self.pixel(buffers, body, image, (first + k) * lanes + v))

        rest = tir.loop(self.pixels - done, lambda k: self.pixel(buffers, body, image, done + k), "rest")
        last = tir.when(part.equal(self.parts - 1), rest) if self.pixels % lanes else None
        return tir.seq(tir.loop(turns, vector, "vector") if self.whole else None, last)

    def pixel(self, buffers: list[Buffer], body: Body, image: Expr, at: Expr) -> Stmt:
        """The bytes of one pixel as one number: each is put above those before it, which a shift that inserts does."""
        total: Expr = tir.i32(0)
        for c in range(self.channels):

            def element(_: object, c: int = c) -> Expr:
                plane = (image * self.channels + c) * self.pixels + at
                return tir.load(buffers[0], plane if self.planes else (image * self.pixels + at) * self.channels + c)

            body.bind(self.x, element)
            byte = body.at(self.out, (image, c, *[0] * (len(self.x.shape) - 2)))
            byte = byte.value if isinstance(byte, tirx.Cast) and kind(byte.value) == "int32" else byte
            whole = tirx.Cast("int32", byte) & tir.i32(255)
            total = (total & tir.i32((1 << 8 * c) - 1)) | (whole << tir.i32(8 * c)) if c else whole
        return tir.store(buffers[1], total, image * self.pixels + at)

    def dealt(self, buffers: list[Buffer], body: Body, first: Expr) -> Stmt:
        """Bytes of a vector of pixels as they lie, then each pixel's in its place."""
        lanes, channels = self.lanes, self.channels
        stage, alloc = self.stage()

        def byte(v: Expr) -> Stmt:
            body.bind(self.x, lambda _: tir.load(buffers[0], first * channels + v))
            return tir.store(stage, body.at(self.out, (0,) * len(self.x.shape)), v)

        def part(n: int) -> Stmt:
            return tir.vectorized(lanes, lambda v: byte(n * lanes + v))

        order = [p * channels + min(c, channels - 1) for p in range(lanes) for c in range(MOST_CHANNELS)]
        return tir.seq(alloc, [part(n) for n in range(channels)], self.words(buffers, stage, order, first))

    def planes_dealt(self, buffers: list[Buffer], body: Body, image: Expr, at: Expr) -> Stmt:
        """Bytes of a vector of pixels of each plane, then each pixel's in its place."""
        lanes = self.lanes
        stage, alloc = self.stage()

        def plane(c: int) -> Stmt:
            def byte(v: Expr) -> Stmt:
                body.bind(self.x, lambda _: tir.load(buffers[0], (image * self.channels + c) * self.pixels + at + v))
                return tir.store(stage, body.at(self.out, (image, c, *[0] * (len(self.x.shape) - 2))), c * lanes + v)

            return tir.vectorized(lanes, byte)

        order = [min(c, self.channels - 1) * lanes + p for p in range(lanes) for c in range(MOST_CHANNELS)]
        done = [plane(c) for c in range(self.channels)]
        return tir.seq(alloc, done, self.words(buffers, stage, order, image * self.pixels + at))

    def stage(self) -> tuple[Buffer, Stmt]:
        return tir.local((self.lanes * MOST_CHANNELS,), dtype(self.out.type.dtype).tvm, "stage")

    def words(self, buffers: list[Buffer], stage: Buffer, order: list[int], first: Expr) -> Stmt:
        """Store a vector of pixels, whose bytes are elements of a stage."""
        dealt = tirx.Shuffle([tir.load(stage, tir.ramp(0, len(order)))], [tir.i32(n) for n in order])
        word = tirx.reinterpret(f"int32x{self.lanes}", dealt)
        return tir.store(buffers[1], word, tir.ramp(first, self.lanes))
