"""TensorIR of pooling of bytes on Cortex-M: pixel by pixel, windows inside of the image at once."""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import unblocked
from ..common_emit import Frame, emit_kernel
from ..conv.shape import Axis
from .asm import OPAQUE, STAY, at, called, imported, opaque, stay
from .bytes import STEP
from .pool_asm import covered, inside
from .pool_rows import geometry, stored, written_out


class Pool:
    """Emits one kernel; a task is an image."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem, self.choice, self.w = problem, choice, geometry(problem)
        self.x, self.anchor = problem.anchor.args[0], problem.anchor.results[0]
        self.greatest = problem.anchor.op == "MaxPool"
        self.zero = 0 if self.greatest else int(str(full_attrs(problem.anchor)["zero"]))
        self.stored, self.rank = stored(self.w), len(self.anchor.shape)
        self.fast = written_out(self.w, problem.target.small)

    def emit(self, symbol: str) -> Emitted:
        scratch = [] if self.greatest else [("sums", "int32", self.stored, 0)]
        return emit_kernel(self.problem, self.choice, symbol, self.w.batch, self.task, self.view, scratch, self.around)

    def view(self, value: Value) -> Type:
        return unblocked(value.type)

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        w, kind = self.w, self.x.type.dtype
        places = [(y * w.width.size + x) * self.stored for y in range(w.height.kernel) for x in range(w.width.kernel)]
        text = [OPAQUE, STAY]
        if self.fast:
            text.append(inside("m_inside", kind, self.greatest, self.stored // STEP, places))
        if not self.fast or self.clipped:
            text.append(covered("m_covered", kind, self.greatest, self.stored))
        return imported("".join(text), tasks)

    @property
    def clipped(self) -> bool:
        """Whether some window leaves the image."""
        w = self.w
        return not all(a.inside(p, t) for a in (w.height, w.width) for p in (0, a.out - 1) for t in (0, a.kernel - 1))

    def task(self, frame: Frame, image: Expr) -> Stmt:
        w = self.w

        def row(o: Expr) -> Stmt:
            bounds, binds = _bounds(w.height, o)
            return tir.seq(binds, tir.loop(opaque(w.width.out), lambda i: self.pixel(frame, image, o, i, bounds), "i"))

        return tir.loop(opaque(w.height.out), row, "o")

    def pixel(self, frame: Frame, image: Expr, o: Expr, i: Expr, rows: tuple[Expr, Expr]) -> Stmt:
        w = self.w
        data, declared = tir.flat(frame.places[self.x].buffer)
        (first, columns), binds = _bounds(w.width, i)
        source, bind = tir.let(((image * w.height.size + rows[0]) * w.width.size + first) * self.stored, "source")
        if self.greatest:
            out, declared_out = tir.flat(frame.place.buffer)
            target = ((image * w.height.out + o) * w.width.out + i) * self.stored
        else:
            out, declared_out, target = frame.parts[0], None, tir.i32(0)
        each = STEP  # elements of the result of a word

        def word(q: Expr) -> Stmt:
            pitch = w.width.size * self.stored
            return called("m_covered", at(data, source + q * STEP), at(out, target + q * each), rows[1], columns,
                          opaque(pitch))  # fmt: skip

        slow = tir.loop(opaque(self.stored // STEP), word, "q")
        whole = called("m_inside", at(data, source), at(out, target))
        found = slow if not self.fast else whole
        if self.fast and self.clipped:
            found = tir.when((rows[1] * columns).equal(w.taps), whole, slow)
        ends = None if self.greatest else self.finish(frame, image, o, i, rows[1] * columns)
        return tir.seq(declared, declared_out, binds, bind, found, ends)

    def finish(self, frame: Frame, image: Expr, o: Expr, i: Expr, count: Expr) -> Stmt:
        """What follows sums; zero points of all that a window covers are taken off."""
        less, bind = tir.let(count * self.zero, "less")

        def one(c: Expr) -> Stmt:
            frame.body.bind(self.anchor, lambda _: tir.load(frame.parts[0], c) - less)
            return tir.seq(stay(), frame.store((image, c, *((o, i) if self.rank == 4 else (i,)))))

        return tir.seq(bind, tir.loop(opaque(self.w.channels_out), one, "c"))


def _bounds(axis: Axis, o: Expr) -> tuple[tuple[Expr, Expr], list[Stmt]]:
    """The first element of a window that there is, and how many there are."""
    start = o * axis.stride - axis.pad
    low, bind = tir.let(tirx.max(start, 0) if axis.pad else start, "low")
    leaves = not axis.inside(axis.out - 1, axis.kernel - 1)
    end = tirx.min(start + axis.kernel, axis.size) if leaves else start + axis.kernel
    count, bind_count = tir.let(end - low, "count")
    return (low, count), [bind, bind_count]
