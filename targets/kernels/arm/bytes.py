"""How AArch64 multiplies bytes, and which tiles that suggests: what int8 convolutions and products share. No TVM.

A tile of output pixels x output channels stays in registers as sums of 32 bits; a step of the reduction takes 16 input
channels of each pixel. Three ways of multiplying exist, of which a row takes one:

- sdot: four input channels of one pixel by four output channels;
- smmla: eight input channels of two pixels by two output channels;
- smull: two input channels of one pixel by eight output channels, as 16 bits that are then added in pairs. Products are
  not summed in 16 bits: two of -128 * -128 do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any, Literal

from edgec.compiler.ir import Node, Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Problem
from edgec.compiler.rescale.bounds import gentle, made_real, narrows, near
from edgec.compiler.target import Cpu, Target

from ..common import byte_layout, ceil_div, epilogue_fits, input_index, operations, spread
from ..conv.shape import Window, conv_window, segments
from ..cost import LOADS, LOOP, SLACK, TILE, Traffic, level_of, microseconds, smallest
from ..int8.depthwise_rows import depthwise

BLOCK = 16  # channels of a block of the layout, bytes of a register
FEW = 4  # input channels up to which blocks are of four
HELD, RISING, ONCE, REAL, DIRECT = "fl", 3, 4, 5, 6
ENDS = "tl", "th"
GENTLY, NARROW = "ge", "nw"
LANES = 4  # sums in a register
STAYING = 2  # pixels of a tile whose weights stay in registers
PARTED = 3.0  # instructions more where a pixel's bytes are no whole vectors
UNIT_PIXELS = 256  # of a task, at least, where threads do not want more tasks


@dataclass(frozen=True)
class Method:
    """One way of multiplying: `each` input channels at a time, pixels in groups of `pixels`; `issue`: instructions per
    accumulator and step of 16 channels on one of `fma_per_cycle` pipes."""

    name: str
    isa: frozenset[str]
    each: int
    pixels: int
    issue: float

    @property
    def groups(self) -> int:
        """Groups of input channels in a block."""
        return BLOCK // self.each

    def registers(self, pixels: int, vectors: int) -> int:
        """Registers that a tile needs."""
        sums = ceil_div(pixels, self.pixels) * self.pixels * vectors
        if self.name == "sdot":
            return sums + pixels + vectors
        return sums + 3 * ceil_div(pixels, 2) + 3 if self.name == "smmla" else sums + pixels + vectors // 2 + 6

    def step_cycles(self, cpu: Cpu, pixels: int, vectors: int) -> float:
        """One step of a tile: the slowest of arithmetic, loads and latency."""
        sums = ceil_div(pixels, self.pixels) * self.pixels * vectors
        moved = pixels if self.name == "smmla" else 8.0 * pixels if self.name == "smull" else 0.0
        return max(
            (self.issue * sums + moved) / cpu.fma_per_cycle,
            (pixels + self.groups * vectors * self.each / LANES) / (LOADS * cpu.load_per_cycle),
            SLACK * self.groups * 3,
        )


METHODS = {
    m.name: m
    for m in (
        Method("sdot", frozenset({"NEON", "DOTPROD"}), 4, 1, 4.0),
        Method("smmla", frozenset({"NEON", "I8MM"}), 8, 2, 2.0),
        Method("smull", frozenset({"NEON"}), 2, 1, 9.0),
    )
}


@dataclass(frozen=True)
class Plan:
    """`columns` pixels by `vectors` of four channels in registers; `spaces` tasks share the pixels of an image."""

    columns: int
    vectors: int
    spaces: int = 1
    cost_us: float = 0.0

    @property
    def channels(self) -> int:
        return self.vectors * LANES


def fits(problem: Problem, x: Value, w: Value) -> Literal[True] | str:
    """True where the operands are signed bytes that the kernel reads as they lie."""
    if not problem.target.triple.startswith("aarch64"):
        return "is for 64-bit ARM"
    if x.type.dtype != "i8" or w.type.dtype != "i8":
        return "multiplies signed bytes"
    if any(input_index(problem.body, v) < 0 for v in (x, w)):
        return "reads an operand through a computation"
    return epilogue_fits(problem)


def channel_window(problem: Problem) -> Window | str:
    """The window of a convolution with one filter and one bias per channel, whose operands the kernel reads as they
    lie."""
    x, weight, bias = problem.anchor.args
    for fit in (fits(problem, x, weight), depthwise(problem)):
        if fit is not True:
            return fit
    if bias not in problem.body.inputs or bias.shape[0] == 1:
        return "needs a bias per channel"
    return conv_window(problem.anchor)


def result_layout(t: Type, lanes: int) -> str:
    """That of a kernel's output: floats keep their blocks."""
    if t.dtype in ("i8", "u8"):
        return byte_layout(t.shape)
    return f"{'NCHW' if len(t.shape) == 4 else 'NCW'}{lanes}c" if t.dtype == "f32" else ""


