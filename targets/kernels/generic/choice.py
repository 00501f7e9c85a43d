"""What the generic rows offer: any layout in, row-major or blocked out; and a plain model of their time."""

from __future__ import annotations

from itertools import repeat
from math import prod
from typing import Any, Literal

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node, Type
from edgec.compiler.layout import layout
from edgec.compiler.op import OPS, full_attrs, ints_attr
from edgec.compiler.ops.resize import axis_taps
from edgec.compiler.registry import Choice, Problem
from edgec.compiler.target import Target

from ..cost import OVERLAP, streamed

BLOCKED = {3: "NCW{}c", 4: "NCHW{}c"}
CHANNELS_LAST = {4: "NHWC"}
APART = 1.02  # what image rows that lie apart cost on a microcontroller
ROWS_WHOLE = {3: "NWC", 4: "NHWC"}  # layouts in which rows of an image are stretches of memory, without padding
DEAR = frozenset(
    "Exp Atan Asin Acos Log Sin Cos Tanh Erf Sigmoid Softplus Mish Elu Selu Celu Gelu".split()
    + ["Edgec.NearSigmoid", "Edgec.NearGelu"]
)
DEAR_CYCLES = 16.0  # per vector
DIVISION = 8.0  # per vector of f32
WIDENED = 2.0  # per vector of bytes that become f32 with a zero point
NARROWED = 2.0  # per vector of f32 that is limited, rounded and becomes bytes
TERMS = {"f32": 1.0}  # per vector of a Rescale's term ...
TERM = 3.0  # ... and of one of integers
RESIZE_CYCLES = {
    "nearest": 20.0,
    "linear": 130.0,
    "cubic": 440.0,
}  # per vector: positions are computed for each element
PLACED_CYCLES = {"nearest": 5.0, "linear": 16.0, "cubic": 45.0}  # ... and where lanes are channels once for all of them
REPEAT_CYCLES = 2.0  # per vector, where a resize repeats each element a few times
PHASE_CYCLES = 1.5  # per element of channels that become pixels, whose neighbours lie in other blocks
TABLE_CYCLES = 1.5  # per element that is looked up by itself
TURN_CYCLES = 0.25  # per byte whose neighbours lie elsewhere afterwards
MICRO_CYCLES = 8.0  # per accumulation on a Cortex-M, which gathers a vector's elements one by one
SEAM_CYCLES = 0.5  # per byte of channels that are joined or cut within blocks
SOFT_CYCLES = 45.0  # of an operation in f32 where a function of the compiler's library does it
LOGARITHMIC = frozenset({"ReduceLogSum", "ReduceLogSumExp", "Softmax", "LogSoftmax"})
SCALAR_CALLS = frozenset("Tan Pow Mod".split())
HYPERBOLIC = frozenset("Sinh Cosh Asinh Acosh Atanh".split())  # vector code of f32 on x86 and AArch64
HYPERBOLIC_CYCLES = 40.0  # per vector


def output_layouts(problem: Problem, blocked: bool = True) -> list[tuple[str, ...]]:
    """Layouts that a generic row can write: what the outputs have already, row-major, channel blocks. On a
    microcontroller channels may come last, which lets `patches` cut images into rows."""
    outputs = problem.body.outputs
    if any(v.type.layout for v in outputs):
        return [tuple(v.type.layout for v in outputs)]
    offers = [("",) * len(outputs)]
    lanes = problem.target.cpu.lanes(32)
    if problem.target.microcontroller and any(len(v.shape) in ROWS_WHOLE for v in outputs):
        offers.insert(0, tuple(ROWS_WHOLE.get(len(v.shape), "") for v in outputs))
    if problem.target.gpu and any(len(v.shape) in CHANNELS_LAST for v in outputs):
        offers.append(tuple(CHANNELS_LAST.get(len(v.shape), "") for v in outputs))
    if blocked and lanes > 1 and all(_can_block(v.type) for v in outputs):
        offers.append(tuple(_blocked(v.type, problem) for v in outputs))
    return offers


def _can_block(t: Type) -> bool:
    return t.dtype in ("f32", "u8", "i8") and len(t.shape) in BLOCKED


def _blocked(t: Type, problem: Problem) -> str:
    if t.dtype == "f32":
        return BLOCKED[len(t.shape)].format(problem.target.cpu.lanes(32))
    return quads_last(len(t.shape)) if problem.target.microcontroller else byte_layout(t.shape)


def quads_last(rank: int) -> str:
    """The layout of activations of 8 bits on a Cortex-M: channels innermost, padded to fours."""
    return f"{'NHWC' if rank == 4 else 'NWC'}4c"


def byte_layout(shape: tuple[int, ...]) -> str:
    """The layout of activations of 8 bits: channels innermost, in blocks of 16, or of 4 where there are no more."""
    return f"{'NHWC' if len(shape) == 4 else 'NWC'}{4 if shape[1] <= 4 else 16}c"


