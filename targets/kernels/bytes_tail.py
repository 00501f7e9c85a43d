"""Which bodies end in `Edgec.Rescale` of sums of bytes, so that whole vectors become bytes (bytes_tail_emit.py)."""

from __future__ import annotations

from math import prod
from typing import Literal

from edgec.compiler.ir import Graph, Value
from edgec.compiler.op import const_array
from edgec.compiler.registry import Choice, Problem
from edgec.compiler.rescale.bounds import rounds

from .common import after_anchor, epilogue_fits, input_index

ROUNDS = "rn"  # key of a choice's config: what is rescaled has a nearest integer, so that packing alone sets its limits


def rounding(problem: Problem) -> tuple[tuple[str, int], ...]:
    """The setting of a choice, where constants say so."""
    return ((ROUNDS, 1),) if rounds(problem.reach) else ()


def has_rounding(choice: Choice) -> bool:
    return ROUNDS in dict(choice.config)


def rescales(problem: Problem, by_position: bool = False) -> Literal[True] | str:
    """True where Rescale and Table follow the anchor: sums and bytes of its shape, by numbers of tensor or channel;
    `by_position`: of tensor or pixel."""
    if (fit := epilogue_fits(problem)) is not True:
        return fit
    shape = problem.anchor.types[0].shape
    nodes = after_anchor(problem)
    if not nodes or problem.body.outputs[0].node.op not in ("Edgec.Rescale", "Edgec.Table"):
        return "ends in bytes"
    for node in nodes:
        if node.op == "Edgec.Table":
            if node.args[0].shape != shape or input_index(problem.body, node.args[1]) < 0:
                return "a table's argument has another shape"
            continue
        if node.op != "Edgec.Rescale":
            return f"rescales, and knows no {node.op}"
        count = len(node.args) // 2
        for term in node.args[:count]:
            inside = term.node is problem.anchor or term.node in nodes or input_index(problem.body, term) >= 0
            whole = term.type.dtype == "i32" if term.node is problem.anchor else term.type.dtype in ("u8", "i8")
            if not inside or not whole or term.shape != shape:
                return "a term has another shape or type"
        for m in node.args[count:]:
            fits = per_position(m, shape) if by_position else per_channel(m, shape)
            if literal(m) is None and (not fits or input_index(problem.body, m) < 0):
                return f"a multiplier belongs neither to the tensor nor to {'pixels' if by_position else 'channels'}"
    return True


def stages(problem: Problem) -> Literal[True] | str:
    """True where what follows the anchor ends in bytes, and what it reads has channels side by side, or none."""
    if (fit := epilogue_fits(problem)) is not True:
        return fit
    shape = problem.anchor.types[0].shape
    if problem.body.outputs[0].type.dtype not in ("u8", "i8"):
        return "ends in bytes"
    if any(n.op == "Edgec.Table" for n in after_anchor(problem)):
        return "looks nothing up"
    for v in problem.body.inputs:
        if v in problem.anchor.args or of_channels(v, shape):
            continue
        if v.shape == shape and v.type.dtype in ("u8", "i8"):
            continue
        if len(v.shape) >= len(shape) - 1 and v.shape[1 - len(shape)] != 1:
            return f"{v.name!r} has channels, and they do not lie side by side"
    return True


def of_channels(v: Value, shape: tuple[int, ...]) -> bool:
    """Whether a value has an element for each channel, of the tensor or of each image."""
    rank = len(shape) - 1
    whole = v.shape[-rank:] == (shape[1],) + (1,) * (rank - 1)
    return whole and (len(v.shape) == rank or v.shape[0] in (1, shape[0]))


def per_channel(v: Value, shape: tuple[int, ...]) -> bool:
    rank = len(shape) - 1
    return v.type.size == shape[1] and v.shape[-rank:] == (shape[1],) + (1,) * (rank - 1)


def per_position(v: Value, shape: tuple[int, ...]) -> bool:
    """Whether a value has an f32 for each pixel, the same in all channels and images."""
    return v.type.dtype == "f32" and v.type.size == prod(shape[2:]) and v.shape[2 - len(shape) :] == shape[2:]


def channel_operands(problem: Problem) -> list[Value]:
    """Multipliers that have an element per channel."""
    found: dict[Value, None] = {}
    for node in after_anchor(problem):
        if node.op == "Edgec.Rescale" and rescales(problem) is True:
            found |= dict.fromkeys(m for m in node.args[len(node.args) // 2 :] if literal(m) is None)
    return list(found)


def short_multipliers(body: Graph) -> list[Value]:
    """Those of channels that are stored in 16 bits."""
    rescalings = [n for n in body.nodes() if n.op in ("Edgec.Rescale", "Edgec.RescaleOnce")]
    found = {m for n in rescalings for m in n.args[len(n.args) // 2 :]}
    return [v for v in body.inputs if v in found and v.type.size > 1 and v.type.dtype == "bf16"]


def tables(problem: Problem) -> list[Value]:
    return [n.args[1] for n in after_anchor(problem) if n.op == "Edgec.Table"]


def operand_layout(v: Value) -> str:
    """Of an operand with an element per channel: blocks of 16, so that a vector may be read of the last."""
    return {1: "A16a", 2: "CW16c", 3: "CHW16c", 4: "NCHW16c"}[len(v.shape)]


def literal(value: Value) -> float | None:
    """The number behind a constant of one element."""
    if value.node.op != "Const" or value.type.size != 1:
        return None
    return float(const_array(value).reshape(()).item())
