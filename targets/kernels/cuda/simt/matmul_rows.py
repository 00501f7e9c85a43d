"""Rows of f32 matrix products on plain multiply-add units, and of products of few rows by known matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div, epilogue_fits, f32, in_memory, input_index
from .cost import matvec_us, product_us
from .tile import Product, settings, tiles

SIMT, VECTOR_F32, VECTOR_F16 = "matmul_f32_simt__cuda", "matvec_f32__cuda", "matvec_f16__cuda"
KEPT = 4
MOST_ROWS = 8  # of a product that reads its matrix once, through registers
MOST_SUMS = 32  # accumulators of a thread


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    a, b = node.args
    if problem.target.gpu is None:
        return "needs a GPU"
    if not f32(a.type, b.type, node.types[0]):
        return "computes f32"
    if input_index(problem.body, a) < 0 or input_index(problem.body, b) < 0:
        return "reads an operand through a computation"
    if len(a.shape) < 2 or len(b.shape) < 2 or 0 in (*a.shape, *b.shape):
        return "needs two matrices"
    return epilogue_fits(problem)


def known(problem: Problem, b: Value) -> bool:
    """Whether the right operand is one matrix that may lie as we like."""
    return len(b.shape) == 2 and input_index(problem.body, b) in problem.constants


def product_of(problem: Problem) -> Product:
    """Leading axes are more rows where the right operand is one matrix, a batch otherwise."""
    a, b = problem.anchor.args
    out = problem.anchor.types[0].shape
    if prod(b.shape[:-2]) == 1:
        return Product(1, prod(out[:-1]), out[-1], a.shape[-1])
    return Product(prod(out[:-2]), out[-2], out[-1], a.shape[-1])


def choices(problem: Problem) -> Sequence[Choice]:
    gpu = problem.target.gpu
    assert gpu is not None
    product = product_of(problem)
    _, b = problem.anchor.args
    packed = "KJ4j" if known(problem, b) and b.shape[-1] % 4 else ""
    layouts = tuple(packed if v == b else "" for v in problem.body.inputs)
    offers = [
        Choice(SIMT, layouts, ("",), settings(product, t), product_us(problem, product, t), product.scratch(t))
        for t in tiles(product, gpu)
    ]
    return sorted(offers, key=lambda c: c.cost_us)[:KEPT]


def match_vector(problem: Problem, kind: str) -> Literal[True] | str:
    node = problem.anchor
    a, b = node.args
    if problem.target.gpu is None:
        return "needs a GPU"
    weights = in_memory(problem, b)
    if node.types[0].dtype != kind or a.type.dtype != kind or weights.type.dtype not in ("f32", "f16"):
        return f"computes {kind}"
    if input_index(problem.body, a) < 0 or len(b.shape) != 2 or 0 in (*a.shape, *b.shape):
        return "needs a matrix beside one in memory"
    if input_index(problem.body, weights) not in problem.constants:
        return "needs a constant matrix"
    if prod(a.shape[:-1]) > MOST_ROWS:
        return f"knows products of {MOST_ROWS} rows at most"
    return epilogue_fits(problem)


def lanes_of(problem: Problem) -> int:
    """Steps of the reduction per access: 16 bytes of the matrix, where they divide its columns."""
    a, b = problem.anchor.args
    lanes = 16 // dtype(in_memory(problem, b).type.dtype).bytes
    while lanes > 1 and a.shape[-1] % lanes:
        lanes //= 2
    return lanes


def vector_choices(row: str, problem: Problem) -> Sequence[Choice]:
    a, b = problem.anchor.args
    rows, columns, lanes = prod(a.shape[:-1]), b.shape[-1], lanes_of(problem)
    weights = in_memory(problem, b)
    layouts = tuple("JK" if v == weights else "" for v in problem.body.inputs)
    found = []
    for each in (1, 2, 4, 8):
        if rows * each > MOST_SUMS or (each > 1 and columns < 2 * each):
            continue
        for warps in (1, 2, 4, 8):
            if warps > 1 and a.shape[-1] < 64 * warps * lanes:
                continue
            us = matvec_us(problem, rows, ceil_div(columns, each), warps, each, a.shape[-1], lanes)
            found.append(Choice(row, layouts, ("",), (("each", each), ("warps", warps)), us))
    return sorted(found, key=lambda c: c.cost_us)[:KEPT]


def emit_simt(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .matmul_emit import emit

    return emit(problem, choice, symbol)


def emit_vector(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .matvec_emit import emit

    return emit(problem, choice, symbol)


_ISA = frozenset({"CUDA"})
kernel(
    Row(
        SIMT,
        frozenset({"MatMul"}),
        match,
        choices,
        emit_simt,
        "f32 matrix product in register tiles fed through shared memory",
        _ISA,
    )
)
kernel(
    Row(
        VECTOR_F32,
        frozenset({"MatMul"}),
        lambda p: match_vector(p, "f32"),
        lambda p: vector_choices(VECTOR_F32, p),
        emit_vector,
        "few rows by a constant matrix: warps sum along its columns",
        _ISA,
    )
)
kernel(
    Row(
        VECTOR_F16,
        frozenset({"MatMul"}),
        lambda p: match_vector(p, "f16"),
        lambda p: vector_choices(VECTOR_F16, p),
        emit_vector,
        "few rows of halves by a constant matrix: warps sum along its columns in f32",
        _ISA,
    )
)
