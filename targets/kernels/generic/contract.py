"""generic_contract: Conv and ConvTranspose of any rank, group and dilation, any MatMul; any layout and type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..cost import TILE, by_lane, level_of, microseconds, streamed
from .choice import BLOCKED, arithmetic_cycles, choices, fold_us, one_anchor

if TYPE_CHECKING:
    from ...tir import Expr
    from .anchor import Context

OPERATORS = frozenset({"Conv", "ConvTranspose", "MatMul", "Edgec.ConvInteger", "Edgec.MatMulInteger"})
REUSE = 2.0  # accumulations per load along rows, about
CACHE_WAY = 4096  # bytes
CONFLICT = 2.0  # times as many where rows of all channels fall into one cache set
OVER_CYCLES = 1.5  # of a multiply-add whose vector is a stretch of a row: measured, AVX-512
ROW_CYCLES = 12.0  # to make one number of a vector of sums
STEP_US = 8e-3  # of a thread of a GPU, which waits for its loads
BYTE_CYCLES = 2.0  # more of a product of bytes that are widened one by one
GATHER_CYCLES = 1.0  # more where they are taken from blocks of channels, into vectors of pixels: measured, AVX-512
BLOCK = 16  # channels of bytes that lie side by side
MATMULS = ("MatMul", "Edgec.MatMulInteger")


def match(problem: Problem) -> Literal[True] | str:
    return one_anchor(problem, same_shape=False)


def steps(problem: Problem) -> int:
    """Multiply-accumulates of one result."""
    node = problem.anchor
    w = node.args[1].shape
    return w[-2] if node.op in MATMULS else prod(w[2:]) * w[0] if node.op == "ConvTranspose" else prod(w[1:])


def offers(problem: Problem) -> Sequence[Choice]:
    each, cpu = steps(problem), problem.target.cpu
    alone = STEP_US * each if problem.target.gpu else 0.0
    found = choices("generic_contract", problem, 2 * fold_us(problem, 2 * problem.anchor.types[0].size * each) + alone)
    if problem.anchor.op.startswith("Edgec.") and problem.target.triple.startswith("x86_64"):
        apart = problem.anchor.types[0].size * each * BYTE_CYCLES / (cpu.ghz * 1e3)
        in_rows = _bytes_in_rows(problem)
        gathered = apart / BYTE_CYCLES * GATHER_CYCLES if in_rows else 0.0

        def more(c: Choice) -> float:
            return apart if _one_by_one(problem, c) else 0.0 if c.layouts_out[0] else gathered

        found = [*(replace(c, cost_us=c.cost_us + more(c)) for c in found), *in_rows]
    return [*found, *_in_rows(problem)]


def _one_by_one(problem: Problem, choice: Choice) -> bool:
    """Whether bytes are widened one by one: at edges of rows, and where groups end within blocks of channels."""
    node = problem.anchor
    if node.op in MATMULS:
        return False
    attrs: Any = full_attrs(node)
    if choice.layouts_out[0]:
        return bool(node.types[0].shape[1] // attrs["group"] % BLOCK)
    pads = attrs["pads"] or (0, 0)
    return bool(pads[len(pads) // 2 - 1] or pads[-1])


def _in_rows(problem: Problem) -> list[Choice]:
    """Offers for operands whose rows are stretches of memory."""
    target = problem.target
    if target.gpu or target.microcontroller or problem.dtype != "f32":
        return []
    us = _with_a_column(problem) if problem.anchor.op == "MatMul" else _along_rows(problem) or _over_rows(problem)
    rows = ("",) * len(problem.body.inputs), ("",) * len(problem.body.outputs)
    return [Choice("generic_contract", *rows, cost_us=us)] if us else []


def _bytes_in_rows(problem: Problem) -> list[Choice]:
    """The offer of a convolution of bytes that lie in rows, too: a vector holds pixels of one output channel, so that
    few channels are no padding, and long code after the sums runs over whole vectors."""
    node, cpu, out = problem.anchor, problem.target.cpu, problem.anchor.types[0].shape
    attrs: Any = full_attrs(node)
    here = Choice("generic_contract", ("",) * len(problem.body.inputs), ("",) * len(problem.body.outputs))
    if node.op != "Edgec.ConvInteger" or attrs["group"] > 1 or set(attrs["strides"] or (1,)) != {1}:
        return []
    if _one_by_one(problem, here) or len(out) not in BLOCKED or node.args[0].shape[1] == 1:  # rows are all there is
        return []
    if out[-1] < cpu.lanes(32) or len(problem.body.outputs) > 1:
        return []
    vectors = prod(out[:-1]) * -(-out[-1] // cpu.lanes(32))
    cycles = vectors * (steps(problem) * OVER_CYCLES + TILE)
    after = arithmetic_cycles(problem) / (cpu.ghz * 1e3)
    return [replace(here, cost_us=microseconds(cpu, cycles, streamed(cpu, problem.bytes_moved)) + after)]


def _with_a_column(problem: Problem) -> float:
    """Products with one column each: a row is folded in vectors."""
    node, cpu = problem.anchor, problem.target.cpu
    if node.types[0].shape[-1:] != (1,) or steps(problem) < 2 * cpu.lanes(32):
        return 0.0
    size = node.types[0].size
    return fold_us(problem, size * steps(problem)) + size * ROW_CYCLES / (cpu.ghz * 1e3)


def _along_rows(problem: Problem) -> float:
    """In groups without edges: vectors are stretches of rows, each of which all results of a group read."""
    node, target = problem.anchor, problem.target
    attrs: Any = full_attrs(node)
    inside = node.op == "Conv" and not any(attrs["pads"] or ()) and set(attrs["strides"] or (1,)) == {1}
    if not inside or _channels_of_groups(problem)[0] < 0 or node.types[0].shape[-1] < target.cpu.lanes(32):
        return 0.0
    return fold_us(problem, node.types[0].size * steps(problem), REUSE)


def _over_rows(problem: Problem) -> float:
    """In one group: vectors are stretches of rows of one output channel, and each channel reads the whole input."""
    node, cpu = problem.anchor, problem.target.cpu
    attrs: Any = full_attrs(node)
    x, out = node.args[0].type, node.types[0].shape
    if node.op != "Conv" or attrs["group"] > 1 or set(attrs["strides"] or (1,)) != {1} or out[-1] < cpu.lanes(32):
        return 0.0
    if by_lane(cpu) or x.dtype != "f32":  # kernels of multiply-adds by lane have vectors of pixels themselves
        return 0.0
    vectors = prod(out[:-1]) * -(-out[-1] // cpu.lanes(32))
    conflict = 4 * prod(x.shape[2:]) % CACHE_WAY == 0 and CACHE_WAY * x.shape[1] > cpu.l1d
    cycles = vectors * (steps(problem) * OVER_CYCLES * (CONFLICT if conflict else 1.0) + TILE)
    traffic = streamed(cpu, problem.bytes_moved)
    traffic.add(level_of(cpu, storage_bytes(x)), storage_bytes(x) * (out[1] - 1.0))
    return microseconds(cpu, cycles, traffic)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .anchor import block_of, folded_kernel

    node = problem.anchor
    x, w = node.args[0], node.args[1]
    attrs: Any = full_attrs(node)
    if node.op in MATMULS:
        make, folds = _matmul, [(w.shape[-2], 1)]
    elif node.op != "ConvTranspose":
        block = block_of(problem, x, 1)
        split = block if w.shape[1] % block == 0 else 1
        make, folds = _conv, [(w.shape[1], split), *((k, 1) for k in w.shape[2:])]
    else:
        make, folds = _transposed, [(x.shape[1] // attrs["group"], 1), *((k, 1) for k in w.shape[2:])]
    tile = 4 if problem.target.cpu.vector_registers >= 16 else 2
    channels = _channels_of_groups(problem)
    return folded_kernel(
        problem, symbol, folds, lambda context: _stages(context, make), tile=tile, unroll=2, split=channels
    )


def _channels_of_groups(problem: Problem) -> tuple[int, int]:
    """The results' channels as groups and what these have, which read the same: where they are an axis in memory."""
    node, out = problem.anchor, problem.body.outputs[0]
    group: Any = full_attrs(node).get("group", 1)
    if group == 1 or out.type.layout or out.shape != node.types[0].shape or out.shape[1] == group:
        return -1, 1
    return 1, out.shape[1] // group


