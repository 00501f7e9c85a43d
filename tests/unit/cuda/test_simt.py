"""CUDA kernels on plain multiply-add units give the operator's meaning under emulation; their code never spills."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import edgec.compiler.interpret as interpreter
from edgec.compiler import op as ops
from edgec.compiler.ir import Array, Value
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.targets.kernels.cuda.moves import map_vector, pixels
from edgec.targets.kernels.cuda.simt import conv_rows as conv_simt_rows
from edgec.targets.kernels.cuda.simt import matmul_rows as matmul_simt_rows
from edgec.targets.kernels.cuda.simt import planes_rows
from tests.support.cuda_rows_run import GPU, offers, problem, run, source, value

CONV, MATMUL = conv_simt_rows.NAME, matmul_simt_rows.SIMT
DEPTHWISE, GROUPED, POOL = planes_rows.DEPTHWISE, planes_rows.GROUPED, planes_rows.POOL
VECTOR = (matmul_simt_rows.VECTOR_F32, matmul_simt_rows.VECTOR_F16)


@pytest.fixture(autouse=True)
def _all_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (conv_simt_rows, matmul_simt_rows, planes_rows):
        monkeypatch.setattr(module, "KEPT", 1000)


@dataclass(frozen=True)
class Conv:
    """`then`: Relu, Add (a residual), Mul (a factor per channel), Swish."""

    x: tuple[int, ...]
    outputs: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    group: int = 1
    then: str = ""
    kind: str = "f32"

    def problem(self) -> Problem:
        kind = self.kind
        x, w = value(kind, *self.x), value(kind, self.outputs, self.x[1] // self.group, *self.kernel)
        inputs = [x, w, value(kind, self.outputs)]
        attrs = {"strides": self.strides, "pads": self.pads, "dilations": self.dilations, "group": self.group}
        y = ops.build("Conv", *inputs, **attrs)
        for name in self.then.split():
            if name == "Swish":
                y = ops.build("Mul", y, ops.build("Sigmoid", y))
            elif name in ("Add", "Mul"):
                shape = y.shape if name == "Add" else (self.outputs,) + (1,) * len(self.kernel)
                inputs.append(value(kind, *shape))
                y = ops.build(name, y, inputs[-1])
            else:
                y = ops.build(name, y)
        return replace(problem(y, *inputs), constants=frozenset({1, 2}))


def matmul(a: tuple[int, ...], b: tuple[int, ...], known: bool = True, kind: str = "f32", stored: str = "") -> Problem:
    """With a bias and Relu."""
    x, w, bias = value(kind, *a), value(stored or kind, *b), value(kind, b[-1])
    right = ops.build("Cast", w, to=kind) if stored else w
    y = ops.build("Relu", ops.build("Add", ops.build("MatMul", x, right), bias))
    return replace(problem(y, x, w, bias), constants=frozenset({1, 2} if known else ()))


def numbers(of: Problem) -> list[Array]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(v.shape).astype("f2" if v.type.dtype == "f16" else "f4") for v in of.body.inputs]


def check(of: Problem, some: Sequence[Choice], **how: Any) -> None:
    arrays = numbers(of)
    want = interpreter.run(of.body, arrays)[0].astype(np.float64)
    half = of.body.outputs[0].type.dtype == "f16" or of.dtype == "f16"
    scale = np.abs(want).max() + 1e-3
    assert some
    for choice in some:
        got = run(of, choice, arrays, **how).astype(np.float64)
        np.testing.assert_allclose(got, want, rtol=0, atol=(2e-3 if half else 5e-6) * scale, err_msg=f"{choice}")


def few(found: Sequence[Choice], key: Callable[[Choice], Any], count: int = 2) -> list[Choice]:
    """Some of each kind, the same at every run."""
    kinds: dict[Any, list[Choice]] = {}
    for choice in found:
        kinds.setdefault(key(choice), []).append(choice)
    pick = random.Random(1)
    return [c for kind in kinds.values() for c in pick.sample(kind, min(count, len(kind)))]


DENSE = [
    Conv((1, 24, 9, 13), 40, (3, 3), pads=(1, 1, 1, 1), then="Add Relu"),
    Conv((1, 3, 23, 17), 8, (7, 7), (2, 2), (3, 3, 3, 3), then="Relu"),
    Conv((2, 40, 6, 9), 24, (3, 3), (2, 2), (0, 0, 1, 1)),
    Conv((1, 17, 11, 11), 33, (3, 3), dilations=(2, 2), pads=(2, 2, 2, 2), then="Mul"),
    Conv((1, 6, 5, 20), 20, (3, 1), pads=(4, 0, 4, 0)),
    Conv((2, 48, 5, 5), 70, (1, 1), then="Swish"),
    Conv((1, 256, 7, 7), 20, (1, 1), (2, 2), then="Relu"),
    Conv((1, 20, 50), 40, (9,), (2,), (4, 4), then="Relu"),
    Conv((1, 128, 3, 3), 64, (3, 3), pads=(1, 1, 1, 1), then="Add"),
]


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_dense_convolutions_give_the_meaning(case: Conv) -> None:
    of = case.problem()
    check(of, few(offers(of, CONV), lambda c: (c.layouts_in[0], c.get("split") > 1), 1))


def test_every_tile_of_a_convolution_gives_the_meaning() -> None:
    of = Conv((1, 36, 9, 12), 100, (3, 3), pads=(1, 1, 1, 1), then="Relu").problem()
    check(of, few(offers(of, CONV), lambda c: (c.get("bm"), c.get("bn"), c.get("split") > 1), 1))


@pytest.mark.parametrize("kind", ["f16", "u8", "i8"])
def test_results_of_fewer_bytes_than_sums(kind: str) -> None:
    """A thread has four columns side by side, whatever the bytes of one access could hold."""
    image = Conv((1, 8, 6, 7), 32, (3, 3), pads=(1, 1, 1, 1), then="Relu").problem()
    for row, of in ((CONV, image), (MATMUL, matmul((20, 24), (24, 48)))):
        narrow = problem(ops.build("Cast", of.body.outputs[0], to=kind), *of.body.inputs)
        narrow = replace(narrow, constants=of.constants)
        arrays = numbers(narrow)
        want = interpreter.run(narrow.body, arrays)[0].astype(np.float64)
        assert want.max() > 10
        for choice in few(offers(narrow, row), lambda c: (c.get("bn"), c.get("split") > 1), 1):
            off = np.abs(run(narrow, choice, arrays).astype(np.float64) - want)
            assert off.max() <= (1e-3 * want.max() if kind == "f16" else 1), choice
            assert (off > 0).mean() < 0.01, choice  # on the other side of what is rounded


def test_a_split_reduction_leaves_its_counters_zero_and_races_nowhere() -> None:
    of = DENSE[8].problem()
    split = few([c for c in offers(of, CONV) if c.get("split") > 1], lambda c: 0, 1)
    check(of, split, times=2)
    check(of, split, check="race")
    check(of, few(offers(of, CONV), lambda c: 0, 1), check="race")


@pytest.mark.parametrize(
    "case",
    [
        Conv((1, 24, 15, 13), 24, (3, 3), (1, 1), (1, 1, 1, 1), group=24, then="Relu"),
        Conv((2, 8, 15, 30), 8, (3, 3), (2, 2), (0, 0, 1, 1), group=8, then="Add"),
        Conv((1, 40, 7, 7), 40, (5, 5), (1, 1), (2, 2, 2, 2), group=40, then="Swish"),
        Conv((1, 17, 33), 17, (3,), (1,), (1, 1), group=17, then="Relu"),
        Conv((1, 20, 12, 12), 20, (3, 3), (1, 1), (4, 4, 4, 4), (4, 4), group=20, then="Mul"),
        Conv((1, 6, 9, 8), 12, (3, 3), pads=(1, 1, 1, 1), group=6, then="Relu"),
        Conv((1, 24, 15, 13), 24, (3, 3), (1, 1), (1, 1, 1, 1), group=24, then="Relu", kind="f16"),
        Conv((1, 9, 5, 13), 9, (3, 3), (2, 2), (1, 1, 1, 1), group=9, then="Add", kind="f16"),
    ],
    ids=str,
)
def test_depthwise_convolutions_give_the_meaning(case: Conv) -> None:
    of = case.problem()
    check(of, few(offers(of, DEPTHWISE), lambda c: 0, 3))


def test_halves_inside_a_kernel_are_not_rounded_unless_a_result_may_jump() -> None:
    """What an addition of 2048 rounds away is seen by Floor, and only by Floor."""
    x, w = value("f16", 1, 8, 6, 8), value("f16", 8, 1, 1, 1)
    bias = value("f32", 8)
    large = ops.const(np.float16(2048))
    far = ops.build("Add", ops.build("Conv", x, w, bias, group=8), large)
    smooth, jumping = (ops.build("Sub", y, large) for y in (far, ops.build("Floor", far)))
    arrays = numbers(problem(smooth, x, w, bias))
    y = arrays[0].astype(np.float64) * arrays[1].reshape(1, 8, 1, 1) + arrays[2].reshape(1, 8, 1, 1)
    coarse = interpreter.run(problem(smooth, x, w, bias).body, arrays)[0]
    assert np.abs(coarse - y).max() > 0.5
    for choice in few(offers(problem(smooth, x, w, bias), DEPTHWISE), lambda c: 0, 2):
        np.testing.assert_allclose(run(problem(smooth, x, w, bias), choice, arrays), y, rtol=1e-3, atol=1e-3)
    of = problem(jumping, x, w, bias)
    for choice in few(offers(of, DEPTHWISE), lambda c: 0, 2):
        np.testing.assert_array_equal(run(of, choice, arrays), interpreter.run(of.body, arrays)[0])


@pytest.mark.parametrize(
    "case",
    [
        Conv((1, 24, 10, 9), 24, (3, 3), pads=(1, 1, 1, 1), group=3, then="Add"),
        Conv((1, 18, 7, 9), 36, (3, 3), (2, 2), (1, 1, 1, 1), group=3, then="Relu"),
        Conv((2, 20, 6, 7), 60, (1, 1), group=5),
        Conv((1, 6, 8, 6), 9, (3, 3), group=3, then="Relu"),
        Conv((1, 32, 11, 9), 32, (3, 3), (2, 2), (1, 1, 1, 1), group=8, then="Mul", kind="f16"),
    ],
    ids=str,
)
def test_grouped_convolutions_give_the_meaning(case: Conv) -> None:
    of = case.problem()
    check(of, few(offers(of, GROUPED), lambda c: 0, 2))


POOLS: list[tuple[str, str, tuple[int, ...], dict[str, Any]]] = [
    ("MaxPool", "f32", (1, 8, 13, 15), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ("MaxPool", "f16", (2, 24, 9, 9), {"kernel_shape": (2, 2), "strides": (2, 2)}),
    ("MaxPool", "f32", (1, 7, 9, 9), {"kernel_shape": (5, 5), "pads": (2, 2, 2, 2)}),
    ("AveragePool", "f32", (1, 8, 13, 15), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ("AveragePool", "f32", (1, 8, 7, 9), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "count_include_pad": 1}),
    ("AveragePool", "f16", (1, 16, 14), {"kernel_shape": (3,), "strides": (2,), "pads": (0, 1), "ceil_mode": 1}),
    (
        "AveragePool",
        "f32",
        (1, 4, 14, 9),
        {
            "kernel_shape": (3, 2),
            "strides": (2, 3),
            "pads": (0, 1, 1, 0),
            "ceil_mode": 1,
            "count_include_pad": 1,
        },
    ),
]


@pytest.mark.parametrize("op, kind, shape, attrs", POOLS, ids=str)
def test_pooling_gives_the_meaning(op: str, kind: str, shape: tuple[int, ...], attrs: dict[str, Any]) -> None:
    x = value(kind, *shape)
    of = problem(ops.build("Relu", ops.build(op, x, **attrs)), x)
    check(of, few(offers(of, POOL), lambda c: 0, 3))


def test_a_maximum_keeps_nan_and_infinities() -> None:
    x = value("f32", 1, 4, 4, 4)
    of = problem(ops.build("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2)), x)
    array = np.full((1, 4, 4, 4), -np.inf, np.float32)
    array[0, 1, 0, 1], array[0, 2, 3, 3] = np.nan, np.inf
    for choice in offers(of, POOL):
        np.testing.assert_array_equal(run(of, choice, [array]), interpreter.run(of.body, [array])[0])


@pytest.mark.parametrize(
    "a, b, known",
    [
        ((50, 64), (64, 48), True),
        ((3, 17, 40), (40, 30), True),
        ((33, 37), (37, 21), True),
        ((2, 3, 17, 24), (2, 3, 24, 19), False),
        ((2, 3, 17, 24), (3, 24, 20), False),
        ((4, 1, 9, 130), (5, 130, 33), False),
        ((20, 300), (300, 10), True),
    ],
)
def test_matrix_products_give_the_meaning(a: tuple[int, ...], b: tuple[int, ...], known: bool) -> None:
    of = matmul(a, b, known)
    check(of, few(offers(of, MATMUL), lambda c: c.get("split") > 1, 2))


@pytest.mark.parametrize(
    "a, b, kind, stored",
    [
        ((1, 64), (64, 48), "f32", ""),
        ((1, 1100), (1100, 37), "f32", ""),
        ((8, 333), (333, 21), "f32", ""),
        ((2, 1, 24), (24, 19), "f32", ""),
        ((1, 512), (512, 70), "f16", ""),
        ((4, 1025), (1025, 7), "f16", ""),
        ((3, 768), (768, 9), "f32", "f16"),
    ],
)
def test_products_of_few_rows_give_the_meaning(a: tuple[int, ...], b: tuple[int, ...], kind: str, stored: str) -> None:
    of = matmul(a, b, True, kind, stored)
    row = VECTOR[kind == "f16"]
    check(of, few(offers(of, row), lambda c: c.get("warps") > 1, 2))
    check(of, few(offers(of, row), lambda c: 0, 1), check="race")


def chains() -> list[tuple[Value, list[Value]]]:
    a, b, c, one = value("f32", 2, 8, 5, 6), value("f32", 2, 8, 5, 6), value("f32", 8, 1, 1), value("f32", 1)
    h, g, w, v = value("f16", 3, 40), value("f16", 40), value("f32", 3, 6), value("f32", 3, 6)
    x, y, z, q = value("f32", 2, 5, 12), value("f32", 5, 12), value("f32", 2, 1, 12), value("f16", 3, 1)
    return [
        (ops.build("Relu", ops.build("Add", a, b)), [a, b]),
        (ops.build("Mul", a, c), [a, c]),
        (ops.build("Mul", ops.build("Sigmoid", a), one), [a, one]),
        (ops.build("Relu", ops.build("Add", h, g)), [h, g]),
        (ops.build("Cast", h, to="f32"), [h]),
        (ops.build("Sub", w, v), [w, v]),
        (ops.build("Mul", ops.build("Add", x, y), z), [x, y, z]),
        (ops.build("Mul", h, q), [h, q]),
    ]


@pytest.mark.parametrize("number", range(len(chains())))
def test_elementwise_chains_give_the_meaning(number: int) -> None:
    out, inputs = chains()[number]
    of = problem(out, *inputs)
    check(of, few(offers(of, map_vector.NAME), lambda c: c.layouts_out, 2))


@pytest.mark.parametrize(("shape", "kind"), [((2, 3, 5, 12), "f16"), ((1, 3, 9, 7), "f16"), ((1, 3, 20, 17), "f32")])
def test_images_of_three_channels_in_fours(shape: tuple[int, ...], kind: str) -> None:
    x, factor = value("f32", *shape), value("f32", 3, 1, 1)
    scaled = ops.build("Cast", ops.build("Mul", x, factor), to=kind) if kind == "f16" else ops.build("Mul", x, factor)
    of = problem(scaled, x, factor)
    found = offers(of, pixels.NAME)
    assert [c.layouts_out for c in found] == [("NHWC4c",)]
    check(of, found)


def test_operands_lie_side_by_side_where_they_are_read_so() -> None:
    text, launch, _ = source(DENSE[0].problem(), offers(DENSE[0].problem(), CONV)[0])
    assert "ec_cp16_if" in text and "ec_store16" in text and launch.shared > 0
    odd = Conv((1, 5, 6, 6), 7, (3, 3)).problem()
    text, _, _ = source(odd, offers(odd, CONV)[0])
    assert "ec_cp4_if" in text and "ec_store16" not in text


def test_rows_say_why_they_refuse() -> None:
    dense = Conv((1, 8, 6, 6), 8, (3, 3)).problem()
    assert ROWS[DEPTHWISE].accepts(dense) == "needs one group per channel"
    assert ROWS[GROUPED].accepts(dense) == "needs several groups of several channels"
    assert ROWS[CONV].accepts(Conv((1, 8, 6, 6), 8, (3, 3), group=8).problem()) == "knows no groups"
    assert ROWS[CONV].accepts(Conv((1, 8, 6, 6), 8, (3, 3), kind="f16").problem()) == "computes f32"
    assert "spatial axes" in str(ROWS[CONV].accepts(Conv((1, 4, 5, 5, 5), 4, (3, 3, 3)).problem()))
    assert "rows at most" in str(ROWS[VECTOR[0]].accepts(matmul((9, 8), (8, 8))))
    assert ROWS[VECTOR[0]].accepts(matmul((1, 8), (8, 8), known=False)) == "needs a constant matrix"
    assert ROWS[CONV].accepts(replace(dense, target=replace(GPU, gpu=None))) == "needs a GPU"


def test_long_reductions_of_few_results_are_split_and_large_grids_are_not() -> None:
    def best(case: Conv) -> Choice:
        return next(c for c in choices(case.problem()) if c.row == CONV)

    assert best(Conv((1, 512, 7, 7), 512, (3, 3), pads=(1, 1, 1, 1))).get("split") > 1
    large = best(Conv((8, 64, 112, 112), 128, (3, 3), pads=(1, 1, 1, 1)))
    assert large.get("split") == 1 and large.get("bm") * large.get("bn") >= 128 * 64
