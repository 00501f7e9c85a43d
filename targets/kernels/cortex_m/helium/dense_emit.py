"""TensorIR of dense products of bytes on Helium (shape.py says how they are computed).

Of a convolution with groups one is computed after the other; the window has the channels of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from tvm import tirx

from edgec.compiler.op import int_attr
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.integer import bias
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common import ceil_div
from ...common_emit import Frame, emit_kernel, vector
from ...conv.shape import Window, geometry, of_group
from .dense_rows import scratch, zero_of
from .shape import BYTES, QUAD, chunks, reach, stored_channels
from .vector import dot, masked, ones, partly, store_channels
from .window import Patch

WRITTEN_OUT = 3  # chunks, at most
SUMS = 4  # that are in registers of the core at once, at most, where channels are taken in pairs
Sources = Sequence[tuple[Buffer, Expr]]  # where each pixel's bytes begin


class Dense:
    """Emits one kernel, which is one task."""

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        self.rank = len(self.anchor.shape)
        self.turned = problem.anchor.op == "Edgec.ConvInteger" and w != of_group(geometry(problem))
        self.matrix = problem.anchor.op == "Edgec.MatMulInteger"
        self.apart = stored_channels(self.x.type)  # bytes from a pixel to the next
        self.reach = reach(w, self.apart if w.group == 1 else w.channels_in)
        self.pixels, self.zero = choice.get("mt"), zero_of(problem)
        self.last = self.zero == 0 and w.group == 1 and self.bias.shape[0] > 1  # biases are added four at a time
        self.wide = ceil_div(w.channels_out, QUAD) * QUAD

    def emit(self, symbol: str) -> Emitted:
        parts, at = [], 0
        for name, size in scratch(self.w, self.reach, self.pixels, self.zero):
            kind = "int8" if name == "patch" else "int32"
            parts.append((name, kind, max(1, size // (1 if kind == "int8" else 4)), at))
            at += size
        return emit_kernel(self.problem, self.choice, symbol, 1, self.task, parts=parts)

    def task(self, frame: Frame, number: Expr) -> Stmt:
        self.frame = frame
        self.sums, starts, patch = frame.parts
        x, declared_x = tir.flat(frame.places[self.x].buffer)
        self.weights, declared_w = tir.flat(frame.places[self.weight].buffer)
        self.biases, declared_b = tir.flat(frame.places[self.bias].buffer)
        self.data, self.starts = x, starts
        total = self.w.batch * self.w.pixels

        def group(number: Expr) -> Stmt:
            self.before, self.read = number * self.w.channels_out, number * self.w.channels_in
            self.patch = Patch(self.w, self.reach, self.zero, x, patch, frame.zero, self.apart, self.read)
            tiles = tir.loop(ceil_div(total, self.pixels) + frame.zero, lambda t: self.tile(t, total), "tile")
            return tir.seq(self.begin() if self.zero else None, tiles)

        groups = tir.loop(self.w.group + frame.zero, group, "group") if self.w.group > 1 else group(tir.i32(0))
        return tir.seq(declared_x, declared_w, declared_b, groups)

    def line(self, channel: Expr, at: Expr | int) -> Expr:
        """Sixteen bytes of the weights of a channel."""
        return vector(self.weights, BYTES, (channel + self.before) * self.reach.length + at)

    def start(self, channel: Expr) -> Expr:
        if self.last:
            return tir.i32(0)
        return tir.load(self.starts, channel) if self.zero else self.stored_bias(channel)

    def stored_bias(self, channel: Expr) -> Expr:
        place = channel + self.before if self.bias.shape[0] > 1 else tir.i32(0)
        return bias(tir.load(self.biases, place), int_attr(self.problem.anchor, "shift"))

    def begin(self) -> Stmt:
        """What sums start from: the bias, less zero * (the sum of a channel's weights)."""
        r = self.reach

        def channel(c: Expr) -> Stmt:
            cell = tir.Cell("int32", "total")
            full, rest = divmod(r.length, BYTES)

            def step(k: Expr) -> Stmt:
                return cell.set(dot(cell.now, ones(), self.line(c, k * BYTES)))

            last = masked(ones(), BYTES - rest)
            tail = dot(cell.now, last, self.line(c, r.length - BYTES))
            turns = tir.loop(full + self.frame.zero if full > 1 else full, step, "k")
            start = self.stored_bias(c) - cell.now * self.zero
            ends = [cell.set(tail) if rest else None, tir.store(self.starts, start, c)]
            return tir.seq(cell.made, cell.set(0), turns, ends)

        return tir.loop(self.w.channels_out + self.frame.zero, channel, "c")

    def tile(self, t: Expr, total: int) -> Stmt:
        """Some pixels. Where the last tile has fewer, products are those of the last pixel again, and are left alone: a
        result may be written over what it is added to, and must be made once."""

        def number(p: Expr | int) -> Expr:
            at = t * self.pixels + p
            return tirx.min(at, total - 1) if total % self.pixels else at

        room = self.reach.vectors * BYTES
        binds: list[Stmt | None] = []
        sources = []
        for p in range(self.pixels):
            if self.reach.direct:
                base, bind = tir.let(self.offset(number(p)), "base")
                binds.append(bind)
                sources.append((self.data, base))
            else:
                sources.append((self.patch.room, tir.i32(p * room)))
        left = total - t * self.pixels
        count, bind = tir.let(tirx.min(left, self.pixels), "count") if total % self.pixels else (self.pixels, None)
        binds.append(bind)
        if not self.reach.direct:
            binds.append(
                self.each_pixel(count, lambda p: self.patch.copy(*self.position(t * self.pixels + p), p * room))
            )
        done = self.all_chunks(sources)
        return tir.seq(binds, done, self.each_pixel(count, lambda p: self.finish(p, t * self.pixels + p)))

    def all_chunks(self, sources: Sources) -> list[Stmt]:
        """The first and the last chunk are written out: one begins sums, the other may be masked."""
        sizes = chunks(self.reach.vectors, self.pixels)
        if len(sizes) <= WRITTEN_OUT:
            return [self.chunk(sources, sum(sizes[:k]), size, k == 0) for k, size in enumerate(sizes)]
        done = [self.chunk(sources, 0, sizes[0], True)]
        first = sizes[0]
        for size, run in groupby(sizes[1:-1]):
            count = len(list(run))

            def one(k: Expr, first: int = first, size: int = size) -> Stmt:
                return self.chunk(sources, first + k * size, size, False)

            done.append(tir.loop(count + self.frame.zero, one, "chunk"))
            first += count * size
        return [*done, self.chunk(sources, first, sizes[-1], False)]

    def each_pixel(self, count: Expr | int, make: Callable[[Expr], Stmt]) -> Stmt:
        """A loop that stays one: the code of a tile's pixels stands once."""
        return tir.loop(count + self.frame.zero if self.pixels > 1 else 1, make, "p")

    def position(self, number: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, row and column of an output pixel."""
        image, row, column = tir.split(number, self.w.batch, self.w.height.out, self.w.width.out)
        return (tir.i32(0) if self.w.batch == 1 else image), row, column

    def offset(self, number: Expr) -> Expr:
        """Where the only tap of an output pixel begins."""
        w = self.w
        if w.pointwise:
            return number * self.apart + self.read
        image, row, column = self.position(number)
        line = image * w.height.size + (row * w.height.stride - w.height.pad)
        return (line * w.width.size + (column * w.width.stride - w.width.pad)) * self.apart + self.read

    # -- products --------------------------------------------------------------------------------------------------

    def chunk(self, sources: Sources, first: Expr | int, size: int, fresh: bool) -> Stmt:
        """Some vectors of each pixel times those of all output channels."""
        r, binds = self.reach, []
        held: list[list[Expr]] = []
        known = isinstance(first, int)
        wanted = [(first + s) * BYTES for s in range(size)]
        places = [min(at, r.length - BYTES) for at in wanted] if isinstance(first, int) else wanted
        for buffer, base in sources:
            held.append([])
            for s, at in enumerate(places):
                value, bind = tir.let(self.act(buffer, base, at, wanted[s] - at if known else 0), "a")
                held[-1].append(value)
                binds.append(bind)

        def channels(first: Expr, count: int) -> Stmt:
            binds_here: list[Stmt] = []
            totals: list[list[Expr]] = []
            for c in (first + j for j in range(count)):
                lines = []
                for at in places:
                    line, made = tir.let(self.line(c, at), "w")
                    lines.append(line)
                    binds_here.append(made)
                start, made = tir.let(self.start(c), "start")
                binds_here.append(made if fresh else None)
                begun = [start if fresh else tir.load(self.sums, c + p * self.wide) for p in range(len(held))]
                totals.append([self.products(t, acts, lines) for t, acts in zip(begun, held, strict=True)])
            named = [[tir.let(t, "total") for t in each] for each in totals]
            ends = [
                tir.store(self.sums, named[j][p][0], first + j + p * self.wide)
                for p in range(len(held))
                for j in range(count)
            ]
            return tir.seq(binds_here, [bind for each in named for _, bind in each], ends)

        split = len(chunks(r.vectors, self.pixels)) > 1  # sums are read and written again and again
        together = 2 if split and 2 * self.pixels <= SUMS else 1
        many, rest = divmod(self.w.channels_out, together)
        turns = tir.loop(many + self.frame.zero, lambda k: channels(k * together, together), "c") if many else None
        return tir.seq(binds, turns, channels(tir.i32(many * together), rest) if rest else None)

    @staticmethod
    def products(total: Expr, acts: Sequence[Expr], lines: Sequence[Expr]) -> Expr:
        for act, line in zip(acts, lines, strict=True):
            total = dot(total, act, line)
        return total

    def act(self, buffer: Buffer, base: Expr, at: Expr | int, again: int) -> Expr:
        """Sixteen bytes of a pixel. The first `again` have been read by the vector before: those count as zeros."""
        if self.reach.direct and self.reach.stored < BYTES:
            return partly(buffer, base, self.reach.stored)
        value = vector(buffer, BYTES, base + at)
        return masked(value, again)

    # -- results ---------------------------------------------------------------------------------------------------

    def finish(self, p: Expr, number: Expr) -> Stmt:
        at = None if self.matrix else self.position(number)

        def index(of_group: Expr) -> tuple[Expr, ...]:
            channel = of_group + self.before
            if at is None:
                return (*tir.split(number, *self.anchor.shape[:-1]), channel)
            image, row, column = at
            if self.rank == 3:
                return image, channel, column
            return (image, channel, column, row) if self.turned else (image, channel, row, column)

        body, bias = self.frame.body, self.bias
        more = (lambda channel: body.at(bias, (channel,))) if self.last else None
        return store_channels(self.frame, self.anchor, self.sums, p * self.wide, self.w.channels_out, index, more)