def choices(row: str, problem: Problem, cost_us: float, blocked: bool = True) -> list[Choice]:
    none = (None,) * len(problem.body.inputs)
    return [
        Choice(row, none, out, cost_us=cost_us * _padding(problem, out)) for out in output_layouts(problem, blocked)
    ]


def _padding(problem: Problem, layouts: tuple[str, ...]) -> float:
    """Written elements over true elements: blocks of channels may be padded. More where rows cannot be cut."""
    stored = true = 1.0
    apart = [not text and len(v.shape) in ROWS_WHOLE for v, text in zip(problem.body.outputs, layouts, strict=True)]
    if problem.target.microcontroller and any(apart):
        return APART
    for v, text in zip(problem.body.outputs, layouts, strict=True):
        stored += prod(layout(text, len(v.shape)).physical(v.shape))
        true += v.type.size
    return stored / true


def vector_lanes(problem: Problem) -> int:
    """Lanes of the vectors that a generic kernel computes in: one where it calls the C library."""
    for node in problem.body.nodes():
        wide = any(a.type.dtype == "f64" or a.type.dtype[0] in "iu" for a in node.args)
        if _calls(node, problem.target) or (wide and (node.op in DEAR or node.op in LOGARITHMIC)):
            return 1
    return problem.target.cpu.lanes(32)


def divides(node: Node) -> bool:
    """Whether it divides floats."""
    return node.op in ("Div", "QuantizeLinear") and dtype(node.args[0].type.dtype).is_float


def _calls(node: Node, target: Target) -> bool:
    """Whether it calls the C library; of integers it does not."""
    if node.op in HYPERBOLIC:
        within = not target.gpu and target.triple.startswith(("x86_64", "aarch64"))
        return not within or node.types[0].dtype == "f64"
    return node.op in SCALAR_CALLS and dtype(node.types[0].dtype).is_float


def traffic_us(problem: Problem) -> float:
    """Time to read and write everything once, and for the arithmetic of the body's elementwise operators."""
    target = problem.target
    moved, made = streamed(target.cpu, problem.bytes_moved).cycles(target.cpu), arithmetic_cycles(problem)
    behind = 1.0 if target.microcontroller else OVERLAP
    return 0.5 + (max(moved, made) + behind * min(moved, made)) / (target.cpu.ghz * 1e3)


def arithmetic_cycles(problem: Problem) -> float:
    lanes = max(1, problem.target.cpu.lanes(32))
    total = 0.0
    for node in problem.body.nodes():
        if OPS[node.op].kind in ("map", "elementwise"):
            whole = dtype(node.types[0].dtype).bytes == 1
            total += _phases_cycles(node, problem)
            if node.op == "Resize" and _resizes_slowly(node):
                total += RESIZE_CYCLES[str(full_attrs(node)["mode"])] * node.types[0].size / lanes
            if node.op == "Edgec.Layout" and whole:
                total += TURN_CYCLES * node.types[0].size
            if whole and node.op in ("Concat", "Slice", "Split") and any(n % 16 for n in _channels(node)):
                total += SEAM_CYCLES * node.types[0].size
            each = 40.0 * lanes if _calls(node, problem.target) else _cycles(node, problem.target)
            if node.op == "Edgec.Table":
                each = TABLE_CYCLES * lanes
            if problem.target.soft_floats and dtype(node.types[0].dtype).is_float and OPS[node.op].kind != "map":
                each = SOFT_CYCLES * max(each, 1.0)
            total += each * node.types[0].size / lanes
    return total


def _cycles(node: Node, target: Target) -> float:
    """Per vector of an operator that is vector code."""
    if node.op in HYPERBOLIC:
        return HYPERBOLIC_CYCLES
    if not target.microcontroller and target.gpu is None:
        if node.op == "DequantizeLinear":
            return WIDENED
        if node.op in ("Edgec.Rescale", "Edgec.RescaleOnce"):
            terms = len(ints_attr(node, "zeros")) if node.op == "Edgec.Rescale" else 1
            return NARROWED + sum(TERMS.get(a.type.dtype, TERM) for a in node.args[:terms])
    return DEAR_CYCLES if node.op in DEAR else DIVISION if divides(node) else 1.0