def weight_layout(problem: Problem, method: Method, w: Window, plan: Plan) -> str:
    """[O/T][kh][kw][groups of inputs][T outputs][inputs of a group]: the order in which the loops read them. By columns
    [O/T][kh][groups of columns][T outputs][columns of a group]. The last tile of a constant may have the outputs that
    are left alone: vectors of it are read to their ends, whatever stands there."""
    weight = problem.anchor.args[1]
    if weight.type.dtype == "i8" and len(weight.shape) == 2:
        text = f"JK{plan.channels}j{method.each}k"
    elif w.by_columns:
        text = f"{'OHIW' if len(weight.shape) == 4 else 'OIW'}{plan.channels}o{method.each}w"
    else:
        text = f"{'OHWI' if len(weight.shape) == 4 else 'OWI'}{plan.channels}o{method.each}i"
    unit = _unit(problem, method, w, plan)
    return f"U{unit}:{text}" if unit else text


def _unit(problem: Problem, method: Method, w: Window, plan: Plan) -> int:
    """What inputs of a constant are padded to multiples of, where its outputs are not padded; 0 where all are. The last
    group of inputs is widened in registers where each is read once. Where `smull` reads weights again and again, rows
    of whole vectors pay: they are loaded in pairs."""
    if input_index(problem.body, problem.anchor.args[1]) not in problem.constants:
        return 0
    once = w.taps == 1 and w.pixels * w.batch <= plan.columns
    if method.name == "smull" and not once:
        return 0
    rest = w.channels_in % method.each
    unit = 1 << (rest - 1).bit_length() if once and rest else method.each
    return unit if unit < method.each or w.channels_out % plan.channels else 0


def plans(problem: Problem, method: Method, w: Window) -> Iterator[Plan]:
    """The tiles that fit the registers, with their modelled time."""
    cpu = problem.target.cpu
    after = operations(problem)
    wanted = ceil_div(w.channels_out, LANES)
    for vectors in sorted({min(n, wanted + wanted % 2) for n in (2, 3, 4, 5, 8)}):
        if method.name == "smull" and vectors % 2:  # 16 bytes of weights are two vectors
            continue
        most = max((p for p in range(1, 17) if method.registers(p, vectors) <= cpu.vector_registers), default=0)
        widths = _widths(w.width.out, most, method.pixels)
        if stays(w, method):
            if vectors > BLOCK // LANES:
                continue
            widths = [min(STAYING, w.width.out)]
        for columns in widths:
            for spaces in _spaces(w, problem.threads):
                plan = Plan(columns, vectors, spaces)
                tasks = w.batch * spaces * ceil_div(w.channels_out, plan.channels)
                us = cost(w, cpu, method, plan, after) * spread(tasks, problem.threads)
                yield replace(plan, cost_us=us)


def shortest(w: Window, every: Sequence[Plan], target: Target) -> list[Plan]:
    """The plan to take where code is to be small."""
    return [smallest(every, lambda p: p.cost_us, lambda p: _code(w, p), target)] if every else []


def _code(w: Window, plan: Plan) -> int:
    """How many vectors of sums are written out: in tiles inside of the image, at edges, and of channels left over."""
    full, rest = divmod(ceil_div(w.channels_out, LANES), plan.vectors)
    return sum(s.length for s in segments(w.width, plan.columns)) * ((plan.vectors if full else 0) + rest)


def stays(w: Window, method: Method) -> bool:
    """Whether all weights of 16 outputs stay in registers, and leave room for few pixels at a time: wider tiles would
    load them again and again."""
    return method.name == "sdot" and FEW < w.channels_in <= BLOCK and w.taps == 1 and w.pixels > 1


def _widths(out: int, most: int, multiple: int) -> list[int]:
    """Widths that cut a row into equal parts, the widest first, and the widest of all."""
    if not most:
        return []
    even = [ceil_div(out, parts) for parts in range(ceil_div(out, most), ceil_div(out, most) + 3) if parts <= out]
    whole = [min(most, ceil_div(n, multiple) * multiple) for n in even]
    return list(dict.fromkeys([*whole, min(most, ceil_div(out, multiple) * multiple)]))


