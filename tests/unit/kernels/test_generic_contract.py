"""Convolutions, matrix products and pooling in every form that the fast templates refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Problem, choices
from edgec.compiler.target import find_target
from tests.support.harness import chain, check, one

CONVS: list[Any] = [
    ("f32[1, 5, 9, 20]", "f32[7, 5, 3, 3]", {"pads": (1, 1, 1, 1)}),
    ("f32[2, 6, 9, 20]", "f32[8, 3, 3, 2]", {"group": 2, "strides": (2, 1), "dilations": (1, 2), "pads": (0, 2, 1, 1)}),
    ("f32[1, 16, 9, 20]@NCHW16c", "f32[32, 16, 3, 3]", {"pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ("f32[1, 24, 6, 20]", "f32[24, 1, 3, 3]", {"group": 24, "pads": (1, 1, 1, 1)}),
    ("f32[2, 30, 7, 37]", "f32[20, 15, 3, 3]", {"group": 2}),
    ("f32[1, 9, 5, 20]", "f32[21, 3, 1, 1]", {"group": 3}),
    ("f32[1, 12, 50]", "f32[20, 3, 5]", {"group": 4, "strides": (2,)}),
    ("f32[1, 6, 9, 20]@NCHW16c", "f32[10, 3, 3, 3]", {"group": 2}),
    ("f32[1, 4, 30]", "f32[6, 4, 5]", {"pads": (2, 2)}),
    ("f32[1, 2, 4, 5, 6]", "f32[3, 2, 2, 3, 3]", {"pads": (0, 1, 1, 1, 1, 1)}),
    ("f16[1, 4, 6, 6]", "f16[6, 4, 3, 3]", {}),
]


@pytest.mark.parametrize("x, w, attrs", CONVS)
def test_convolutions(x: str, w: str, attrs: Any, tmp_path: Path) -> None:
    kind, out = x.split("[")[0], w.split("[")[1].split(",")[0]
    check(one("Conv", x, w, f"{kind}[{out}]", **attrs), "generic_contract", tmp_path)
    if x.count(",") == 3 and kind == "f32":
        check(one("Conv", x, w, f"{kind}[{out}]", layouts=("NCHW16c",), **attrs), "generic_contract", tmp_path)


def test_integer_convolution(tmp_path: Path) -> None:
    check(one("Conv", "u8[1, 4, 6, 6]", "i8[6, 4, 3, 3]", "i32[6]", pads=(1, 1, 1, 1)), "generic_contract", tmp_path)


TRANSPOSED: list[Any] = [
    ("f32[1, 6, 5, 6]", "f32[6, 4, 3, 3]", 4, {"strides": (2, 2), "pads": (1, 1, 1, 1), "output_padding": (1, 1)}),
    ("f32[1, 6, 5, 6]", "f32[6, 2, 2, 2]", 4, {"strides": (2, 2), "group": 2}),
    ("f32[1, 3, 7]", "f32[3, 2, 3]", 2, {"dilations": (2,)}),
]


@pytest.mark.parametrize("x, w, out, attrs", TRANSPOSED)
def test_transposed_convolutions(x: str, w: str, out: int, attrs: Any, tmp_path: Path) -> None:
    check(one("ConvTranspose", x, w, f"f32[{out}]", **attrs), "generic_contract", tmp_path)


@pytest.mark.parametrize(
    "a, b",
    [
        ("f32[1, 70]", "f32[70, 33]"),
        ("f32[9, 70]", "f32[70, 37]"),
        ("f32[2, 1, 5, 8]", "f32[3, 8, 21]"),
        ("i32[3, 4]", "i32[4, 5]"),
        ("f64[3, 4]", "f64[4, 5]"),
        ("bf16[3, 40]", "bf16[40, 5]"),
        ("f32[6, 9, 70]", "f32[6, 70, 1]"),
        ("f32[1, 70]", "f32[5, 70, 1]"),
    ],
)
def test_matrix_products(a: str, b: str, tmp_path: Path) -> None:
    check(one("MatMul", a, b), "generic_contract", tmp_path)


def test_residual_and_activation_after_a_convolution(tmp_path: Path) -> None:
    def body(x: Any, w: Any, b: Any, r: Any) -> Any:
        return build("Relu", build("Add", build("Conv", x, w, b, pads=(1, 1, 1, 1)), r))

    kinds = ["f32[1, 16, 9, 20]", "f32[16, 16, 3, 3]", "f32[16]", "f32[1, 16, 9, 20]@NCHW16c"]
    check(chain(kinds, body, ["NCHW16c"]), "generic_contract", tmp_path)


def test_groups_with_a_residual_that_is_laid_out_otherwise(tmp_path: Path) -> None:
    def body(x: Any, w: Any, b: Any, r: Any) -> Any:
        return build("Relu", build("Add", build("Conv", x, w, b, group=2), r))

    kinds = ["f32[2, 6, 9, 20]", "f32[10, 3, 3, 3]", "f32[10]", "f32[2, 10, 7, 18]@NCHW16c"]
    check(chain(kinds, body), "generic_contract", tmp_path)


def test_groups_along_rows_are_cheaper_than_their_edges() -> None:
    def costs(pads: tuple[int, ...]) -> list[float]:
        p = one("Conv", "f32[1, 60, 32, 32]", "f32[60, 10, 3, 3]", "f32[60]", group=6, pads=pads)
        return [c.cost_us for c in ROWS["generic_contract"].choices(p)]

    assert min(costs((0, 0, 0, 0))) < 0.5 * min(costs((1, 1, 1, 1)))


POOLS: list[Any] = [
    {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)},
    {"kernel_shape": (3, 2), "strides": (2, 3), "ceil_mode": 1},
    {"kernel_shape": (2, 2), "dilations": (2, 3), "pads": (1, 0, 1, 1)},
]


@pytest.mark.parametrize("attrs", POOLS)
@pytest.mark.parametrize("kind, out", [("f32[1, 20, 9, 21]", ""), ("f32[1, 20, 9, 21]@NCHW16c", "NCHW16c")])
def test_pooling(attrs: Any, kind: str, out: str, tmp_path: Path) -> None:
    check(one("MaxPool", kind, layouts=(out,), **attrs), "generic_window", tmp_path)
    for include in (0, 1):
        check(one("AveragePool", kind, layouts=(out,), count_include_pad=include, **attrs), "generic_window", tmp_path)


def test_pooling_of_other_ranks_and_types(tmp_path: Path) -> None:
    check(one("MaxPool", "u8[1, 4, 9, 9]", kernel_shape=(3, 3)), "generic_window", tmp_path)
    check(one("AveragePool", "f32[1, 3, 17]", kernel_shape=(3,), strides=(2,)), "generic_window", tmp_path)
    check(
        one("MaxPool", "f32[1, 2, 5, 6, 7]", kernel_shape=(2, 2, 2), pads=(0, 1, 0, 1, 0, 1)),
        "generic_window",
        tmp_path,
    )


def filtered(outputs: int, on: str, x: tuple[int, ...] = (1, 24, 30, 33), window: int = 3) -> Problem:
    image = Value(Node("Input", (), (Type("f32", x),), {}, "x"))
    w = Value(Node("Input", (), (Type("f32", (outputs, x[1], window, window)),), {}, "w"))
    b = Value(Node("Input", (), (Type("f32", (outputs,)),), {}, "b"))
    y = build("Conv", image, w, b, pads=(window // 2,) * 4)
    return Problem(Graph("body", (image, w, b), (y,)), find_target(on), constants=frozenset({1, 2}))


@pytest.mark.parametrize("on", ["x86-avx512", "x86"])
def test_few_output_channels_are_computed_along_rows(on: str) -> None:
    along = {"generic_contract", "conv_f32_along"}
    assert choices(filtered(1, on))[0].row in along
    assert choices(filtered(2, on, window=5))[0].row in along
    assert choices(filtered(64, on))[0].row not in along


def test_channels_in_one_cache_set_make_rows_dearer() -> None:
    """Planes of 64 x 64 floats are a multiple of a cache's way, those of 64 x 65 are not."""

    def rows(width: int) -> float:
        problem = filtered(3, "x86-avx512", (1, 64, 64, width))
        return min(c.cost_us for c in choices(problem) if c.row == "generic_contract")

    assert rows(64) > 1.5 * rows(63)