def repeats(node: Node) -> bool:
    """Whether a resize repeats each element along the last axis, so that a vector is a permutation of neighbours."""
    attrs: Any = full_attrs(node)
    n, out, scale = node.args[0].shape[-1], attrs["sizes"][-1], attrs["scales"][-1]
    if attrs["mode"] != "nearest" or out % n or out // n > 8:
        return False
    taken = axis_taps(n, out, scale, **attrs)[0][:, 0]
    return bool((taken == np.arange(out) // (out // n)).all())


def repeated_us(problem: Problem) -> float:
    """What it saves that resizes only repeat elements, where rows of images are stretches of memory."""
    cpu, lanes = problem.target.cpu, max(1, problem.target.cpu.lanes(32))
    nodes = [n for n in problem.body.nodes() if n.op == "Resize" and dtype(n.types[0].dtype).bytes > 1]
    vectors = sum(n.types[0].size for n in nodes if repeats(n)) / lanes
    return vectors * (RESIZE_CYCLES["nearest"] - REPEAT_CYCLES) / (cpu.ghz * 1e3)


def placed(problem: Problem) -> Choice | None:
    """The offer of a body that resizes images whose channels lie in lanes: all of them have the same neighbours."""
    target, body = problem.target, problem.body
    nodes = [n for n in body.nodes() if n.op == "Resize" and _resizes_slowly(n)]
    out = [v.type for v in body.outputs]
    if not nodes or target.gpu or target.microcontroller or target.cpu.lanes(32) < 2:
        return None
    if any(t.layout or not _can_block(t) for t in out) or any(n.types[0].shape[:2] != out[0].shape[:2] for n in nodes):
        return None
    if any(n.args[0].shape[:2] != n.types[0].shape[:2] for n in nodes):
        return None
    images = [v.type if len(v.shape) == len(out[0].shape) else None for v in body.inputs]
    if not all(t is None or _can_block(t) for t in images):
        return None
    saved = sum(
        (RESIZE_CYCLES[mode] - PLACED_CYCLES[mode]) * n.types[0].size / target.cpu.lanes(32)
        for n in nodes
        for mode in [str(full_attrs(n)["mode"])]
    )
    layouts = tuple(_blocked(t, problem) for t in out)
    us = (traffic_us(problem) - saved / (target.cpu.ghz * 1e3)) * _padding(problem, layouts)
    return Choice("generic_map", tuple(_blocked(t, problem) if t else None for t in images), layouts, cost_us=us)


def _resizes_slowly(node: Node) -> bool:
    """Whether a resize takes longer than moving its bytes."""
    return not (dtype(node.types[0].dtype).bytes == 1 and full_attrs(node)["mode"] == "nearest")


def phases_us(problem: Problem) -> float:
    """What it saves that planes are woven from planes, where the channels that become pixels end within blocks."""
    return sum(map(_phases_cycles, problem.body.nodes(), repeat(problem))) / (problem.target.cpu.ghz * 1e3)


def _phases_cycles(node: Node, problem: Problem) -> float:
    target = problem.target
    lanes = target.cpu.lanes(32)
    if node.op != "DepthToSpace" or target.gpu or target.microcontroller or node.types[0].shape[1] % lanes == 0:
        return 0.0
    return PHASE_CYCLES * node.types[0].size


def _channels(node: Node) -> list[int]:
    """Sizes of the axis whose neighbours lie side by side in blocks of bytes."""
    types = [*node.types, *(a.type for a in node.args)]
    return [t.shape[1] for t in types if len(t.shape) in BLOCKED]


def fold_us(problem: Problem, steps: int, reuse: float = 1.0) -> float:
    """Time of `steps` accumulations, `reuse` of them per load, beside the traffic of the arguments."""
    cpu = problem.target.cpu
    lanes = max(1, cpu.lanes(32))
    each = (MICRO_CYCLES if problem.target.microcontroller else 1.5) / (lanes * reuse)
    if problem.target.soft_floats and dtype(problem.dtype).is_float:
        each = SOFT_CYCLES
    return traffic_us(problem) + steps * each / (cpu.ghz * 1e3)


def one_anchor(problem: Problem, same_shape: bool) -> Literal[True] | str:
    """True where the body has one anchor, which all that follows reads at one position per output element."""
    anchor, body = problem.anchor, problem.body
    after = {anchor}
    outputs = set(body.outputs)
    for node in body.nodes():
        kind = OPS[node.op].kind
        if kind not in ("map", "elementwise", "source") and node is not anchor:
            return f"the body holds {node.op} beside {anchor.op}"
        if node is anchor or not any(a.node in after for a in node.args):
            continue
        after.add(node)
        if node.types[0].shape != anchor.types[0].shape and (same_shape or kind != "map" or len(outputs) > 1):
            return f"{node.op} changes the shape after {anchor.op}"
        if kind == "map" and (node.op not in ("Reshape", "Transpose", "Edgec.Layout") or same_shape):
            return f"{node.op} follows {anchor.op}"
    if any(v.shape != body.outputs[0].shape for v in body.outputs):
        return "outputs differ in shape"
    maps = [n for n in after if OPS[n.op].kind == "map"]
    if maps and any(sum(a.node in after for a in n.args) > 1 for n in after):
        return "the anchor's result is read in two orders"
    return True
