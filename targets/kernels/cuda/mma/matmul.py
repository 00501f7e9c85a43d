"""Matrix products on tensor cores: f16, bytes (`matmul_int8_mma__cuda`), and f32 as tf32 where that is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import epilogue_fits, input_index
from .cost import best
from .shape import ROW_KINDS, Product, Tile, choice_of, kind_of, operands_fit, piece

if TYPE_CHECKING:
    from edgec.targets.tir import Expr

MOST_PRODUCTS = 65535  # blocks along the second axis of a grid
OPERATORS = {"int8": "Edgec.MatMulInteger"}


def row_name(kind: str) -> str:
    return f"matmul_{kind}_mma__cuda"


def match(problem: Problem, kind: str) -> Literal[True] | str:
    a, b = problem.anchor.args[:2]
    attrs: Any = full_attrs(problem.anchor)
    if (fit := operands_fit(problem, a, b, kind)) is not True:
        return fit
    if min(len(a.shape), len(b.shape)) < 2 or not problem.anchor.types[0].size or not a.shape[-1]:
        return "needs two matrices that are not empty"
    if stack(problem) is None:
        return "one operand repeats along some of the leading axes only"
    if prod(problem.anchor.types[0].shape[:-2]) > MOST_PRODUCTS and len(b.shape) > 2:
        return f"more than {MOST_PRODUCTS} products"
    if kind != "f16" and len(b.shape) > 2:
        return "the right operand is a stack of matrices"
    if attrs.get("b_zero"):
        return "the right operand has a zero point"
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


def product_of(problem: Problem, across: bool | None = None) -> Product:
    """A right operand that is a constant matrix may lie with K side by side; one that is not f16 must. `across`: how it
    lies, where that was decided."""
    a, b = problem.anchor.args[:2]
    found, kind = stack(problem), kind_of(a, b)
    assert found is not None
    attrs: Any = full_attrs(problem.anchor)
    count, left, right = found
    k, n = b.shape[-2:]
    m = problem.anchor.types[0].size // (n * count)
    rows, columns = piece(k * kind.bytes), piece(n * kind.bytes)
    fixed = input_index(problem.body, b) in problem.constants and len(b.shape) == 2
    if across is None:
        across = kind.bytes == 2 and not (fixed and rows >= columns)
    return Product(
        kind,
        m,
        n,
        k,
        count,
        left=rows,
        right=columns if across else rows,
        across=across,
        spread=(left, right),
        zero=attrs.get("a_zero", 0),
    )


def choice(problem: Problem, tile: Tile, cost_us: float = 0.0) -> Choice:
    p, (a, b) = product_of(problem), problem.anchor.args[:2]
    layouts = tuple("JK" if v == b and not p.across else "" for v in problem.body.inputs)
    return choice_of(row_name(ROW_KINDS[a.type.dtype]), p, tile, layouts, "", cost_us)


def offers(problem: Problem) -> Sequence[Choice]:
    return [choice(problem, tile, us) for tile, us in best(problem, product_of(problem))]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from edgec.targets import tir

    from .emit import emit as emit_product

    p, shape = product_of(problem, bool(choice.get("across"))), problem.anchor.types[0].shape

    def indexed(batch: Expr, m: Expr, n: Expr) -> Any:
        if p.batch == 1:
            return (*tir.split(m, *shape[:-1]), n)
        return (*tir.split(batch, *shape[:-2]), m, n)

    a, b = problem.anchor.args[:2]
    return emit_product(problem, choice, symbol, p, (a, b), indexed)


def _register(kind: str) -> None:
    kernel(
        Row(
            row_name(kind),
            frozenset({OPERATORS.get(kind, "MatMul")}),
            lambda p: match(p, kind),
            offers,
            emit,
            f"matrix product of {kind} on tensor cores: tiles of rows x columns",
            frozenset({"CUDA"}),
        )
    )


for _kind in ("f16", "int8", "tf32"):
    _register(_kind)
