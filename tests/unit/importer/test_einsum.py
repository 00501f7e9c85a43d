"""Einsum means what numpy's does: any number of operands, diagonals, ellipsis, implicit results, all number types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import edgec.backend
from edgec.compiler.errors import EdgecError
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret

SIZES = {"i": 2, "j": 3, "k": 4, "l": 5, "b": 2, "A": 3, "Z": 2}
EQUATIONS = [
    "i->i", "i->", "ij->ji", "ij->j", "ijk->kij", "ii->i", "ii->", "ii", "iii->i", "iji->j", "iji->ij", "ijij->ji",
    "i,i", "i,i->i", "i,j->ij", "i,j", "ij,j", "ij,jk", "ij,jk->ik", "ij,kj->ki", "bij,bjk->bik", "bij,bkj->bk",
    "bij,bij->b", "bij,jk->bik", "ij,kl->", "ij,kl->lj", "ij,ij->", "ii,ij->j", "ikj,kjl->lki", ",->", ",i->i", "->",
    "i,j,k->kij", "ij,jk,kl->il", "ij,jk,kl,li->", "bi,bj,bk->bijk", "ij,j,j->i", "i,i,i->", "iA,AZ->Zi", "Ai,Zi",
    " b i j , b j k -> b i k ",
]  # fmt: skip
DOTS: list[tuple[str, list[tuple[int, ...]]]] = [
    ("...ii->...i", [(3, 2, 4, 4)]),
    ("...ij->...ji", [(2, 3)]),
    ("i...->...i", [(2, 3, 4)]),
    ("...->...", [(2, 3)]),
    ("...i", [(3, 2)]),
    ("i...", [(3, 2)]),
    ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)]),
    ("...ij,...jk", [(5, 1, 2, 3), (6, 3, 4)]),
    ("i...j,j...->...i", [(2, 7, 3), (3, 7)]),
    ("...,...->...", [(4, 3), (3,)]),
    ("b...,b...->b...", [(2, 4, 3), (2, 1, 3)]),
    ("ij,jk->ik", [(2, 3), (1, 4)]),
    ("ij,jk->ik", [(2, 0), (0, 4)]),
    ("ij,j->i", [(0, 3), (3,)]),
]


def model(equation: str, shapes: Any, kind: Any) -> Any:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    names = [f"x{k}" for k in range(len(shapes))]
    graph = helper.make_graph(
        [helper.make_node("Einsum", names, ["y"], equation=equation)],
        "einsum",
        [helper.make_tensor_value_info(n, element, s) for n, s in zip(names, shapes, strict=True)],
        [helper.make_tensor_value_info("y", element, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 28)], ir_version=13)


def arrays(shapes: Any, kind: Any) -> list[Any]:
    rng = np.random.default_rng(4)
    if np.dtype(kind).kind in "iu":
        return [rng.integers(-9 if np.dtype(kind).kind == "i" else 0, 20, s).astype(kind) for s in shapes]
    return [rng.standard_normal(s).astype(kind) for s in shapes]


def shapes_of(equation: str) -> list[tuple[int, ...]]:
    return [tuple(SIZES[ch] for ch in term.replace(" ", "")) for term in equation.split("->")[0].split(",")]


def check(equation: str, shapes: Any, kind: Any, tolerance: float = 1e-5) -> None:
    given = arrays(shapes, kind)
    graph = import_model(model(equation, shapes, kind))
    got = interpret(graph, {f"x{k}": x for k, x in enumerate(given)})["y"]
    want = np.einsum(equation, *given)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_letters(equation: str, kind: Any) -> None:
    check(equation, shapes_of(equation), kind)


@pytest.mark.parametrize(("equation", "shapes"), DOTS)
def test_ellipsis_and_broadcasts(equation: str, shapes: Any) -> None:
    check(equation, shapes, np.float32)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int8, np.uint8, np.int16, np.uint16, np.uint32, np.int64])
@pytest.mark.parametrize("equation", ["ij,jk->ik", "i,i->", "ii->i", "ij,ij->i", "i,j->ij"])
def test_number_types(equation: str, kind: Any) -> None:
    """Integers wrap."""
    check(equation, shapes_of(equation), kind, 1e-2 if kind is np.float16 else 1e-10)


def test_sums_that_the_result_leaves_out_may_be_an_ellipsis() -> None:
    """numpy asks for it in the result; ONNX sums over all that does not occur there."""
    x = arrays([(2, 3, 4)], np.float32)[0]
    got = interpret(import_model(model("...i->i", [x.shape], np.float32)), {"x0": x})["y"]
    np.testing.assert_allclose(got, x.sum((0, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("bij,bjk->bik", None), ("...ii->...i", [(3, 2, 4, 4)]), ("bij,bij->b", None), ("ij,jk,kl->il", None)],
)
def test_compiled(equation: str, shapes: Any) -> None:
    given = arrays(shapes or shapes_of(equation), np.float32)
    (got,) = edgec.backend.run_model(model(equation, [x.shape for x in given], np.float32), given)
    np.testing.assert_allclose(got, np.einsum(equation, *given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes", "text"),
    [
        ("ij->i", [(2,)], "term 'ij' does not fit"),
        ("i...->i", [()], "term 'i...' does not fit"),
        ("i,j->i", [(2,)], "has 2 terms for 1 arguments"),
        ("ii->i", [(2, 3)], "axes of sizes 2 and 3 have one label"),
        ("ii->i", [(1, 3)], "axes of sizes 1 and 3 have one label"),
        ("i,i->", [(2,), (3,)], "axes of sizes 2 and 3 have one label"),
        ("i->ii", [(2,)], "repeats a label, or has one of its own"),
        ("i->j", [(2,)], "repeats a label, or has one of its own"),
        ("i+j->i", [(2, 2)], "term 'i[+]j' (holds other signs|does not fit)"),
        ("i.j->i", [(2, 2)], "term 'i.j' (holds other signs|does not fit)"),
        ("......->", [(2, 2)], "term '......' (holds other signs|does not fit)"),
    ],
)
def test_wrong_equations(equation: str, shapes: Any, text: str) -> None:
    with pytest.raises(EdgecError, match=text):
        import_model(model(equation, shapes, np.float32))