def _spaces(w: Window, threads: int) -> list[int]:
    """Shares of an image: one, and where several threads want tasks, a few."""
    most = max(1, w.pixels // UNIT_PIXELS)
    return sorted({1, min(most, threads), min(most, 2 * threads)}) if threads > 1 else [1]


def row_blocks(w: Window, plan: Plan) -> tuple[int, int]:
    """Rows (tiles, where all pixels are one row) of a space, and how many spaces there are."""
    total = ceil_div(w.width.out, plan.columns) if w.height.out == 1 else w.height.out
    each = ceil_div(total, min(plan.spaces, total))
    return each, ceil_div(total, each)


def cost(w: Window, cpu: Cpu, method: Method, plan: Plan, after: float) -> float:
    """Modelled time in us."""
    blocks = ceil_div(w.channels_in, BLOCK) if w.channels_in > FEW else 0.25
    steps = blocks * (w.taps / FEW if w.by_columns else w.taps)
    full, rest = divmod(ceil_div(w.channels_out, LANES), plan.vectors)
    cycles = 0.0
    for vectors, many in ((plan.vectors, full), (rest, 1)):
        if vectors and many:
            for s in segments(w.width, plan.columns):
                work = steps * (method.step_cycles(cpu, s.length, vectors) + LOOP)
                parted = PARTED if vectors % (BLOCK // LANES) else 0.0
                ends = s.length * (vectors * (2.5 + 1.5 * after) + parted) / cpu.fma_per_cycle + TILE
                cycles += many * s.count * w.height.out * (work + ends)
            cycles += many * plan.spaces * steps * method.step_cycles(cpu, 1, vectors)
    return microseconds(cpu, cycles * w.batch, _traffic(w, cpu, method, plan))


def _traffic(w: Window, cpu: Cpu, method: Method, plan: Plan) -> Traffic:
    """Weights once for each space; activations once for each tile of channels."""
    stored = 1 if w.by_columns else FEW if w.channels_in <= FEW else ceil_div(w.channels_in, BLOCK) * BLOCK
    inner = w.taps if w.by_columns else ceil_div(w.channels_in, method.each) * method.each * w.taps
    weights = float(w.channels_out * inner)
    data = float(w.batch * stored * w.height.size * w.width.size)
    out = float(w.batch * w.channels_out * w.pixels)
    tiles = ceil_div(w.channels_out, plan.channels)
    moved = Traffic()
    moved.add(level_of(cpu, int(weights + data + out)), weights + data + out)
    moved.add(level_of(cpu, int(data / plan.spaces)), data * (tiles - 1))
    if weights / tiles > cpu.l1d // 2:
        moved.add("near", weights / tiles * ceil_div(w.pixels, plan.columns))
    return moved


def held(problem: Problem) -> int:
    """How sums may be kept (`fl` of a choice): 0: as integers; 1: in the lowest bits of floats, where only rescalings
    read them and constants say that they fit; 2: as 1, and 16 bits hold what rescalings round to; 3: as 2, and sums
    below 0 may be any number below 0; 4: as bits of floats, which their bias makes of them; 5: as 1, where a product
    makes them real numbers; 6: as 1, for a multiply-add that rounds once."""
    total = problem.anchor.results[0]
    users = [n for n in problem.body.nodes() if total in n.args]
    if [n.op for n in users] == ["Edgec.RescaleOnce"]:
        return ONCE if len(users[0].args) > 2 else DIRECT
    if isfinite(problem.reach.real) and near(problem.reach) and problem.target.cpu.loads_pay:
        return REAL
    if not users or {n.op for n in users} != {"Edgec.Rescale"}:
        return 0
    known = len(near(problem.reach))
    return RISING if known > 1 and rising(problem) else known


def added(problem: Problem, held: int) -> Node | None:
    """What multiplies sums, where it adds a number of each channel to their products."""
    if held in (ONCE, DIRECT):
        total = problem.anchor.results[0]
        return next(n for n in problem.body.nodes() if total in n.args)
    if held == REAL:
        return made_real(list(problem.body.nodes()), problem.anchor)
    return rising(problem) if held == RISING else None


def rising(problem: Problem) -> Node | None:
    """The only rescaling of sums, where nothing below 0 counts: its lower limit stands for that."""
    total, node = problem.anchor.results[0], problem.body.outputs[0].node
    node = node.args[0].node if node.op == "Edgec.Table" else node
    attrs: Any = full_attrs(node)
    if node.op != "Edgec.Rescale" or attrs["zeros"] != (0,) or node.args[0] != total or attrs["low"] < attrs["zero"]:
        return None
    return node if [n for n in problem.body.nodes() if total in n.args] == [node] else None


def config(plan: Plan, problem: Problem) -> tuple[tuple[str, int], ...]:
    return (("mt", plan.columns), ("nv", plan.vectors), ("sp", plan.spaces), *said(problem, held(problem)))


def said(problem: Problem, kept: int) -> list[tuple[str, int]]:
    """What constants say of sums and of what follows them, for the code, which is made without them: how sums are kept,
    how many sixteenths of a table at either end are not read (`tl`, `th`); of sums as real numbers, that exponentials
    of them need no limits (`ge`), and that 16 bits hold what they are rounded to (`nw`)."""
    found = [(HELD, kept), *zip(ENDS, problem.reach.ends, strict=True)]
    if kept == REAL:
        found += [(GENTLY, int(gentle(problem.reach))), (NARROW, int(narrows(problem.reach)))]
    return [(name, value) for name, value in found if value or name == HELD]


def says(choice: Choice, name: str) -> int:
    """What a choice says under a name, if it does."""
    return dict(choice.config).get(name, 0)


def tasks(w: Window, plan: Plan) -> int:
    return prod((w.batch, row_blocks(w, plan)[1], ceil_div(w.channels_out, plan.channels)))
