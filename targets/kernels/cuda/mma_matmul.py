"""The row `matmul_f16_mma__cuda`: matrix products of f16 on tensor cores, right operand constant or computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import epilogue_fits, input_index
from .mma_cost import best
from .mma_shape import F16, MOST, Product, Tile, choice_of, piece

if TYPE_CHECKING:
    from edgec.targets.tir import Expr

NAME = "matmul_f16_mma__cuda"


def match(problem: Problem) -> Literal[True] | str:
    a, b = problem.anchor.args
    if problem.target.gpu is None:
        return "needs a GPU"
    if any(t.dtype != "f16" for t in (a.type, b.type, problem.anchor.types[0])):
        return "computes f16"
    return operands_fit(problem)


def operands_fit(problem: Problem) -> Literal[True] | str:
    """What every product on tensor cores asks for."""
    a, b = problem.anchor.args[:2]
    if any(input_index(problem.body, v) < 0 for v in (a, b)) or a == b:
        return "reads an operand through a computation"
    if min(len(a.shape), len(b.shape)) < 2 or not problem.anchor.types[0].size or not a.shape[-1]:
        return "needs two matrices that are not empty"
    if stack(problem) is None:
        return "one operand repeats along some of the leading axes only"
    if any(v.type.size >= MOST for v in (*problem.body.inputs, *problem.body.outputs)):
        return "has tensors of 2**31 elements"
    return epilogue_fits(problem)


def stack(problem: Problem) -> tuple[int, int, int] | None:
    """Number of products, and elements from one's operand to the next one's, left and right."""
    a, b = (v.shape for v in problem.anchor.args[:2])
    out = problem.anchor.types[0].shape
    left, right, count = prod(a[:-2]), prod(b[:-2]), prod(out[:-2])
    if right == 1 and left == count:
        return 1, 0, 0
    if left not in (1, count) or right not in (1, count):
        return None
    return count, 0 if left == 1 else a[-2] * a[-1], 0 if right == 1 else b[-2] * b[-1]


def product_of(problem: Problem) -> Product:
    b = problem.anchor.args[1]
    found = stack(problem)
    assert found is not None
    count, left, right = found
    k, n = b.shape[-2:]
    m = problem.anchor.types[0].size // (n * count)
    rows, columns = piece(k * F16.bytes), piece(n * F16.bytes)
    turned = input_index(problem.body, b) in problem.constants and len(b.shape) == 2 and rows >= columns
    right_piece = rows if turned else columns
    return Product(F16, m, n, k, count, left=rows, right=right_piece, across=not turned, spread=(left, right))


def layouts(problem: Problem, across: bool) -> tuple[str, ...]:
    """Row-major, but constant right operands with K side by side."""
    right = problem.anchor.args[1]
    return tuple("JK" if v == right and not across else "" for v in problem.body.inputs)


def choice(problem: Problem, tile: Tile, cost_us: float = 0.0) -> Choice:
    p = product_of(problem)
    return choice_of(NAME, p, tile, layouts(problem, p.across), "", cost_us)


def offers(problem: Problem) -> Sequence[Choice]:
    return [choice(problem, tile, us) for tile, us in best(problem, product_of(problem))]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from edgec.targets import tir

    from .mma_emit import emit as emit_product

    p, shape = product_of(problem), problem.anchor.types[0].shape

    def indexed(batch: Expr, m: Expr, n: Expr) -> Any:
        if p.batch == 1:
            return (*(tir.split(m, *shape[:-1]) if len(shape) > 1 else ()), n)
        return (*tir.split(batch, *shape[:-2]), m, n)

    a, b = problem.anchor.args[:2]
    return emit_product(problem, choice, symbol, p, (a, b), indexed)


kernel(
    Row(
        NAME,
        frozenset({"MatMul"}),
        match,
        offers,
        emit,
        "matrix product of f16 on tensor cores: tiles of rows x columns, any leading axes",
        frozenset({"CUDA"}),
    )
)
