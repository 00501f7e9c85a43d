"""TensorIR of channels of bytes selected, joined or cut: blocks of 16 as they lie, or mixed from several."""

from __future__ import annotations

from math import prod

from tvm import tirx

from edgec.compiler.layout import physical_shape
from edgec.compiler.registry import Emitted, Problem
from edgec.targets import abi, tir
from edgec.targets.conversions import stored
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div
from ..common_emit import chunked
from .channels import LANES, Piece, channels_of, pieces


class Channels:
    """A task is `chunk` pixels; values are flat, inputs before results."""

    def __init__(self, problem: Problem, chunk: int) -> None:
        self.problem, self.body, self.chunk = problem, problem.body, chunk
        self.values = (*self.body.inputs, *self.body.outputs)
        self.pixels = self.body.outputs[0].shape[0] * prod(self.body.outputs[0].shape[2:])
        self.blocks = [ceil_div(v.shape[1], LANES) for v in self.values]
        self.wanted = [channels_of(problem, v) for v in self.body.outputs]

    def emit(self, symbol: str) -> Emitted:
        params = [(f"a{k}", stored(v.type.dtype), (prod(physical_shape(v.type)),)) for k, v in enumerate(self.values)]
        every = pieces(self.problem)

        def whole(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
            def pixel(at: Expr) -> Stmt:
                return tir.seq(self.one(buffers, at, piece) for piece in every)

            return tir.tasks(begin, end, lambda number: chunked(self.pixels, self.chunk, number, pixel))

        function = abi.kernel(symbol, params, whole, pointer_bits=self.problem.target.pointer_bits)
        return Emitted(function, ceil_div(self.pixels, self.chunk))

    def one(self, buffers: list[Buffer], pixel: Expr, piece: Piece) -> Stmt:
        """All that is stored of a piece."""
        k, at, reads, as_it_lies = piece
        parts: list[Stmt] = []
        size = len(reads) if as_it_lies else 1
        if as_it_lies:
            total = self.load(buffers, pixel, *reads[0], size)
        else:
            parts, total = self.mixed(buffers, pixel, piece)
        out = len(self.body.inputs) + k
        place = tir.ramp((pixel * self.blocks[out] + at) * LANES, size * LANES)
        return tir.seq(parts, tir.store(buffers[out], total, place))

    def load(self, buffers: list[Buffer], pixel: Expr, arg: int, block: int, size: int) -> Expr:
        return tir.load(buffers[arg], tir.ramp((pixel * self.blocks[arg] + block) * LANES, size * LANES))

    def mixed(self, buffers: list[Buffer], pixel: Expr, piece: Piece) -> tuple[list[Stmt], Expr]:
        """One block, from the vectors of all blocks that its channels lie in."""
        k, at, reads, _ = piece
        found = self.wanted[k][at * LANES : (at + 1) * LANES]
        parts: list[Stmt] = []
        total: Expr = None
        for arg, block in reads:
            more, bind = tir.let(self.load(buffers, pixel, arg, block, 1), "x")
            parts.append(bind)
            mine = [c % LANES if (a, c // LANES) == (arg, block) else -1 for a, c in found]
            mine += [-1] * (LANES - len(mine))
            if total is None:
                value = tirx.Shuffle([more], [tir.i32(max(m, 0)) for m in mine])
            else:
                order = [LANES + m if m >= 0 else lane for lane, m in enumerate(mine)]
                value = tirx.Shuffle([total, more], [tir.i32(m) for m in order])
            total, bind = tir.let(value, "y")
            parts.append(bind)
        return parts, total