def _stages(context: Context, make: Any) -> Any:
    """One sum of products; the accumulator has the result's type, f32 for f16 and bf16."""
    from tvm import tirx

    from ...conversions import widen
    from ...tir import lit
    from ..reduce_stages import add, computed_in, simple

    node = context.problem.anchor
    kind = computed_in(node.types[0].dtype)
    zero = lit(0, kind)
    attrs: Any = full_attrs(node)
    zeros = attrs.get("a_zero", attrs.get("zero", 0)), attrs.get("b_zero", 0)

    def term() -> Expr:
        a, b, inside = make(context)
        product = _shifted(tirx.Cast(kind, widen(a)), zeros[0]) * _shifted(tirx.Cast(kind, widen(b)), zeros[1])
        for condition in inside:
            product = context.body.choose(condition, product, zero)
        return product

    def finish(prior: Any) -> Expr:
        if len(node.args) < 3:
            return prior[0]
        bias = node.args[2]
        place = context.index()[-1 if node.op in MATMULS else 1] if bias.shape != (1,) else 0
        return prior[0] + tirx.Cast(kind, widen(context.body.at(bias, (place,))))

    return [simple(kind, zero, add, lambda prior: term())], finish


def _shifted(x: Expr, zero: int) -> Expr:
    return x - zero if zero else x


