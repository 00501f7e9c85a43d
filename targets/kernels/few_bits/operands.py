"""What the rows of products with weights of few bits share: which problems they take, and how such weights lie.

The weights are `DequantizeLinear(codes, scales, zero points)` with blocks along the sums (docs/design/0050). Codes lie
as `Q4:JK<columns>j8k`: for each column the codes of 8 rows (of 4, with 8 bits) are a word of 32 bits, lowest bits
first; a vector of words is 8 steps of the sums. Scales and zero points lie by columns, `JK<columns>j`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node, Value
from edgec.compiler.op import const_array, int_attr, is_const
from edgec.compiler.registry import Problem
from edgec.compiler.target import Cpu

from ..common import ceil_div, epilogue_fits, input_index

CODES = ("u2", "u4", "u8")
SCALES = ("f32", "f16")
WORD = 32  # bits


@dataclass(frozen=True)
class FewBits:
    """The operands of such a product: x [..., inner] and weights [inner, columns] in blocks of `block` rows."""

    x: Value
    codes: Value
    scales: Value
    zeros: Value
    block: int

    @property
    def rows(self) -> int:
        return prod(self.x.shape[:-1])

    @property
    def inner(self) -> int:
        return self.codes.shape[0]

    @property
    def columns(self) -> int:
        return self.codes.shape[1]

    @property
    def blocks(self) -> int:
        return self.scales.shape[0]

    @property
    def bits(self) -> int:
        return dtype(self.codes.type.dtype).bits

    @property
    def steps(self) -> int:
        """Rows whose codes are one word of a column."""
        return WORD // self.bits

    @property
    def words(self) -> int:
        """Of a column."""
        return ceil_div(self.inner, self.steps)

    @property
    def zero(self) -> int | None:
        """The zero point that all blocks share, if they do."""
        return int(const_array(self.zeros).item()) if is_const(self.zeros) else None

    @property
    def bytes(self) -> float:
        """Of the weights in memory, padding apart."""
        numbers = dtype(self.scales.type.dtype).bytes + (self.zero is None)
        return self.inner * self.columns * self.bits / 8 + self.blocks * self.columns * numbers


def few_bits(problem: Problem) -> FewBits | str:
    """The operands of a product; why it has none of this kind."""
    x, w = problem.anchor.args
    if reason := refusal(w.node):
        return reason
    codes, scales, zeros = w.node.args
    if any(input_index(problem.body, v) < 0 for v in (x, codes, scales)):
        return "reads an operand through a computation"
    return FewBits(x, codes, scales, zeros, int_attr(w.node, "block"))


def refusal(node: Node) -> str:
    """Why a node does not make a matrix of such weights; "" where it does."""
    if node.op != "DequantizeLinear" or len(node.types[0].shape) != 2 or not int_attr(node, "block"):
        return "has no weights in blocks"
    codes, scales, _ = node.args
    if codes.type.dtype not in CODES or scales.type.dtype not in SCALES or node.types[0].dtype != "f32":
        return f"weights are {codes.type.dtype} with scales of {scales.type.dtype}"
    if int_attr(node, "axis") % 2 or int_attr(node, "block") % (WORD // dtype(codes.type.dtype).bits):
        return "blocks do not lie along the sums, or are no whole words"
    return ""


def match(problem: Problem) -> Literal[True] | str:
    found = few_bits(problem)
    if isinstance(found, str):
        return found
    if not problem.target.multiplies_few_bits:
        return "needs vector registers"
    if {found.x.type.dtype, problem.anchor.types[0].dtype} != {"f32"}:
        return "computes f32"
    if 0 in (found.rows, found.inner, found.columns):
        return "is empty"
    return epilogue_fits(problem)


def layouts(problem: Problem, found: FewBits, columns: int) -> tuple[str, ...]:
    """Of the body's inputs, where `columns` of the weights lie side by side."""
    packed = f"Q{found.bits}:" if found.bits < 8 else ""
    given = {found.codes: f"{packed}JK{columns}j{found.steps}k", found.scales: f"JK{columns}j"}
    given |= {} if found.zero is not None else {found.zeros: f"JK{columns}j"}
    return tuple(given.get(v, "") for v in problem.body.inputs)


def widening(cpu: Cpu, found: FewBits) -> float:
    """Instructions that make f32 of a vector of codes."""
    return 2.0 + 1.0 / found.steps
