"""TensorIR of depthwise int8 convolutions on Cortex-M: a channel's lines come into a ring, and leave it as sums.

Lines hold the bytes as they are, and zero points outside of the image; what zero points add to the sums is taken from
the bias once for each channel.
"""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.conversions import fetched
from edgec.targets.cortex import limited, nearest
from edgec.targets.floats import fenced
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div, unblocked
from ..common_emit import Frame, Numbers, emit_kernel
from ..conv.shape import Window
from .asm import OPAQUE, STAY, at, called, imported, opaque, stay, twice
from .depthwise_rows import GATHERED, Chunk, plan_of
from .move_asm import gathered, gathered_by_table
from .rescale import plain_rescale
from .sums_asm import Ending, lines

STEP = 4
MOST = 4095  # of an offset in an instruction


class Depthwise:
    """Emits one kernel; a task is an image."""

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        self.rank = len(self.anchor.shape)
        self.zero = int(str(full_attrs(problem.anchor)["zero"]))
        self.plan, self.plain = plan_of(w), plain_rescale(problem)
        self.stored = ceil_div(w.channels_in, STEP) * STEP
        self.numbers = Numbers(problem.shared)

    def emit(self, symbol: str) -> Emitted:
        scratch = [("scratch", "int32", self.plan.scratch, 0)]
        return emit_kernel(
            self.problem, self.choice, symbol, self.w.batch, self.task, self.view, scratch, self.around, self.numbers
        )

    def view(self, value: Value) -> Type:
        return value.type if value in (self.x, self.weight) else unblocked(value.type)

    @property
    def passes(self) -> list[tuple[Chunk, int, int]]:
        """What is multiplied at a time: taps of lines first .. first + count - 1."""
        found = []
        for part in self.plan.chunks:
            many, total = self.plan.together(part), self.plan.across.kernel
            found += [(part, k, min(many, total - k)) for k in range(0, total, many)]
        return found

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        step = self.stored * (self.w.width.size if self.plan.swapped else 1)
        text = [OPAQUE, STAY]
        if self.numbers.shared:
            text.append(gathered_by_table("m_gathered", self.plan.along.size % GATHERED))
        else:
            text.append(gathered("m_gathered", self.plan.along.size, step))
        pairs = self.plan.results // 2
        for k, (part, _, count) in enumerate(self.passes):
            several = pairs % 2 == 0 and len(part.products) * count <= 16 and not self.problem.target.small
            unroll = 2 if several else 1
            text.append(lines(f"m_lines{k}", part, count, self.plan.along.stride, k == 0, unroll, self.ending))
        return imported("".join(text), tasks)

    @property
    def ending(self) -> Ending | None:
        """How a pass makes bytes, where it is the only one and only a Rescale follows."""
        apart = self.stored * (self.w.width.out if self.plan.swapped else 1)
        if not self.plain or len(self.passes) > 1 or (2 * apart > MOST and not self.numbers.shared):
            return None
        return Ending(self.plain, apart, self.plan.along.out % 2 > 0, self.numbers.shared)

    def task(self, frame: Frame, image: Expr) -> Stmt:
        number = self.numbers
        begin, zeros = number("results", self.plan.results), number("zeros", twice(self.zero).value)
        fill = tir.loop(
            opaque(number("ring", self.plan.scratch - self.plan.results)),
            lambda i: tir.seq(stay(), tir.store(frame.parts[0], zeros, i + begin)),
            "i",
        )
        channels = opaque(number("channels", self.w.channels_in))
        return tir.seq(fill, tir.loop(channels, lambda c: self.channel(frame, image, c), "c"))

    def channel(self, frame: Frame, image: Expr, c: Expr) -> Stmt:
        plan, scratch = self.plan, frame.parts[0]
        data, declared = tir.flat(frame.places[self.x].buffer)
        weights, declared_weights = tir.flat(frame.places[self.weight].buffer)
        taps = self.w.taps
        binds: list[Stmt] = []
        tap: list[Expr] = []
        for k in range(taps):
            value, bind = tir.let(tirx.Cast("int32", tir.load(weights, c * taps + k)), "w")
            binds.append(bind)
            tap.append(value)
        bias = frame.body.at(self.bias, (c if self.bias.shape[0] > 1 else tir.i32(0),))
        if self.zero:
            total = tap[0]
            for other in tap[1:]:
                total = total + other
            bias = bias - total * self.numbers("zero", self.zero)
        first, bind_first = tir.let(tirx.reinterpret("float32", bias), "first")
        binds.append(bind_first)
        packs: list[list[Expr]] = []
        for part, low, count in self.passes:
            found = []
            for line in range(low, low + count):
                for a, b in part.packs:
                    value, bind = tir.let(self.pack(tap, line, a, b), "pair")
                    binds.append(bind)
                    found.append(value)
            packs.append(found)
        following = tir.Cell("int32", "following")
        steps: list[Expr] = []
        if self.numbers.shared:
            step = self.stored * (self.w.width.size if plan.swapped else 1)
            steps = [self.numbers("turns", plan.along.size // GATHERED), self.numbers("step", step)]
        factor, given = self.factor(frame, c)
        binds += given

        def result(o: Expr) -> Stmt:
            start = o * plan.across.stride - plan.across.pad
            reach = start + (plan.across.kernel - 1) * plan.across.dilation
            last = tirx.min(reach, self.numbers("across", plan.across.size) - 1)
            more = tir.repeat(
                following.now <= last,
                tir.seq(
                    called(
                        "m_gathered",
                        at(data, self.offset(image, following.now) + c),
                        self.place(scratch, following.now & (plan.lines - 1), plan.along.pad),
                        *steps,
                    ),
                    following.add(1),
                ),
            )
            skip = following.set(tirx.max(following.now, start)) if plan.across.stride > plan.across.kernel else None
            to, heads = self.target(frame, image, c, o)
            sums = self.sums(scratch, start, [first, factor], packs, to)
            return tir.seq(skip, more, heads, sums, None if self.ending else self.finish(frame, image, c, o))

        return tir.seq(
            declared, declared_weights, binds, following.made, following.set(0),
            tir.loop(opaque(self.numbers("lines", plan.across.out)), result, "o"),
        )  # fmt: skip

    def factor(self, frame: Frame, c: Expr) -> tuple[Expr, list[Stmt]]:
        """The channel's multiplier where only a Rescale follows, read before its results; else nothing."""
        if not self.plain:
            return tir.lit(0.0, "float32"), []
        if not self.plain.factors:
            return tirx.reinterpret("float32", self.numbers("factor", self.plain.factor)), []
        factors, declared = tir.flat(frame.places[self.plain.factors].buffer)
        factor, bind = tir.let(fetched(tir.load(factors, c), self.plain.factors.type.dtype), "factor")
        zero, low, high = self.plain.limits.zero, self.plain.limits.low, self.plain.limits.high

        def value(index: tir.Index) -> Expr:
            product = fenced(tirx.Cast("float32", frame.body.bound[self.anchor](index)) * factor)
            return tirx.Cast("int8", limited(nearest(product), zero, low, high))

        frame.body.bind(frame.out, value)
        return factor, [declared, bind]

    def pack(self, tap: list[Expr], line: int, a: int | None, b: int | None) -> Expr:
        """Two taps of a line in one word."""
        low = tir.i32(0) if a is None else self.tap(tap, line, a) & 0xFFFF
        return low if b is None else low | tirx.shift_left(self.tap(tap, line, b), tir.i32(16))

    def tap(self, tap: list[Expr], line: int, k: int) -> Expr:
        return tap[k * self.w.width.kernel + line if self.plan.swapped else line * self.w.width.kernel + k]

    def offset(self, image: Expr, line: Expr) -> Expr:
        """Where a line's first element of channel 0 lies."""
        base = image * (self.w.height.size * self.w.width.size * self.stored)
        return base + line * self.numbers("line_in", self.stored * (1 if self.plan.swapped else self.w.width.size))

    def place(self, scratch: Buffer, slot: Expr, element: int) -> Expr:
        """Address of an element of a line of the ring."""
        line, first = self.numbers("line", self.plan.line // 2), self.numbers("results", self.plan.results)
        halves = tirx.address_of(tir.load(scratch, slot * line + (first + element // 2)))
        return halves if element % 2 == 0 else tirx.call_extern("handle", "m_half", halves)

    def sums(
        self, scratch: Buffer, start: Expr, numbers: list[Expr], packs: list[list[Expr]], to: tuple[Expr, Expr]
    ) -> Stmt:
        """The sums of a line of results."""
        plan = self.plan
        parts: list[Stmt] = []
        for k, ((part, low, count), weights) in enumerate(zip(self.passes, packs, strict=True)):
            pointers = []
            for line in range(low, low + count):
                y = start + line * plan.across.dilation
                inside = tirx.And(y >= 0, y < self.numbers("across", plan.across.size))
                slot, bind = tir.let(tirx.Select(inside, y & (plan.lines - 1), tir.i32(plan.lines)), "slot")
                parts.append(bind)
                pointers.append(self.place(scratch, slot, part.first * plan.along.dilation))
            if (ending := self.ending) and ending.soft:
                numbers = [
                    *numbers, self.numbers("apart", ending.apart), self.numbers("result_zero", ending.plain.limits.zero)
                ]  # fmt: skip
            parts.append(called(f"m_lines{k}", *to, *pointers, *numbers, *weights))
        return tir.seq(parts)

    def target(self, frame: Frame, image: Expr, c: Expr, o: Expr) -> tuple[tuple[Expr, Expr], list[Stmt]]:
        """Where a line's results begin and end: bytes of the result itself, or sums in scratch."""
        if not (ending := self.ending):
            return (at(frame.parts[0], 0), at(frame.parts[0], self.plan.results)), []
        out, declared = tir.flat(frame.place.buffer)
        line = self.numbers("line_out", self.stored * (1 if self.plan.swapped else self.w.width.out))
        begin = image * (self.w.pixels * self.stored) + o * line + c
        length = self.numbers("length", (self.plan.along.out - ending.odd) * ending.apart)
        return (at(out, begin), at(out, begin + length)), [declared]

    def finish(self, frame: Frame, image: Expr, c: Expr, o: Expr) -> Stmt:
        def one(i: Expr) -> Stmt:
            frame.body.bind(self.anchor, lambda _: tir.load(frame.parts[0], i))
            spot = (i, o) if self.plan.swapped else (o, i)
            return frame.store((image, c, *(spot if self.rank == 4 else spot[1:])))

        total = self.plan.along.out
        many, rest = divmod(total, 2)
        turns = tir.loop(many, lambda k: tir.seq(stay(), one(k * 2), one(k * 2 + 1)), "i") if many else None
        return tir.seq(turns, one(tir.i32(total - 1)) if rest else None)