def _matmul(context: Context) -> Any:
    from ...body import align

    a, b = context.problem.anchor.args[:2]
    (k,) = context.positions()
    index = context.index()
    left = (*align(index[:-2], a.shape[:-2]), index[-2], k)
    right = (*align(index[:-2], b.shape[:-2]), k, index[-1])
    return context.body.at(a, left), context.body.at(b, right), []


def _conv(context: Context) -> Any:
    node = context.problem.anchor
    x, w = node.args[0], node.args[1]
    attrs: Any = full_attrs(node)
    n, out, *at = context.index()
    c, *taps = context.positions()
    source, inside = [], []
    for k, (o, tap) in enumerate(zip(at, taps, strict=True)):
        stride, dilation = (attrs[key][k] if attrs[key] else 1 for key in ("strides", "dilations"))
        begin = attrs["pads"][k] if attrs["pads"] else 0
        t = o * stride + tap * dilation - begin
        inside += [t >= 0, t < x.shape[k + 2]]
        source.append(context.body.within(t, 0, x.shape[k + 2] - 1))
    channel = _group(out, w.shape[0] // attrs["group"], attrs["group"]) * w.shape[1] + c
    return context.body.at(x, (n, channel, *source)), context.body.at(w, (out, c, *taps)), inside


def _transposed(context: Context) -> Any:
    """Each output gathers the inputs whose window covers it: those at a whole number of strides."""
    from ...maps import div, mod

    node = context.problem.anchor
    x, w = node.args[0], node.args[1]
    attrs: Any = full_attrs(node)
    n, out, *at = context.index()
    c, *taps = context.positions()
    each = x.shape[1] // attrs["group"]
    source, inside = [], []
    for k, (o, tap) in enumerate(zip(at, taps, strict=True)):
        stride, dilation = (attrs[key][k] if attrs[key] else 1 for key in ("strides", "dilations"))
        t = o + (attrs["pads"][k] if attrs["pads"] else 0) - tap * dilation
        position = div(t, stride)
        inside += [position >= 0, position < x.shape[k + 2]]
        if stride > 1:
            inside.append(mod(t, stride) < 1)
        source.append(context.body.within(position, 0, x.shape[k + 2] - 1))
    group = _group(out, w.shape[1], attrs["group"])
    filters = out - group * w.shape[1] if attrs["group"] > 1 else out
    channel = group * each + c
    return context.body.at(x, (n, channel, *source)), context.body.at(w, (channel, filters, *taps)), inside


def _group(out: Expr, size: int, groups: int) -> Any:
    from ...maps import div

    return 0 if groups == 1 else div(out, size)


kernel(Row("generic_contract", OPERATORS, match, offers, emit, "any convolution or matrix product"))
