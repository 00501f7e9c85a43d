"""What follows sums of bytes on AArch64: any elementwise code on neighbouring channels; a last table by tbl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import const_array, full_attrs, int_attr, is_const
from edgec.compiler.ops.common import limits
from edgec.compiler.registry import Choice, Problem
from edgec.targets import reciprocal, tir
from edgec.targets.body import Body, align
from edgec.targets.floats import fused
from edgec.targets.integer import POWER, POWER_BITS, ROUNDER, ROUNDER_BITS, halved, rescale_once, unpacked_once
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import LIGHT, after_anchor, ceil_div
from ..common_emit import Frame, put, vector
from .bytes import BLOCK, DIRECT, ENDS, GENTLY, HELD, LANES, NARROW, ONCE, REAL, RISING, added, says

SHORT_CODE = LIGHT | {"DequantizeLinear", "Cast"}  # a copy for each pixel of a tile is no burden
PART = 4  # blocks of a table that one tbl looks up in, at most
HALF = BLOCK // 2
Index = Callable[[Expr], tuple[Expr, ...]]  # of a result's channel


@dataclass(frozen=True)
class Sums:
    """Those of `width` channels of a pixel: they lie in `buffer` from `at` on. `index` is a result's, `offset` what
    its product is reduced by (see the function `offset`), both by lane."""

    buffer: Buffer
    at: Expr | int
    width: int
    index: Index
    offset: Callable[[Expr], Expr]


def short(problem: Problem) -> bool:
    """Whether what follows is so little code that each pixel may have its own. A table is looked up in for all of
    them at once."""
    table = looked_up(problem)
    return SHORT_CODE.issuperset(n.op for n in after_anchor(problem) if n is not table)


def looked_up(problem: Problem) -> Node | None:
    """The only table of elements of sums."""
    found = [n for n in after_anchor(problem) if n.op == "Edgec.Table"]
    return found[0] if len(found) == 1 and found[0].args[1] in problem.body.inputs else None


def at_once(problem: Problem, most: int) -> int:
    """Channels of a pixel whose results are stored together, `most` at most. Floats lie in blocks of four, and would be
    stored one by one where a vector held several; bytes that a table is looked up in fill vectors first."""
    return most if problem.body.outputs[0].type.dtype in ("i8", "u8") or looked_up(problem) else LANES


def lifted(held: int) -> int:
    """What sums start from, beside their bias: conversions to floats are a subtraction then, where they would keep one
    pipe busy."""
    return {0: 0, ONCE: 0, RISING: POWER_BITS}.get(held, ROUNDER_BITS)


def offset(frame: Frame, rescaling: Node, channel: Expr) -> Expr:
    """What is added to the product of a sum and its multiplier: its own addend, or less the product of what sums start
    from. All of it is exact."""
    own = rescaling.args[2:] if rescaling.op == "Edgec.RescaleOnce" else ()
    operand = own[0] if own else rescaling.args[1]
    sums = rescaling.args[0].node
    sums = sums.args[0].node if sums.op == "Cast" else sums
    rank, inner = len(rescaling.results[0].shape), sums.op == "Edgec.MatMulInteger"
    index = (*[0] * (rank - 1), channel) if inner else (0, channel, *[0] * (rank - 2))
    place, at = frame.places.get(operand), align(index, operand.shape)
    number = frame.body.at(operand, at) if place is None else place.load(at)  # as stored: the body may read copies
    if own:
        return number
    if rescaling.op == "Edgec.RescaleOnce":
        return tir.lit(ROUNDER + int_attr(rescaling, "zero"), "float32") - number * tir.lit(ROUNDER, "float32")
    return number * tir.lit(-ROUNDER if rescaling.op == "Mul" else -POWER, "float32")


def unpacked(problem: Problem, node: Node) -> bool:
    """Whether nothing but other rescalings read the bytes of one: they need not leave f32."""
    users = [n for n in problem.body.nodes() if node.results[0] in n.args]
    return bool(users) and all(n.op == "Edgec.Rescale" for n in users)


class Tail:
    """Code behind sums, by what a choice says of them (see arm_bytes.said)."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        held, (low, high) = choice.get(HELD), (says(choice, name) for name in ENDS)
        self.anchor, self.out, self.held = problem.anchor.results[0], problem.body.outputs[0], held
        self.table, self.ends = looked_up(problem), (low, high)
        self.before = self.out if self.table is None else self.table.args[0]
        self.added = added(problem, held)
        self.unpacked = self.added is not None and unpacked(problem, self.added)
        narrow = bool(says(choice, NARROW))
        self.quantized = narrow and self._divided()
        rescalings = [n for n in after_anchor(problem) if n.op == "Edgec.Rescale"]
        self.halves = held in (2, RISING) or (narrow and rescalings == [self.out.node])
        gentle = self.added is not None and says(choice, GENTLY)
        self.near = frozenset(self.added.results if self.added is not None and gentle else ())

    def _divided(self) -> bool:
        """Whether results are bytes by a scale for which a product does."""
        node = self.out.node
        if node.op != "QuantizeLinear" or not all(is_const(a) and a.type.size == 1 for a in node.args[1:]):
            return False
        return self.out.type.dtype in ("i8", "u8") and reciprocal.exact(float(const_array(node.args[1]).reshape(-1)[0]))

    def value(self, frame: Frame, sums: Sums, lane: Expr, value: Value) -> Expr:
        """`value` of a lane."""
        body, total = frame.body, tir.load(sums.buffer, sums.at + lane)
        body.halves, body.near = self.halves, self.near
        if self.added is not None:
            attrs: Any = full_attrs(self.added)
            multiplier = self.added.args[1]
            factor = body.at(multiplier, align(sums.index(lane), multiplier.shape))
            if self.held in (ONCE, DIRECT):
                once = unpacked_once if self.unpacked else rescale_once
                made = once(total, factor, sums.offset(lane), **attrs)
            elif self.held == REAL:
                made = fused(tirx.reinterpret("float32", total), factor, sums.offset(lane))
            else:
                limits = {name: attrs[name] for name in ("to", "zero", "low", "high")}
                made = halved(fused(tirx.reinterpret("float32", total), factor, sums.offset(lane)), **limits)
            body.bind(self.added.results[0], lambda _: made)
        else:
            lifted = self.held > 0
            whole = tirx.reinterpret("float32", total) - tir.lit(ROUNDER, "float32") if lifted else total
            body.bind(self.anchor, lambda _: whole)
        if self.quantized and value == self.out:
            return self._bytes(body, sums.index(lane))
        return body.at(value, sums.index(lane))

    def _bytes(self, body: Body, index: tuple[Expr, ...]) -> Expr:
        """Of real numbers that constants keep within 16 bits of steps: limits come when they are narrowed."""
        x, scale, zero = (body.at(a, align(index, a.shape)) for a in self.out.node.args)
        low, high = map(int, limits(self.out.type.dtype))
        steps = reciprocal.quotient(x, float(scale.value))
        return halved(steps, to=self.out.type.dtype, zero=int(zero.value), low=low, high=high)

    def _stored(self, frame: Frame, s: Sums) -> Stmt:
        return tir.vectorized(
            s.width, lambda lane: frame.place.store(self.value(frame, s, lane, self.out), s.index(lane))
        )

    def store(self, frame: Frame, every: Sequence[Sums]) -> Stmt:
        """Results; where a table follows, of all at once, so that each part of it is read once."""
        if self.table is None:
            return tir.interleaved([self._stored(frame, s) for s in every])
        kind = {"u8": "uint8", "i8": "int8"}
        places, at = [], 0
        for s in every:  # eight channels of two pixels share a vector
            at = at if s.width <= BLOCK - at % BLOCK else ceil_div(at, BLOCK) * BLOCK
            places.append(at)
            at += ceil_div(s.width, HALF) * HALF
        room = ceil_div(at, BLOCK) * BLOCK
        found, numbers = self.table.results[0], self.table.args[1]
        signed, made = self.before.type.dtype == "i8", kind[found.type.dtype]
        before, alloc = tir.local((room,), kind[self.before.type.dtype], "before")
        after, alloc_after = tir.local((room,), made, "after")
        table, declared = tir.flat(frame.places[numbers].buffer)
        parts: list[Stmt] = [alloc, alloc_after, declared]
        for s, place in zip(every, places, strict=True):

            def argument(lane: Expr, s: Sums = s, place: int = place) -> Stmt:
                return tir.store(before, self.value(frame, s, lane, self.before), place + lane)

            parts.append(tir.vectorized(s.width, argument))
        parts.append(_looked_up(table, before, after, room // BLOCK, signed, made, self.ends))
        for s, place in zip(every, places, strict=True):

            def result(lane: Expr, s: Sums = s, place: int = place) -> Stmt:
                frame.body.bind(found, lambda _: tir.load(after, place + lane))
                return frame.place.store(self.value(frame, s, lane, self.out), s.index(lane))

            parts.append(tir.vectorized(s.width, result))
        return tir.seq(parts)


def _looked_up(
    table: Buffer, before: Buffer, after: Buffer, count: int, signed: bool, made: str, ends: tuple[int, int]
) -> Stmt:
    """Vectors of elements of a table of 256 bytes: a tbl of each part gives 0 for indices that are not its own.

    `ends` of the table are not read: what is beyond what lies between them is limited to it."""
    kind = f"int8x{BLOCK}"
    zero = 256 // BLOCK // 2 if signed else 0  # the block of byte 0
    parts: list[Stmt] = []
    index: list[Expr] = []
    for i in range(count):
        x, bind = tir.let(_within(vector(before, BLOCK, i * BLOCK), ends, zero), "index")
        parts.append(bind)
        index.append(x)
    totals: list[Expr | None] = [None] * count
    for first, blocks in table_parts(ends, zero):
        lines = []
        for k in range(blocks):
            line, bind = tir.let(tirx.reinterpret(kind, vector(table, BLOCK, (first + k) * BLOCK)), "line")
            parts.append(bind)
            lines.append(line)
        step = tir.broadcast(tir.lit(((zero - first) * BLOCK + 128) % 256 - 128, "int8"), BLOCK)
        for i in range(count):
            own = index[i]
            if first != zero:
                own, bind = tir.let(own + step, "index")
                parts.append(bind)
            own = tirx.call_llvm_pure_intrin(kind, f"llvm.aarch64.neon.tbl{blocks}.v16i8", *lines, own)
            old = totals[i]
            totals[i], bind = tir.let(own if old is None else tirx.bitwise_or(old, own), "found")
            parts.append(bind)
    stores = [
        put(after, tirx.reinterpret(f"{made}x{BLOCK}", x), BLOCK, i * BLOCK)
        for i, x in enumerate(totals)
        if x is not None
    ]
    return tir.seq(parts, stores)


def _within(x: Expr, ends: tuple[int, int], zero: int) -> Expr:
    """Bytes that are indices of a table, as signed ones."""
    name = "int8" if zero else "uint8"
    below, above = ends
    if below:
        x = tirx.max(x, tir.broadcast(tir.lit((below - zero) * BLOCK, name), BLOCK))
    if above:
        x = tirx.min(x, tir.broadcast(tir.lit(255 - (above + zero) * BLOCK, name), BLOCK))
    return tirx.reinterpret(f"int8x{BLOCK}", x)


def table_parts(ends: tuple[int, int], zero: int) -> list[tuple[int, int]]:
    """(first block, blocks) of a table's parts between its ends. None holds the border before byte 0, so that the part
    that begins there takes indices as they are."""
    first, last = ends[0], 256 // BLOCK - ends[1]
    found = []
    for low, high in ((first, min(last, zero)), (max(first, zero), last)):
        at = low
        for blocks in _cut(high - low):
            found.append((at, blocks))
            at += blocks
    return found


def _cut(blocks: int) -> list[int]:
    """Blocks that each tbl looks up in: at most four, and not four and one, which take longer than three and two."""
    fours, rest = divmod(max(blocks, 0), PART)
    sizes = [PART] * fours + [rest] * bool(rest)
    return [*sizes[:-2], PART - 1, 2] if fours and rest == 1 else sizes
